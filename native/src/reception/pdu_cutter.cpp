// Planning reads and cutting what came. See pdu_cutter.hpp for what is promised.
#include "reception/pdu_cutter.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <algorithm>
#include <cstring>

#include "base/clock.hpp"

namespace scai {

namespace {

// PS3.8 9.3.1: PDU types.
constexpr std::uint8_t pdu_associate_request = 0x01;
constexpr std::uint8_t pdu_associate_reject = 0x03;
constexpr std::uint8_t pdu_data = 0x04;
constexpr std::uint8_t pdu_release_request = 0x05;
constexpr std::uint8_t pdu_abort = 0x07;

// PS3.8 E.2: message control header.
constexpr std::uint8_t control_command = 0x01;
constexpr std::uint8_t control_last = 0x02;

std::uint32_t big_endian_32(const std::byte* at) {
    return std::to_integer<std::uint32_t>(at[0]) << 24 |
           std::to_integer<std::uint32_t>(at[1]) << 16 |
           std::to_integer<std::uint32_t>(at[2]) << 8 | std::to_integer<std::uint32_t>(at[3]);
}

}  // namespace

std::optional<CutterEvent> PduCutter::next_event() {
    auto event = std::move(event_);
    event_.reset();
    return event;
}

void PduCutter::fault(StreamReason reason, std::string text) {
    part_ = Part::dead;
    event_ = FaultEvent{reason, std::move(text)};
}

Received PduCutter::feed(std::span<const std::byte> data) {
    received_bytes_ += data.size();
    aside_.insert(aside_.end(), data.begin(), data.end());
    return progress();
}

// Cuts what was set aside; `again` when nothing of it is left.
Received PduCutter::progress() {
    full_ = false;
    while (!event_ && !full_ && aside_taken_ < aside_.size()) {
        aside_taken_ += consume(std::span(aside_).subspan(aside_taken_));
    }
    end_dataset();
    if (aside_taken_ == aside_.size()) {
        aside_.clear();
        aside_taken_ = 0;
    }
    if (event_) return Received::event;
    return full_ ? Received::full : Received::again;
}

Received PduCutter::receive(ByteStream& stream, std::size_t budget) {
    if (event_) return Received::event;
    if (const Received state = progress(); state != Received::again) return state;
    stream.begin_turn(budget);
    while (budget > 0) {
        Plan destinations;
        if (!plan(destinations, budget)) return Received::full;
        const Reading got = stream.read({destinations.parts.data(), destinations.count});
        switch (got.kind) {
            case Reading::Kind::none:
                return run_dry(stream.descriptor());
            case Reading::Kind::end:
                return Received::end;
            case Reading::Kind::broken:
                return Received::broken;
            case Reading::Kind::bytes:
                break;
        }
        received_bytes_ += got.count;
        budget -= std::min(budget, got.count);
        take(destinations, got.count);
        if (const Received state = progress(); state != Received::again) return state;
        if (got.last) return run_dry(stream.descriptor());
    }
    return Received::budget;
}

// The socket is empty. In the middle of a message the peer may be one that holds back its last
// segment until the one before is acknowledged (Nagle's algorithm, on by default in most clients):
// acknowledging at once spares it the 40 ms of our delayed acknowledgement, for each instance.
Received PduCutter::run_dry(int descriptor) const noexcept {
    if (!between_messages() && part_ != Part::dead) {
        const int on = 1;
        // Not a TCP socket, or one that is gone: then there is nothing to hasten.
        static_cast<void>(::setsockopt(descriptor, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on));
    }
    return Received::again;
}

// Behind this fragment stands a PDV header, or a PDU header and a PDV header.
std::size_t PduCutter::following_header_bytes() const noexcept {
    return pdu_left_ > 0 ? pdv_header_bytes : pdu_header_bytes + pdv_header_bytes;
}

// Where the next bytes shall go. False: the ring is full.
bool PduCutter::plan(Plan& plan, std::size_t budget) {
    if (scratch_.empty()) scratch_.resize(scratch_bytes);
    switch (part_) {
        case Part::data:
            plan_data(plan, budget);
            return plan.count > 0;
        case Part::command:
            // The command's rest and the headers behind it.
            plan.add(
                scratch_.data(),
                std::min<std::size_t>(fragment_left_ + following_header_bytes(), scratch_.size()));
            return true;
        case Part::body:
            plan.add(scratch_.data(),
                     std::min<std::size_t>(body_bytes_ - body_.size(), scratch_.size()));
            return true;
        case Part::pdu_header:
            if (data_context_) {
                plan_header_and_data(plan, budget);
            } else {
                plan.add(scratch_.data(), message_ahead());
            }
            return true;
        case Part::pdv_header:
            plan.add(scratch_.data(), pdv_header_bytes - header_held_);
            return true;
        case Part::dead:
            plan.add(scratch_.data(), scratch_.size());
            return true;
    }
    return false;
}

// What may be read between two data sets. A byte of a data set beyond the headers has to be copied,
// so there are more of them only where the last message was a small one.
std::size_t PduCutter::message_ahead() const noexcept {
    if (spool_ == nullptr) return pdu_header_bytes - header_held_;
    if (header_held_ > 0 || !command_.empty()) {
        return pdu_header_bytes - header_held_ + pdv_header_bytes;
    }
    return std::max(message_expected_, pdu_header_bytes + pdv_header_bytes);
}

void PduCutter::plan_data(Plan& plan, std::size_t budget) {
    const std::span<std::byte> room = spool_->room(slot_);
    const std::size_t used = std::min<std::size_t>(fragment_left_, room.size());
    if (used == 0) return;
    plan.add(room.data(), used);
    if (fragment_last_ || used < fragment_left_ || !spool_->streams(slot_)) return;
    plan.add(headers_[0].data(), following_header_bytes());
    if (pdu_left_ == 0) plan_following(plan, room.subspan(used), budget);
}

// Between two PDUs of a data set.
void PduCutter::plan_header_and_data(Plan& plan, std::size_t budget) {
    plan.ring_first = false;
    plan.add(headers_[0].data(), pdu_header_bytes - header_held_ + pdv_header_bytes);
    if (!spool_->streams(slot_)) return;
    if (fragment_expected_ == 0) fragment_expected_ = fragment_usual_;
    const std::span<std::byte> room = spool_->room(slot_);
    plan_following(plan, room, budget);
}

// Fragments of the size expected, each with a header behind it.
void PduCutter::plan_following(Plan& plan, std::span<std::byte> room, std::size_t budget) {
    const std::size_t step = fragment_expected_;
    if (step == 0) return;
    while (plan.count + 2 <= destinations_max && step <= room.size() &&
           plan.bytes + step <= budget) {
        plan.add(room.data(), step);
        room = room.subspan(step);
        plan.add(headers_[plan.count / 2].data(), pdu_header_bytes + pdv_header_bytes);
    }
}

// What came, in the order of the stream. As long as each piece lies where it belongs nothing is
// copied; from the first that does not, the rest is set aside, because landing one piece could
// overwrite the next.
void PduCutter::take(const Plan& plan, std::size_t got) {
    for (std::size_t index = 0; got > 0; ++index) {
        const std::size_t size = std::min<std::size_t>(plan.parts[index].iov_len, got);
        std::span<const std::byte> piece{static_cast<const std::byte*>(plan.parts[index].iov_base),
                                         size};
        got -= size;
        while (!piece.empty() && !event_ && aside_.empty() && !full_) {
            if (plan.count > 1 && !lies_right(plan, index, piece)) break;
            piece = piece.subspan(consume(piece));
        }
        aside_.insert(aside_.end(), piece.begin(), piece.end());
    }
    end_dataset();
}

// Only when nothing that was read lies in the ring any more: the writer fills up its last page
// there, behind the data set.
void PduCutter::end_dataset() {
    if (!std::exchange(ended_, false)) return;
    spool_->end(slot_);
}

// A planned data read alternates: ring, header, ring, header, ... or the other way round.
bool PduCutter::lies_right(const Plan& plan, std::size_t index, std::span<const std::byte> piece) {
    const bool ring = (index % 2 == 0) == plan.ring_first;
    if (!ring) return part_ == Part::pdu_header || part_ == Part::pdv_header;
    return part_ == Part::data && spool_->room(slot_).data() == piece.data();
}

std::size_t PduCutter::consume(std::span<const std::byte> bytes) {
    switch (part_) {
        case Part::pdu_header:
        case Part::pdv_header:
            return consume_header(bytes);
        case Part::body:
            return consume_body(bytes);
        case Part::command:
            return consume_command(bytes);
        case Part::data:
            return consume_data(bytes);
        case Part::dead:
            return bytes.size();
    }
    return bytes.size();
}

std::size_t PduCutter::consume_header(std::span<const std::byte> bytes) {
    const std::size_t count = std::min(bytes.size(), header_.size() - header_held_);
    std::memcpy(header_.data() + header_held_, bytes.data(), count);
    header_held_ += count;
    if (header_held_ == header_.size()) {
        header_held_ = 0;
        if (part_ == Part::pdu_header) {
            begin_pdu();
        } else {
            begin_pdv();
        }
    }
    return count;
}

void PduCutter::begin_pdu() {
    pdu_type_ = std::to_integer<std::uint8_t>(header_[0]);
    const std::uint32_t length = big_endian_32(header_.data() + 2);
    if (pdu_type_ != pdu_data || spool_ == nullptr) {
        begin_other_pdu(pdu_type_, length);
        return;
    }
    if (length > limits_.pdata_bytes_max) {
        fault(StreamReason::invalid_parameter, "P-DATA-TF of " + std::to_string(length) + " bytes");
        return;
    }
    if (length < pdv_header_bytes) {
        fault(StreamReason::invalid_parameter,
              "P-DATA-TF too short for a PDV: " + std::to_string(length));
        return;
    }
    if (length > limits_.pdata_bytes_advertised) ++oversized_pdus_;
    pdu_left_ = length;
    part_ = Part::pdv_header;
}

void PduCutter::begin_other_pdu(std::uint8_t type, std::uint32_t length) {
    const bool association = type >= pdu_associate_request && type <= pdu_associate_reject;
    const bool known = association || (type >= pdu_release_request && type <= pdu_abort);
    // What has no place here is told by its header alone: nobody waits for a body of hostile
    // length.
    if (!known || type == pdu_data || (association && spool_ != nullptr)) {
        part_ = Part::dead;
        event_ = PduEvent{type, {}};
        return;
    }
    const std::uint32_t length_max = association ? limits_.associate_bytes_max : 4;
    if (length > length_max || length < 4) {
        fault(StreamReason::invalid_parameter,
              "PDU of type " + std::to_string(type) + " with length " + std::to_string(length));
        return;
    }
    body_.clear();
    body_bytes_ = length;
    part_ = Part::body;
}

std::size_t PduCutter::consume_body(std::span<const std::byte> bytes) {
    const std::size_t count = std::min(bytes.size(), body_bytes_ - body_.size());
    body_.insert(body_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    if (body_.size() == body_bytes_) {
        part_ = Part::pdu_header;
        ++ended_parts_;
        event_ = PduEvent{pdu_type_, std::move(body_)};
        body_ = {};
    }
    return count;
}

void PduCutter::begin_pdv() {
    const std::uint32_t item = big_endian_32(header_.data());
    pdu_left_ -= pdv_header_bytes;
    if (item < 2 || item - 2 > pdu_left_) {
        fault(StreamReason::invalid_parameter,
              "PDV length " + std::to_string(item) + " does not fit its PDU");
        return;
    }
    const std::uint8_t context = std::to_integer<std::uint8_t>(header_[4]);
    const std::uint8_t control = std::to_integer<std::uint8_t>(header_[5]);
    fragment_context_ = context;
    fragment_left_ = fragment_bytes_ = item - 2;
    fragment_last_ = (control & control_last) != 0;
    pdu_left_ -= fragment_left_;
    if (pdu_left_ > 0 && pdu_left_ < pdv_header_bytes) {
        fault(StreamReason::invalid_parameter,
              std::to_string(pdu_left_) + " stray bytes behind a PDV");
        return;
    }
    const bool command = (control & control_command) != 0;
    if (command == data_context_.has_value()) {
        fault(StreamReason::unexpected_parameter, command ? "command fragment inside a data set"
                                                          : "data-set fragment without a command");
        return;
    }
    const auto& expected = command ? command_context_ : data_context_;
    if (expected && *expected != context) {
        fault(StreamReason::unexpected_parameter, "presentation context changed within a message");
        return;
    }
    if (command) {
        if (command_.size() + fragment_left_ > limits_.command_bytes_max) {
            fault(StreamReason::invalid_parameter, "command set is too long");
            return;
        }
        command_context_ = context;
    }
    part_ = command ? Part::command : Part::data;
    if (fragment_left_ == 0) end_fragment();
}

std::size_t PduCutter::consume_command(std::span<const std::byte> bytes) {
    const std::size_t count = std::min<std::size_t>(bytes.size(), fragment_left_);
    command_.insert(command_.end(), bytes.begin(),
                    bytes.begin() + static_cast<std::ptrdiff_t>(count));
    fragment_left_ -= static_cast<std::uint32_t>(count);
    if (fragment_left_ == 0) end_fragment();
    return count;
}

std::size_t PduCutter::consume_data(std::span<const std::byte> bytes) {
    const std::span<std::byte> room = spool_->room(slot_);
    const std::size_t count = std::min({bytes.size(), std::size_t{fragment_left_}, room.size()});
    if (count == 0) {
        full_ = true;
        return 0;
    }
    if (bytes.data() != room.data()) {
        std::memcpy(room.data(), bytes.data(), count);
        copied_bytes_ += count;
    }
    spool_->land(slot_, count);
    dataset_bytes_ += count;
    data_bytes_ += count;
    fragment_left_ -= static_cast<std::uint32_t>(count);
    if (fragment_left_ == 0) end_fragment();
    return count;
}

void PduCutter::end_fragment() {
    const bool command = part_ == Part::command;
    part_ = pdu_left_ > 0 ? Part::pdv_header : Part::pdu_header;
    if (command) {
        if (!fragment_last_) return;
        ++ended_parts_;
        command_bytes_ = command_.size();
        if (!begin_store()) event_ = CommandEvent{*command_context_, std::move(command_)};
        command_.clear();
        command_context_.reset();
        return;
    }
    // Two of one size in a row, each a PDU of its own: the next will be the same.
    fragment_expected_ = pdu_left_ == 0 && !fragment_last_ ? fragment_bytes_ : 0;
    if (!fragment_last_) {
        fragment_usual_ = fragment_expected_;
        return;
    }
    // Alone in its data set: the next may be alone too, and longer.
    if (fragment_bytes_ == dataset_bytes_) {
        fragment_usual_ = limits_.pdata_bytes_advertised - pdv_header_bytes;
    }
    ended_ = true;
    ++ended_parts_;
    data_context_.reset();
    message_expected_ = dataset_bytes_ <= copied_bytes_max
                            ? scratch_bytes
                            : 2 * (pdu_header_bytes + pdv_header_bytes) + command_bytes_;
    if (store_) {
        store_->ended = true;
        store_->dataset_bytes = dataset_bytes_;
        store_->ended_ns = monotonic_ns();
    } else {
        event_ = DatasetEvent{fragment_context_, dataset_bytes_};
    }
}

// The short way: no event, if nothing is under way and the request is regular. One that comes
// before the answer to the last is never regular.
bool PduCutter::begin_store() {
    if (store_ || !spool_->admits(slot_)) return false;
    const StoreTemplate* pieces = lane_.find(*command_context_);
    if (pieces == nullptr) return false;
    store_ = StoreLane::match(*pieces, *command_context_, command_, limits_.uid_characters_max);
    if (!store_) return false;
    store_->command_set = std::move(command_);
    StoreFile file = StoreLane::file_of(*pieces, *store_, realtime_ns());
    spool_->begin(slot_, file.head, std::move(file.prologue), pieces->explicit_vr);
    expect_data(store_->context);
    return true;
}

std::optional<PduCutter::FinishedStore> PduCutter::finish_store() {
    if (!store_) return std::nullopt;
    const StoreTemplate* pieces = lane_.find(store_->context);
    SCAI_ASSERT(pieces != nullptr && store_->ended);
    FinishedStore finished{std::move(*store_), {}};
    store_.reset();
    finished.response = StoreLane::response(*pieces, finished.store);
    return finished;
}

}  // namespace scai
