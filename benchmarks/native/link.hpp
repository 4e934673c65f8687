// One association of the sender: from connect to release, without ever waiting for the socket.
//
// Promises: what is sent lies ready made; per instance only the nine digits of its UIDs and its
// message ID are written. One outstanding operation. Every end that is not a release has a name.
#pragma once

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "wire.hpp"

namespace load {

inline uint64_t now_ns() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    const auto seconds = static_cast<uint64_t>(time.tv_sec);
    return seconds * 1'000'000'000u + static_cast<uint64_t>(time.tv_nsec);
}

// What is kept of every answered instance; benchmarks/load_result.py reads it.
struct Record {
    uint64_t start_ns;    // since the first instance was begun
    uint64_t latency_ns;  // first byte sent (or due, at a fixed rate) to the response's last byte
    uint32_t counter;     // the digits in its SOP Instance UID
    uint32_t setup_us;    // of its association, when it is the first in it; else 0
    uint16_t link, image, status, reserved;
};
static_assert(sizeof(Record) == 32);

struct Shared {  // of all links
    Plan plan;
    int epoll{-1};
    uint64_t tickets{};       // instances handed out
    uint64_t answered{}, answered_bytes{}, refused{};
    uint64_t first_ns{}, last_ns{}, begun_ns{};
    std::map<std::string, uint64_t> failures;
    std::vector<Record> records;

    bool exhausted(uint64_t now) const {
        if (plan.instances != 0 && tickets >= plan.instances) return true;
        return plan.seconds > 0 && now >= begun_ns + static_cast<uint64_t>(plan.seconds * 1e9);
    }
};

enum class State { idle, connecting, associating, ready, sending, awaiting, releasing, finished };

class Link {
public:
    Link(Shared& shared, uint16_t number) : shared_(shared), number_(number) {
        for (const Image& image : shared.plan.images) heads_.push_back(image.head);
        input_.resize(64 * 1024);
    }
    State state() const { return state_; }
    uint64_t due_ns() const { return due_ns_; }

    // The clock went on: connect, begin an instance, or give up waiting.
    void tick(uint64_t now) {
        if (state_ == State::idle && now >= due_ns_) {
            if (shared_.exhausted(now)) state_ = State::finished;
            else open(now);
        } else if (state_ == State::ready && (now >= due_ns_ || shared_.exhausted(now))) {
            begin(now);
        } else if (waiting() && now > since_ns_ + timeout_ns()) {
            const bool releasing = state_ == State::releasing;
            fail(releasing ? "no answer to the release" : "no answer in time", now);
        }
    }

