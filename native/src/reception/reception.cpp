// One turn: completions, reads, flush. See reception.hpp for what is promised.
#include "reception/reception.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <algorithm>
#include <array>
#include <cerrno>

#include "base/clock.hpp"

namespace scai {

namespace {

constexpr std::size_t ready_max = 64;  // of one round; the kernel tells of the others in the next

}  // namespace

// --- a connection's place

Inlet::Inlet(Reception& reception, std::uint64_t key, PduCutter& cutter, ByteStream& stream)
    : reception_(&reception), key_(key), cutter_(cutter), stream_(stream) {
    reception.watch_or_not(*this);
}

Inlet::~Inlet() {
    leave();
}

void Inlet::attach(std::size_t slot) {
    if (reception_ == nullptr) return;
    SCAI_ASSERT(slot < reception_->by_slot_.size() && reception_->by_slot_[slot] == nullptr);
    slot_ = slot;
    reception_->by_slot_[slot] = this;
    cutter_.attach(reception_->spool_, slot);
}

Inlet::UnderWay Inlet::message() const noexcept {
    if (message_since_ == 0) return {0, 0};
    return {message_since_, cutter_.received_bytes() - message_at_};
}

Inlet::Progress Inlet::progress() const {
    const bool ours = full_ || cutter_.committing();
    return {ours ? monotonic_ns() : progress_ns_, cutter_.data_bytes(), stored_};
}

Received Inlet::receive() {
    return reception_ == nullptr ? Received::again : reception_->receive(*this);
}

void Inlet::hold() {
    held_ = true;
    if (reception_ != nullptr) reception_->watch_or_not(*this);
}

void Inlet::release() {
    if (std::exchange(held_, false)) quiet_since_ = monotonic_ns();
    if (reception_ == nullptr) return;
    reception_->watch_or_not(*this);
    reception_->revisit(*this);
}

void Inlet::leave() noexcept {
    if (reception_ != nullptr) std::exchange(reception_, nullptr)->forget(*this);
}

// --- who is watched

Reception::Reception(Spool& spool, Tally tally, ReceptionLimits limits)
    : spool_(spool),
      tally_(std::move(tally)),
      limits_(limits),
      poll_(::epoll_create1(EPOLL_CLOEXEC)),
      bell_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      by_slot_(spool.slots(), nullptr) {
    if (!poll_) fail("epoll_create1");
    if (!bell_) fail("eventfd");
    watch(bell_.get(), &bell_);
    watch(spool_.completion_descriptor(), &spool_);
}

void Reception::watch(int descriptor, void* what) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = what;
    if (::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
}

// A connection that is not read is not watched at all: an error or the peer's end would be told
// of again and again.
void Reception::watch_or_not(Inlet& inlet) {
    const bool reading = !inlet.held_ && !inlet.full_;
    if (reading == inlet.watched_) return;
    inlet.watched_ = reading;
    const int descriptor = inlet.stream_.descriptor();
    if (reading) {
        watch(descriptor, &inlet);
    } else if (::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, descriptor, nullptr) != 0) {
        fail("epoll_ctl");
    }
}

// It has its next turn without a byte from the peer.
void Reception::revisit(Inlet& inlet) {
    revisited_.push_back(&inlet);
    const std::uint64_t one = 1;
    if (revisited_.size() == 1 && ::write(bell_.get(), &one, sizeof one) < 0) fail("eventfd");
}

void Reception::forget(Inlet& inlet) noexcept {
    if (inlet.watched_) {
        // Fails only where the descriptor was closed before: then nothing is watched any more.
        static_cast<void>(
            ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, inlet.stream_.descriptor(), nullptr));
    }
    if (inlet.slot_ < by_slot_.size()) by_slot_[inlet.slot_] = nullptr;
    std::erase(revisited_, &inlet);
}

// --- a turn

