// Slots and the committer. The order of durability (engine/README.md) is the order of the lines in
// commit().
#include "spool/spool.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checksum.hpp"
#include "base/clock.hpp"
#include "base/thread.hpp"

namespace scai {

Spool::Spool(SpoolSettings settings)
    : settings_(std::move(settings)),
      wanted_(settings_.wanted_tags),
      incoming_(::open(settings_.incoming_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
      journal_(settings_.journal),
      names_(incoming_.get(), realtime_ns(), settings_.journal.durable),
      dropped_(64u << 10) {
    if (!incoming_) fail("opening " + settings_.incoming_directory);
    durable_sequence_.store(journal_.last_sequence(), std::memory_order_release);
    recovery_ = {journal_.records_found(), journal_.torn_found(), 0, 0};
    seals_ = realtime_ns();
    adopt(sweep_incoming(incoming_.get(), settings_.incoming_directory, journal_,
                         settings_.sealed_bytes_max, settings_.journal.durable));
    for (std::size_t number = 0; number < settings_.slots; ++number) {
        auto slot = std::make_unique<Slot>(settings_.ring_descriptor, number, settings_.ring_bytes);
        FileWriter::Callbacks callbacks{
            [this, number](SealedFile file) { take_sealed(number, std::move(file)); },
            [this, number] {
                completions_.push({CompletionKind::free, number, 0, 0, 0});
            },
            [this, number] {
                completions_.push({CompletionKind::space, number, 0, 0, 0});
            },
        };
        slot->writer = std::make_unique<FileWriter>(
            slot->ring, incoming_.get(), settings_.write_bytes, settings_.journal.durable,
            "scai-write-" + std::to_string(number), std::move(callbacks));
        slots_.push_back(std::move(slot));
    }
    committer_ = start_thread("scai-commit", [this] { commit_forever(); });
}

Spool::~Spool() {
    close();
}

void Spool::close() {
    if (!committer_.joinable()) return;
    flush();
    // The writers first: what they seal is still committed.
    for (auto& slot : slots_) slot->writer.reset();
    names_.close();
    {
        const std::lock_guard guard(mutex_);
        leaving_ = true;
    }
    changed_.notify_one();
    committer_.join();
    journal_.close();
}

// The committer writes their records before all others.
void Spool::adopt(LeftOver left) {
    for (FoundSeal& seal : left.sealed) {
        SealedFile file{std::move(seal.name), true, seal.file_bytes, seal.file_crc, true, 0};
        waiting_.push_back(
            {no_slot, std::move(file), true, std::move(seal.prologue), std::move(seal.attributes)});
    }
    acknowledged_ = waiting_.size();
    urgent_ = !waiting_.empty();
    recovery_.removed = left.removed;
    recovery_.adopted = waiting_.size();
}

Spool::Slot& Spool::at(std::size_t slot) {
    if (slot >= slots_.size()) throw SystemFailure(EINVAL, "no such slot");
    return *slots_[slot];
}

void Spool::begin(std::size_t number, std::string_view head, std::string prologue,
                  bool explicit_vr) {
    Slot& slot = at(number);
    SCAI_ASSERT(slot.mode == Mode::idle);
    SCAI_ASSERT(head.size() <= slot.ring.bytes() / 2);
    slot.ring.reset();
    slot.prologue = std::move(prologue);
    slot.head_bytes = head.size();
    slot.scanner.start(&wanted_, explicit_vr, settings_.attribute_bytes_max,
                       settings_.attributes_bytes_max, settings_.sequence_depth_max);
    std::memcpy(slot.ring.room().data(), head.data(), head.size());
    slot.ring.produce(head.size());
    slot.mode = Mode::inlined;
}

void Spool::discard(std::size_t number) {
    Slot& slot = at(number);
    SCAI_ASSERT(slot.mode == Mode::idle);
    slot.mode = Mode::discarding;
}

std::span<std::byte> Spool::room(std::size_t number) {
    Slot& slot = *slots_[number];
    if (slot.mode == Mode::discarding) return dropped_;
    std::span<std::byte> room = slot.ring.room();
    if (room.empty() && !slot.writer->want_space()) room = slot.ring.room();
    return room;
}

void Spool::land(std::size_t number, std::size_t count) {
    Slot& slot = *slots_[number];
    if (slot.mode == Mode::discarding) return;
    const auto bytes = slot.ring.room().first(count);
    if (slot.scanner.outcome() == TagScanner::Progress::more) slot.scanner.feed(bytes);
    slot.ring.produce(count);
    if (slot.mode == Mode::streamed) {
        slot.writer->wake();
    } else if (slot.ring.produced() > settings_.inline_bytes_max) {
        slot.mode = Mode::streamed;
        NameStock::Name name = names_.take();
        slot.writer->start(std::move(name.text), name.made);
    }
}

void Spool::end(std::size_t number) {
    Slot& slot = *slots_[number];
    if (slot.mode == Mode::discarding) {
        slot.mode = Mode::idle;
        return;
    }
    slot.scanner.finish();
    const bool streamed = slot.mode == Mode::streamed;
    slot.mode = Mode::committing;
    if (slot.ring.produced() == slot.head_bytes) {
        // A data set of no byte is no instance: it must not take the place of one.
        completions_.push({CompletionKind::failed, number, ENODATA, 0, 0});
    } else if (streamed) {
        slot.writer->finish({++seals_, slot.prologue, slot.scanner.row()});
    } else {
        ended_.push_back(number);
    }
}

void Spool::flush() {
    if (ended_.empty()) return;
    {
        const std::lock_guard guard(mutex_);
        for (const std::size_t number : ended_) waiting_.push_back({number, {}});
        urgent_ = true;
    }
    ended_.clear();
    changed_.notify_one();
}

bool Spool::settle() {
    bool any = false;
    {
        const std::lock_guard guard(mutex_);
        any = acknowledged_ > 0;
        if (!any && refused_.empty() && !record_refused_) return false;
        urgent_ = true;
    }
    changed_.notify_one();
    return any;
}

std::uint64_t Spool::acknowledged_sequence() const {
    const std::lock_guard guard(mutex_);
    return durable_sequence() + waiting_.size() + in_hand_;
}

bool Spool::cancel(std::size_t number) {
    Slot& slot = at(number);
    switch (slot.mode) {
        case Mode::streamed:
            slot.mode = Mode::leaving;
            slot.writer->abandon();
            return false;
        case Mode::committing:
            flush();
            return false;
        case Mode::leaving:
            return false;
        default:
            slot.mode = Mode::idle;
            return true;
    }
}

std::vector<Completion> Spool::completions() {
    auto taken = completions_.take();
    for (const auto& completion : taken) {
        const bool ends = completion.kind != CompletionKind::space && completion.slot != no_slot;
        if (ends) slots_[completion.slot]->mode = Mode::idle;
    }
    return taken;
}

// On the writer's thread. A durable seal under a durable name is all that a peer has to wait for.
void Spool::take_sealed(std::size_t number, SealedFile file) {
    if (file.code != 0) {
        refuse(file.name, false);
        completions_.push({CompletionKind::failed, number, file.code, file.bytes, 0});
        return;
    }
    const std::uint64_t bytes = file.bytes;
    bool stands = file.seal && file.name_durable && bytes <= settings_.sealed_bytes_max;
    Waiting waiting{number, std::move(file)};
    {
        const std::lock_guard guard(mutex_);
        stands = stands && acknowledged_ < settings_.sealed_max;
        if (stands) {
            Slot& slot = *slots_[number];
            const auto row = slot.scanner.row();
            waiting.acknowledged = true;
            waiting.prologue = std::move(slot.prologue);
            waiting.attributes.assign(row.begin(), row.end());
            ++acknowledged_;
        } else {
            urgent_ = true;
        }
        waiting_.push_back(std::move(waiting));
    }
    if (stands) {
        completions_.push({CompletionKind::stored, number, 0, bytes, 0});
    } else {
        changed_.notify_one();
    }
}

void Spool::commit_forever() {
    std::vector<Waiting> group;
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return urgent_ || leaving_; });
            lock.unlock();
            remove_refused();
            lock.lock();
            if (waiting_.empty()) {
                urgent_ = false;
                if (leaving_) return;
                continue;
            }
            const auto count =
                static_cast<std::ptrdiff_t>(std::min(waiting_.size(), settings_.journal.group_max));
            group.assign(std::make_move_iterator(waiting_.begin()),
                         std::make_move_iterator(waiting_.begin() + count));
            waiting_.erase(waiting_.begin(), waiting_.begin() + count);
            urgent_ = !waiting_.empty();
            in_hand_ = group.size();
        }
        commit(group);
    }
}