    void on_event(uint32_t events, uint64_t now) {
        if (state_ == State::connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
            connected(now);
        if (descriptor_ >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(now);
        if (state_ == State::sending) push(now);
    }

    void close_now() {
        if (descriptor_ >= 0) ::close(descriptor_);
        descriptor_ = -1;
        state_ = State::finished;
    }

private:
    static constexpr int failures_in_a_row_max = 20;
    static constexpr uint64_t pause_ns = 50'000'000;

    bool waiting() const {
        return state_ == State::connecting || state_ == State::associating ||
               state_ == State::sending || state_ == State::awaiting || state_ == State::releasing;
    }
    uint64_t timeout_ns() const {
        return static_cast<uint64_t>(shared_.plan.timeout_seconds * 1e9);
    }
    const Target& target() const {
        return shared_.plan.targets[shared_.plan.associations[number_]];
    }

    void open(uint64_t now) {
        const Target& to = target();
        since_ns_ = opened_ns_ = now;
        filled_ = 0;
        descriptor_ = socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (descriptor_ < 0) throw std::runtime_error("no socket to be had");
        int on = 1;
        setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (int bytes = static_cast<int>(shared_.plan.send_buffer_bytes); bytes > 0)
            setsockopt(descriptor_, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        event.data.u32 = number_;
        epoll_ctl(shared_.epoll, EPOLL_CTL_ADD, descriptor_, &event);
        state_ = State::connecting;
        const auto* address = reinterpret_cast<const sockaddr*>(&to.address);
        if (connect(descriptor_, address, to.address_bytes) == 0) connected(now);
        else if (errno != EINPROGRESS) fail(std::string("connect: ") + std::strerror(errno), now);
    }

    void connected(uint64_t now) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return fail(std::string("connect: ") + std::strerror(error), now);
        state_ = State::associating;
        const Bytes& request = target().associate;  // at most some kB: fits the empty buffer
        if (::send(descriptor_, request.data(), request.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(request.size()))
            fail("the association request could not be sent", now);
    }

    void ready(uint64_t now, uint64_t pause) {
        due_ns_ = now + pause;
        state_ = State::ready;
        if (pause == 0) begin(now);
    }

    // Take the next ticket; at a fixed rate it is taken when it is due, not before.
    void begin(uint64_t now) {
        if (shared_.exhausted(now)) return release(now);
        uint64_t start = now;
        if (const double rate = shared_.plan.rate; rate > 0) {
            start = shared_.begun_ns +
                    static_cast<uint64_t>(static_cast<double>(shared_.tickets) / rate * 1e9);
            if (start > now) {
                due_ns_ = start;
                return;
            }
        }
        const uint64_t ticket = shared_.tickets++;
        image_ = shared_.plan.order[ticket % shared_.plan.order.size()];
        counter_ = shared_.plan.counter_first + static_cast<uint32_t>(ticket);
        start_ns_ = start;
        if (shared_.first_ns == 0) shared_.first_ns = start;
        patch();
        sent_ = 0;
        since_ns_ = now;
        state_ = State::sending;
        push(now);
    }

    void patch() {
        const Image& image = shared_.plan.images[image_];
        Bytes& head = heads_[image_];
        const uint64_t length = shared_.plan.series_instances;
        const uint32_t series = length == 0 ? 0 : static_cast<uint32_t>(stored_ / length);
        for (const Patch& patch : image.patches) {
            uint32_t value = patch.field == Field::instance ? counter_
                             : patch.field == Field::series ? number_ * 1'000'000u + series
                                                            : number_;
            value += 100'000'000u;  // nine digits, the first not a zero, as UIDs demand
            for (int digit = digits_in_field - 1; digit >= 0; --digit, value /= 10)
                head[patch.offsets[digit]] = static_cast<uint8_t>('0' + value % 10);
        }
        message_id_ = static_cast<uint16_t>(message_id_ == 0xFFFF ? 1 : message_id_ + 1);
        head[image.message_id_offset] = static_cast<uint8_t>(message_id_);
        head[image.message_id_offset + 1] = static_cast<uint8_t>(message_id_ >> 8);
    }

    // The vectors of what is left to send: head (own copy), body as often as needed, tail.
    int gather(std::array<iovec, 16>& vectors) const {
        const Image& image = shared_.plan.images[image_];
        const Bytes& head = heads_[image_];
        int count = 0;
        uint64_t at = sent_;
        auto add = [&](const Bytes& bytes, uint64_t from) {
            vectors[count++] = {const_cast<uint8_t*>(bytes.data()) + from, bytes.size() - from};
        };
        if (at < head.size()) add(head, at), at = head.size();
        const uint64_t body_end = head.size() + image.body.size() * image.repeats;
        while (at < body_end && count < 15) {
            const uint64_t from = (at - head.size()) % image.body.size();
            add(image.body, from);
            at += image.body.size() - from;
        }
        if (at >= body_end && at - body_end < image.tail.size()) add(image.tail, at - body_end);
        return count;
    }

    void push(uint64_t now) {
        const uint64_t whole = shared_.plan.images[image_].wire_bytes();
        std::array<iovec, 16> vectors;
        while (sent_ < whole) {
            msghdr message{};
            message.msg_iov = vectors.data();
            message.msg_iovlen = static_cast<std::size_t>(gather(vectors));
            const ssize_t sent = sendmsg(descriptor_, &message, MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) return;
            if (sent < 0) return fail(std::string("send: ") + std::strerror(errno), now);
            sent_ += static_cast<uint64_t>(sent);
            since_ns_ = now;
        }
        state_ = State::awaiting;
    }

    void receive(uint64_t now) {
        for (;;) {
            if (filled_ == input_.size()) return fail("the answer is longer than allowed", now);
            const ssize_t got = recv(descriptor_, &input_[filled_], input_.size() - filled_, 0);
            if (got < 0 && errno == EAGAIN) return;
            if (got < 0) return fail(std::string("receive: ") + std::strerror(errno), now);
            if (got == 0) return closed(now);
            filled_ += static_cast<std::size_t>(got);
            if (!cut(now)) return;
        }
    }

    // Handle every whole PDU; false when the connection is gone.
    bool cut(uint64_t now) {
        std::size_t at = 0;
        while (filled_ - at >= 6) {
            const std::size_t size = big32(&input_[at + 2]);
            if (filled_ - at < 6 + size) break;
            handle(input_[at], &input_[at + 6], size, now);
            if (descriptor_ < 0) return false;
            at += 6 + size;
        }
        std::memmove(input_.data(), &input_[at], filled_ - at);
        filled_ -= at;
        return true;
    }

    void handle(uint8_t type, const uint8_t* body, std::size_t size, uint64_t now) {
        if (type == 0x02 && state_ == State::associating) return accepted(body, size, now);
        if (type == 0x04 && state_ == State::awaiting) return answer(body, size, now);
        if (type == 0x06 && state_ == State::releasing) return shut(now);
        fail(type == 0x05 ? "released by peer" : refusal(type, body, size), now);
    }

    void accepted(const uint8_t* body, std::size_t size, uint64_t now) {
        const auto accept = read_accept(body, size);
        if (!accept) return fail("unreadable A-ASSOCIATE-AC", now);
        for (const Image& image : shared_.plan.images) {
            const auto found = accept->results.find(image.context);
            if (found == accept->results.end() || found->second != 0)
                return fail("presentation context refused", now, true);
        }
        if (accept->pdu_bytes != 0 && accept->pdu_bytes < shared_.plan.pdu_bytes)
            return fail("the peer takes only PDUs of " + std::to_string(accept->pdu_bytes), now,
                        true);
        setup_us_ = static_cast<uint32_t>((now - opened_ns_) / 1000);
        message_id_ = 0;
        ready(now, 0);
    }

    void answer(const uint8_t* body, std::size_t size, uint64_t now) {
        std::size_t at = 0;
        bool last = false;
        while (at + 6 <= size && !last) {
            const std::size_t length = big32(body + at);
            if (length < 2 || at + 4 + length > size) return fail("unreadable P-DATA-TF", now);
            command_.insert(command_.end(), body + at + 6, body + at + 4 + length);
            last = (body[at + 5] & 3) == 3;
            at += 4 + length;
        }
        if (!last) return;
        const auto response = read_response(command_);
        command_.clear();
        if (!response || response->message_id != message_id_)
            return fail("not the response to our request", now);
        conclude(response->status, now);
    }

    void conclude(uint16_t status, uint64_t now) {
        shared_.records.push_back({start_ns_ - shared_.first_ns, now - start_ns_, counter_,
                                   setup_us_, number_, static_cast<uint16_t>(image_), status, 0});
        setup_us_ = 0;
        shared_.last_ns = now;
        if (status == 0) {
            ++shared_.answered;
            ++stored_;
            shared_.answered_bytes += shared_.plan.images[image_].payload_bytes;
        } else {
            ++shared_.refused;
        }
        failures_in_a_row_ = 0;
        if (shared_.plan.association_per_instance) return release(now);
        ready(now, static_cast<uint64_t>(shared_.plan.think_seconds * 1e9));
    }

    void release(uint64_t now) {
        static constexpr uint8_t request[] = {5, 0, 0, 0, 0, 4, 0, 0, 0, 0};
        state_ = State::releasing;
        since_ns_ = now;
        if (::send(descriptor_, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
            fail("the release could not be sent", now);
    }

    void shut(uint64_t now) {  // released; the next association, if there is to be one
        close_now();
        if (shared_.exhausted(now)) return;
        state_ = State::idle;
        due_ns_ = now + static_cast<uint64_t>(shared_.plan.think_seconds * 1e9);
    }

    void closed(uint64_t now) {
        if (state_ == State::releasing) return shut(now);
        fail(state_ == State::associating ? "closed instead of an association" : "closed by peer",
             now);
    }

    void fail(const std::string& reason, uint64_t now, bool for_good = false) {
        ++shared_.failures[reason];
        close_now();
        command_.clear();
        if (for_good || ++failures_in_a_row_ >= failures_in_a_row_max) return;
        state_ = State::idle;
        due_ns_ = now + pause_ns;
    }

    Shared& shared_;
    uint16_t number_;
    State state_{State::idle};
    int descriptor_{-1};
    std::vector<Bytes> heads_;
    Bytes input_, command_;
    std::size_t filled_{};
    uint32_t image_{}, counter_{}, setup_us_{};
    uint16_t message_id_{};
    uint64_t sent_{}, stored_{};
    uint64_t due_ns_{}, since_ns_{}, start_ns_{}, opened_ns_{};
    int failures_in_a_row_{};
};

}  // namespace load
