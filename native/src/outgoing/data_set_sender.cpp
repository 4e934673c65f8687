// The buffer has a fixed geometry: behind `front_` lies one PDU after the other, each with room for
// its headers and a full fragment. So the place of a payload byte follows from its index alone, and
// a file is read into many PDUs at once. Headers are written when a PDU is sealed.
#include "outgoing/data_set_sender.hpp"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <algorithm>
#include <array>
#include <cstring>

#include "base/clock.hpp"

namespace scai {
namespace {

constexpr std::uint8_t p_data_tf = 4;
constexpr std::uint8_t of_command = 1;  // PS3.8 E.2: message control header
constexpr std::uint8_t is_last = 2;
constexpr std::size_t pdv_header_bytes = 6;
constexpr std::size_t pdu_bytes_useful_min = pdv_header_bytes + 2;  // fragments are even

void put_u32(std::byte* at, std::size_t value) noexcept {
    for (int index = 0; index < 4; ++index) {
        at[index] = static_cast<std::byte>(value >> (24 - 8 * index));
    }
}

constexpr int queued_bytes_few = 128 * 1024;  // two seconds of a line of half a megabit
constexpr int queue_looked_at_ms = 20;

int queued_bytes(int socket) noexcept {
    int count = 0;
    return ::ioctl(socket, SIOCOUTQ, &count) == 0 ? count : 0;
}

// How long a peer may take nothing.
class Patience {
public:
    explicit Patience(const DataSetSender::Way& way) : way_(way) { renew(); }