JournalEntry Spool::entry_of(const Waiting& waiting) {
    JournalEntry entry;
    entry.name = waiting.file.name;
    entry.file_bytes = waiting.file.bytes;
    entry.file_crc = waiting.file.crc;
    if (waiting.acknowledged) {
        entry.prologue = waiting.prologue;
        entry.attributes = waiting.attributes;
        return entry;
    }
    Slot& slot = *slots_[waiting.slot];
    entry.prologue = slot.prologue;
    entry.attributes = slot.scanner.row();
    if (entry.name.empty()) {
        entry.bytes = slot.ring.peek(slot.ring.available());
        entry.file_bytes = entry.bytes.size();
        entry.file_crc = crc32c(entry.bytes);
    }
    return entry;
}

void Spool::commit(std::vector<Waiting>& group) {
    std::vector<JournalEntry> entries;
    bool fresh_names = false;
    for (const Waiting& waiting : group) {
        entries.push_back(entry_of(waiting));
        const SealedFile& file = waiting.file;
        fresh_names = fresh_names || (!file.name.empty() && !file.name_durable);
    }
    int code = 0;
    // 1. The large instances' data is synced by their writers; here those of their names that did
    // not come from the stock.
    if (fresh_names && settings_.journal.durable && ::fsync(incoming_.get()) != 0) code = errno;
    // 2. The records of all, under one sync.
    Journal::Appended appended{0, code};
    if (code == 0) appended = journal_.append(entries);
    // 3. Only now is anything told; the event loop answers the peers.
    std::vector<Completion> told;
    std::vector<Waiting> left;
    std::size_t caught_up = 0;
    for (std::size_t index = 0; index < group.size(); ++index) {
        Waiting& waiting = group[index];
        const bool stored = index < appended.durable;
        if (waiting.acknowledged && stored) {
            ++caught_up;
        } else if (waiting.acknowledged) {
            left.push_back(std::move(waiting));
        } else if (stored) {
            told.push_back({CompletionKind::stored, waiting.slot, 0, entries[index].file_bytes,
                            entries[index].sequence});
        } else {
            told.push_back({CompletionKind::failed, waiting.slot, appended.code,
                            entries[index].file_bytes, 0});
            if (!waiting.file.name.empty()) refuse(waiting.file.name, code == 0);
        }
    }
    if (caught_up > 0 || !left.empty()) {
        told.push_back({CompletionKind::settled, no_slot, left.empty() ? 0 : appended.code, 0, 0});
    }
    put_back(std::move(left), caught_up);
    completions_.push(told);
    journal_.prepare();
}