Turn Reception::turn() {
    Turn turn;
    now_ = monotonic_ns();
    const std::uint64_t end = now_ + limits_.turn_ns;
    while (round(turn) && turn.notices.empty() && now_ < end) now_ = monotonic_ns();
    return turn;
}

// False: there was nothing to do.
bool Reception::round(Turn& turn) {
    ++rounds_;
    std::array<epoll_event, ready_max> ready;
    const int count = ::epoll_wait(poll_.get(), ready.data(), static_cast<int>(ready.size()), 0);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    const std::span told(ready.data(), static_cast<std::size_t>(std::max(count, 0)));
    // Answers first: peers wait for them, and nobody for what is read now.
    for (const epoll_event& event : told) {
        if (event.data.ptr == &spool_) take_completions(turn);
        if (event.data.ptr == &bell_) {
            std::uint64_t rung = 0;
            static_cast<void>(::read(bell_.get(), &rung, sizeof rung));
        }
    }
    for (Inlet* inlet : std::exchange(revisited_, {})) {
        if (inlet->seen_in_ == rounds_) {
            revisit(*inlet);
        } else {
            read(*inlet, turn);
        }
    }
    for (const epoll_event& event : told) {
        if (event.data.ptr == &spool_ || event.data.ptr == &bell_) continue;
        read(*static_cast<Inlet*>(event.data.ptr), turn);
    }
    // All that ended together share one write and one sync.
    if (spool_.unflushed()) spool_.flush();
    return count > 0;
}

void Reception::read(Inlet& inlet, Turn& turn) {
    if (!inlet.watched_ || inlet.seen_in_ == rounds_) return;
    inlet.seen_in_ = rounds_;
    inlet.budget_ = limits_.bytes;
    const Received state = receive(inlet);
    if (state == Received::event || state == Received::end || state == Received::broken) {
        tell(inlet, {Notice::Kind::received, 0, static_cast<std::uint64_t>(state), {}}, turn);
    }
}

Received Reception::receive(Inlet& inlet) {
    if (inlet.budget_ == 0) {
        revisit(inlet);
        return Received::budget;
    }
    const std::uint64_t before = inlet.cutter_.received_bytes();
    const std::uint64_t parts_before = inlet.cutter_.ended_parts();
    Received state = Received::end;
    try {
        state = inlet.cutter_.receive(inlet.stream_, inlet.budget_);
    } catch (const ConnectionLost&) {  // reset by the peer, or timed out by TCP; else it is ours
    }
    const std::uint64_t received = inlet.cutter_.received_bytes() - before;
    if (received > 0) {
        tally_.add(tally_.slots().received_bytes, received);
        inlet.quiet_since_ = now_;
    }
    take_note(inlet, parts_before, before);
    const std::size_t cost = received + (state == Received::event ? limits_.event_bytes : 0);
    inlet.budget_ -= std::min(inlet.budget_, cost);
    if (state == Received::full) {
        tally_.add(tally_.slots().ring_full, 1);
        inlet.full_ = true;
        watch_or_not(inlet);
    } else if (state == Received::budget) {
        // No byte has to come for what is left: it may lie in a TLS session already.
        revisit(inlet);
    }
    return state;
}

// Where the peer stands in its message, and whether it gets on.
void Reception::take_note(Inlet& inlet, std::uint64_t parts_before, std::uint64_t bytes_before) {
    const PduCutter& cutter = inlet.cutter_;
    if (cutter.between_messages()) {
        inlet.message_since_ = 0;
    } else if (inlet.message_since_ == 0 || cutter.ended_parts() != parts_before) {
        inlet.message_since_ = now_;
        inlet.message_at_ = bytes_before;
    }
    if (cutter.data_bytes() - inlet.progress_at_ >= limits_.progress_bytes) {
        inlet.progress_at_ = cutter.data_bytes();
        inlet.progress_ns_ = now_;
    }
}