    int left_ms() const noexcept {
        const std::uint64_t now = monotonic_ns();
        return now >= deadline_ ? 0 : static_cast<int>((deadline_ - now + 999'999u) / 1'000'000u);
    }

    // Whether the time is over, and the queue as long as when it began.
    bool is_over() {
        if (left_ms() > 0) return false;
        const int before = queued_;
        renew();
        return queued_ >= before;
    }

private:
    void renew() {
        queued_ = queued_bytes(way_.socket);
        deadline_ = monotonic_ns() + static_cast<std::uint64_t>(way_.timeout_ms) * 1'000'000u;
    }

    const DataSetSender::Way& way_;
    int queued_ = 0;
    std::uint64_t deadline_ = 0;
};

}  // namespace

DataSetSender::DataSetSender(std::size_t buffer_bytes)
    : capacity_(buffer_bytes), buffer_(new std::byte[buffer_bytes]) {
    spans_.reserve(spans_max);
}

void DataSetSender::begin(std::uint8_t context_id, std::size_t pdu_bytes_max,
                          std::span<const std::byte> command_set) {
    if (pdu_bytes_max < pdu_bytes_useful_min) {
        throw std::invalid_argument("no fragment fits into PDUs this small");
    }
    const std::size_t fragment_max = (pdu_bytes_max - pdv_header_bytes) & ~std::size_t{1};
    const std::size_t fragments = (command_set.size() + fragment_max - 1) / fragment_max;
    const std::size_t command_bytes = command_set.size() + fragments * header_bytes;
    if (command_set.empty() || capacity_ < command_bytes + 2 * (fragment_max + header_bytes)) {
        throw std::invalid_argument("the buffer does not hold a command and two PDUs");
    }
    context_id_ = context_id;
    fragment_max_ = fragment_max;
    laid_ = sealed_ = gone_ = 0;
    finished_ = false;
    std::byte* at = buffer_.get();
    while (!command_set.empty()) {
        const std::size_t fragment = std::min(command_set.size(), fragment_max);
        const bool last = fragment == command_set.size();
        put_header(at, fragment, static_cast<std::uint8_t>(of_command | (last ? is_last : 0)));
        std::memcpy(at + header_bytes, command_set.data(), fragment);
        at += header_bytes + fragment;
        command_set = command_set.subspan(fragment);
    }
    front_ = ready_ = command_bytes;
}

void DataSetSender::put_header(std::byte* at, std::size_t fragment, std::uint8_t control) noexcept {
    at[0] = std::byte{p_data_tf};
    at[1] = std::byte{0};
    put_u32(at + 2, fragment + pdv_header_bytes);
    put_u32(at + 6, fragment + 2);
    at[10] = std::byte{context_id_};
    at[11] = std::byte{control};
}

std::size_t DataSetSender::room() const noexcept {
    return (capacity_ - front_) / (fragment_max_ + header_bytes) * fragment_max_ - laid_;
}

// Where the payload byte with this index lies.
std::byte* DataSetSender::place(std::uint64_t index) noexcept {
    const std::uint64_t pdu = index / fragment_max_;
    return buffer_.get() + front_ + pdu * (fragment_max_ + header_bytes) + header_bytes +
           index % fragment_max_;
}

std::size_t DataSetSender::append(std::span<const std::byte> data) {
    SCAI_ASSERT(fragment_max_ != 0 && !finished_);
    const std::size_t taken = std::min(data.size(), room());
    for (std::size_t done = 0; done < taken;) {
        const std::size_t in_fragment = fragment_max_ - laid_ % fragment_max_;
        const std::size_t piece = std::min(taken - done, in_fragment);
        std::memcpy(place(laid_), data.data() + done, piece);
        laid_ += piece;
        done += piece;
    }
    return taken;
}

std::uint64_t DataSetSender::append_file(int descriptor, std::uint64_t offset,
                                         std::uint64_t length) {
    SCAI_ASSERT(fragment_max_ != 0 && !finished_);
    std::uint64_t taken = 0;
    while (taken < length && room() > 0) {
        const std::uint64_t wanted = std::min<std::uint64_t>(length - taken, room());
        spans_.clear();
        for (std::uint64_t planned = 0; planned < wanted && spans_.size() < spans_max;) {
            const std::uint64_t index = laid_ + planned;
            const std::uint64_t piece =
                std::min(wanted - planned, fragment_max_ - index % fragment_max_);
            spans_.push_back({place(index), piece});
            planned += piece;
        }
        const ssize_t count = ::preadv(descriptor, spans_.data(), static_cast<int>(spans_.size()),
                                       static_cast<off_t>(offset + taken));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail("reading what is to be sent");
        if (count == 0) throw SystemFailure(ENODATA, "the file is shorter than it was");
        laid_ += static_cast<std::size_t>(count);
        taken += static_cast<std::uint64_t>(count);
    }
    return taken;
}

void DataSetSender::finish() {
    SCAI_ASSERT(fragment_max_ != 0 && !finished_);
    finished_ = true;
}

// Headers for the PDUs of so many payload bytes, whose place in the data set is known.
void DataSetSender::seal(std::size_t known) {
    const bool empty_at_last = finished_ && laid_ == 0 && sealed_ == 0;
    while (sealed_ < known || empty_at_last) {
        const std::size_t fragment = std::min(known - sealed_, fragment_max_);
        const bool last = finished_ && sealed_ + fragment == laid_;
        std::byte* const at = place(sealed_) - header_bytes;
        put_header(at, fragment, last ? is_last : std::uint8_t{0});
        sealed_ += fragment;
        ready_ = static_cast<std::size_t>(at - buffer_.get()) + header_bytes + fragment;
        if (last) break;
    }
}

std::span<const std::byte> DataSetSender::staged() {
    // A full PDU at the end may be the last one.
    seal(finished_ || laid_ == 0 ? laid_ : (laid_ - 1) / fragment_max_ * fragment_max_);
    return {buffer_.get() + gone_, ready_ - gone_};
}

void DataSetSender::drop_staged() {
    sent_bytes_ += ready_ - gone_;
    const std::size_t open = laid_ - sealed_;
    // A PDU that is not sealed moves to the front; it is one at most, since seal() came before.
    if (open > 0) std::memmove(buffer_.get() + header_bytes, place(sealed_), open);
    front_ = ready_ = gone_ = sealed_ = 0;
    laid_ = open;
    if (finished_) fragment_max_ = 0;  // nothing more until begin()
}

// The kernel says that there is room when a third of its buffer is, which on a slow line may take
// longer than the time-out while the peer takes what it can: so its queue is looked at as well.
DataSetSender::Sending DataSetSender::wait_for_room(const Way& way) {
    Patience patience(way);
    for (;;) {
        std::array<pollfd, 2> waiting{{{way.socket, POLLIN | POLLOUT, 0}, {way.wake, POLLIN, 0}}};
        const int count = ::poll(waiting.data(), waiting.size(), patience.left_ms());
        if (count < 0 && errno != EINTR) fail("waiting for the peer");
        if (count < 0) continue;
        if (waiting[1].revents != 0) return Sending::woken;
        if ((waiting[0].revents & POLLIN) != 0) return Sending::input;
        if (waiting[0].revents != 0) return Sending::sent;  // room, or an error, which send() tells
        if (patience.is_over()) return Sending::late;
    }
}

DataSetSender::Sending DataSetSender::wait_until_taken(const Way& way, bool heeds_input) {
    Patience patience(way);
    while (queued_bytes(way.socket) > queued_bytes_few) {
        const short events = heeds_input ? POLLIN : short{0};
        std::array<pollfd, 2> waiting{{{way.socket, events, 0}, {way.wake, POLLIN, 0}}};
        const int pause_ms = std::min(patience.left_ms(), queue_looked_at_ms);
        const int count = ::poll(waiting.data(), waiting.size(), pause_ms);
        if (count < 0 && errno != EINTR) fail("waiting for the peer");
        if (count < 0) continue;
        if (waiting[1].revents != 0) return Sending::woken;
        if (waiting[0].revents != 0) return Sending::input;
        if (patience.is_over()) return Sending::late;
    }
    return Sending::sent;
}

DataSetSender::Sending DataSetSender::write(std::span<iovec> parts, const Way& way) {
    while (!parts.empty()) {
        const Sending waited = wait_for_room(way);
        if (waited != Sending::sent) return waited;
        msghdr message{};
        message.msg_iov = parts.data();
        message.msg_iovlen = parts.size();
        const ssize_t count = ::sendmsg(way.socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (count < 0) {
            socket_error_ = errno;
            return Sending::broken;
        }
        sent_bytes_ += static_cast<std::uint64_t>(count);
        auto gone = static_cast<std::size_t>(count);
        while (!parts.empty() && gone >= parts.front().iov_len) {
            gone -= parts.front().iov_len;
            parts = parts.subspan(1);
        }
        if (gone == 0) continue;
        iovec& begun = parts.front();
        begun = {static_cast<std::byte*>(begun.iov_base) + gone, begun.iov_len - gone};
    }
    return Sending::sent;
}

DataSetSender::Sending DataSetSender::flush(const Way& way) {
    const auto left = staged();
    iovec part{buffer_.get() + gone_, left.size()};
    const std::uint64_t before = sent_bytes_;
    const Sending outcome = left.empty() ? Sending::sent : write({&part, 1}, way);
    gone_ += static_cast<std::size_t>(sent_bytes_ - before);
    if (outcome == Sending::sent) drop_staged();
    return outcome;
}

DataSetSender::Sending DataSetSender::complete(const Way& way) {
    finish();
    const Sending flushed = flush(way);
    if (flushed != Sending::sent) return flushed;
    // What the peer says by now is its answer, and no reason to stop.
    return wait_until_taken(way, true) == Sending::late ? Sending::late : Sending::sent;
}

DataSetSender::Sending DataSetSender::send_file(int descriptor, std::uint64_t offset,
                                                std::uint64_t length, const Way& way) {
    for (;;) {
        const std::uint64_t taken = append_file(descriptor, offset, length);
        offset += taken;
        length -= taken;
        if (length == 0) return Sending::sent;  // what is left waits for more, or for the end
        const Sending flushed = flush(way);
        if (flushed != Sending::sent) return flushed;
    }
}

DataSetSender::Sending DataSetSender::send(std::span<const std::byte> data, const Way& way) {
    SCAI_ASSERT(fragment_max_ != 0 && !finished_);
    // The PDU that is begun is filled up in the buffer, where there is room for all of it.
    const std::size_t begun = laid_ % fragment_max_;
    if (begun != 0)
        data = data.subspan(append(data.first(std::min(data.size(), fragment_max_ - begun))));
    if (data.size() > fragment_max_) {
        seal(laid_);  // none of them is the last
        std::array<std::byte, header_bytes> header;
        put_header(header.data(), fragment_max_, 0);
        spans_.assign(1, {buffer_.get() + gone_, ready_ - gone_});
        while (data.size() > fragment_max_) {
            while (data.size() > fragment_max_ && spans_.size() + 2 <= spans_max) {
                spans_.push_back({header.data(), header.size()});
                spans_.push_back({const_cast<std::byte*>(data.data()), fragment_max_});
                data = data.subspan(fragment_max_);
            }
            const Sending written = write(spans_, way);
            if (written != Sending::sent) return written;
            spans_.clear();
        }
        gone_ = ready_;
        drop_staged();
    }
    for (;;) {
        data = data.subspan(append(data));
        if (data.empty()) return Sending::sent;  // what is left waits for more, or for the end
        const Sending flushed = flush(way);
        if (flushed != Sending::sent) return flushed;
    }
}

}  // namespace scai