// What its seal keeps safe is tried again with the next group; or, if we leave, by our successor.
void Spool::put_back(std::vector<Waiting> left, std::size_t caught_up) {
    const std::lock_guard guard(mutex_);
    durable_sequence_.store(journal_.last_sequence(), std::memory_order_release);
    record_refused_ = journal_.has_refused();
    in_hand_ = 0;
    acknowledged_ -= caught_up;
    if (leaving_) {
        acknowledged_ -= left.size();
        return;
    }
    waiting_.insert(waiting_.begin(), std::make_move_iterator(left.begin()),
                    std::make_move_iterator(left.end()));
}

// Its file may have a seal that holds, and must not be believed after a restart: what cannot be
// removed now is tried again until it can. One that the journal may have a record of stays until
// that record can no longer be read: until then a restart may take the instance in, as one that was
// stored without an answer, but never finds a record without its bytes.
void Spool::refuse(const std::string& name, bool recorded) {
    if (!recorded && (::unlinkat(incoming_.get(), name.c_str(), 0) == 0 || errno == ENOENT)) return;
    const std::lock_guard guard(mutex_);
    if (refused_.size() < settings_.refused_max) refused_.push_back(name);
}

// On the committer's thread; while the disk fails no more than one call.
void Spool::remove_refused() {
    if (journal_.void_refused() != 0) return;
    std::vector<std::string> names;
    {
        const std::lock_guard guard(mutex_);
        record_refused_ = false;
        names.swap(refused_);
    }
    while (!names.empty()) {
        if (::unlinkat(incoming_.get(), names.back().c_str(), 0) != 0 && errno != ENOENT) break;
        names.pop_back();
    }
    if (names.empty()) return;
    const std::lock_guard guard(mutex_);
    refused_.insert(refused_.end(), names.begin(), names.end());
}

}  // namespace scai