void Reception::take_completions(Turn& turn) {
    const auto completions = spool_.completions();
    const std::size_t stored_before = turn.stored;
    // Published before any peer is told: what is acknowledged is what the indexer may read.
    tally_.set(tally_.slots().durable_sequence, spool_.durable_sequence());
    tally_.set(tally_.slots().acknowledged_sequence, spool_.acknowledged_sequence());
    for (const Completion& completion : completions) {
        if (completion.kind == CompletionKind::settled) {
            turn.settled = true;
            const auto code = static_cast<std::uint64_t>(completion.code);
            if (code != 0) tally_.set(tally_.slots().store_fault, code);
            continue;
        }
        Inlet* const inlet = by_slot_[completion.slot];
        if (completion.kind == CompletionKind::stored) {
            take_stored(completion, turn);
        } else if (completion.kind == CompletionKind::failed) {
            if (completion.code != ENODATA) {  // the peer's fault, not the disk's
                tally_.set(tally_.slots().store_fault, static_cast<std::uint64_t>(completion.code));
            }
            if (inlet != nullptr) {
                const auto code = static_cast<std::uint64_t>(completion.code);
                tell(*inlet, {Notice::Kind::failed, 0, code, {}}, turn);
            }
        } else if (completion.kind == CompletionKind::space && inlet != nullptr && inlet->full_) {
            inlet->full_ = false;
            inlet->quiet_since_ = monotonic_ns();
            watch_or_not(*inlet);
            revisited_.push_back(inlet);
        }
        if (inlet == nullptr && completion.kind != CompletionKind::space) {
            turn.notices.push_back({Notice::Kind::freed, 0, completion.slot, {}});
        }
    }
    if (turn.stored > stored_before) tally_.add(tally_.slots().journal_groups, 1);
}

void Reception::take_stored(const Completion& completion, Turn& turn) {
    ++turn.stored;
    const TallySlots& slots = tally_.slots();
    tally_.add(slots.stored_instances, 1);
    tally_.add(slots.stored_bytes, completion.file_bytes);
    tally_.add(slots.journal_records, 1);
    tally_.set(slots.store_fault, 0);
    tally_.set(slots.last_received, realtime_ns());
    Inlet* const inlet = by_slot_[completion.slot];
    if (inlet == nullptr) return;  // its association ended meanwhile
    ++inlet->stored_;
    inlet->progress_ns_ = monotonic_ns();
    if (const auto finished = inlet->cutter_.finish_store()) {
        answer(*inlet, *finished, completion.file_bytes, turn);
    } else {
        tell(*inlet, {Notice::Kind::stored, 0, completion.file_bytes, {}}, turn);
    }
}

void Reception::answer(Inlet& inlet, const PduCutter::FinishedStore& finished,
                       std::uint64_t file_bytes, Turn& turn) {
    const std::uint64_t now = monotonic_ns();
    const auto& [store, response] = finished;
    inlet.quiet_since_ = now;
    tally_.observe(tally_.slots().commit_duration, now - store.ended_ns);
    tally_.observe(tally_.slots().store_duration, now - store.began_ns);
    tally_.add(tally_.slots().store_success, 1);
    std::size_t sent = 0;
    try {
        if (!inlet.held_) sent = inlet.stream_.send(std::as_bytes(std::span(response)));
    } catch (const ConnectionLost&) {
        sent = response.size();  // the peer is gone; reading will say so
    }
    if (sent < response.size()) {
        tell(inlet, {Notice::Kind::unsent, 0, 0, response.substr(sent)}, turn);
    }
    if (logging_ && !inlet.log_pieces_.before.empty()) {
        turn.lines.push_back(store_line(log_clock_.text(realtime_ns()), inlet.log_pieces_,
                                        store.sop_instance, file_bytes, now - store.began_ns));
    }
}

// Python decides before anything more is read.
void Reception::tell(Inlet& inlet, Notice notice, Turn& turn) {
    inlet.seen_in_ = rounds_;
    notice.key = inlet.key_;
    turn.notices.push_back(std::move(notice));
}

}  // namespace scai
