// Ways to get a CT image in 16 KiB PDUs from a loopback connection into one piece of memory.
//
// Promises: the sender, a thread on the other core, sends an instance when the one before was
// answered (one outstanding operation); every variant leaves the same bytes in the same order,
// checked once a run; processor time is the receiver's alone. The first is the product's way
// (native/src/reception/pdu_cutter.cpp): the places of the next fragments are guessed ahead, so
// that one call fills several of them.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <fstream>
#include <memory>
#include <thread>

#include "candidates.hpp"

namespace candidates {

constexpr std::size_t instance_bytes = 525'400;
constexpr std::size_t header_bytes = 12;
constexpr std::size_t pdu_bytes = 16'384;
constexpr std::size_t fragment_bytes = pdu_bytes - header_bytes;
constexpr std::size_t ring_bytes = 4u << 20;
constexpr std::size_t budget_bytes = 256u << 10;
constexpr std::size_t parts_max = 64;
constexpr double spin_ns = 50'000;

enum class Memory { ring, private_huge, shared_huge, reserved_huge };
enum class Reading { planned, copied, header_first };
enum class Waiting { epoll, busy_poll, spinning };

struct Setup {
    Memory memory = Memory::ring;
    Reading reading = Reading::planned;
    Waiting waiting = Waiting::epoll;
    int buffer_bytes = 0;  // 0: the kernel's own choice
};

std::byte value_at(std::size_t position) {
    return static_cast<std::byte>(position * 31 >> 4);
}

// An instance as it travels: headers that say how many bytes of data follow.
std::vector<std::byte> wire_form() {
    std::vector<std::byte> wire;
    for (std::size_t at = 0; at < instance_bytes;) {
        const std::size_t count = std::min(fragment_bytes, instance_bytes - at);
        const auto announced = htonl(static_cast<std::uint32_t>(count));
        wire.resize(wire.size() + header_bytes);
        std::memcpy(&*wire.end() - sizeof announced, &announced, sizeof announced);
        for (const std::size_t end = at + count; at < end; ++at) wire.push_back(value_at(at));
    }
    return wire;
}

// The kernel takes the advice for shared memory without a word, and may be told not to heed it.
bool shared_huge_pages_heeded() {
    std::ifstream file("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    std::string text;
    std::getline(file, text);
    return !text.empty() && text.find("[never]") == text.npos && text.find("[deny]") == text.npos;
}

// Twice in a row, as the product's rings lie; or one piece of huge pages; null: not to be had.
std::byte* map_ring(Memory kind) {
    constexpr int protection = PROT_READ | PROT_WRITE;
    constexpr std::size_t huge = 2u << 20;
    void* reserved =
        ::mmap(nullptr, 2 * ring_bytes + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reserved == MAP_FAILED) fail("mmap");
    auto* place = reinterpret_cast<std::byte*>(
        (reinterpret_cast<std::uintptr_t>(reserved) + huge - 1) / huge * huge);
    if (kind == Memory::private_huge) {
        if (::mmap(place, ring_bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
            MAP_FAILED) {
            fail("mmap");
        }
        if (::madvise(place, ring_bytes, MADV_HUGEPAGE) != 0) return nullptr;
        std::memset(place, 0, ring_bytes);
        return place;
    }
    const unsigned flags = MFD_CLOEXEC | (kind == Memory::reserved_huge ? MFD_HUGETLB : 0u);
    const int file = ::memfd_create("ring", flags);
    if (file < 0 || ::ftruncate(file, ring_bytes) != 0) return nullptr;
    for (std::size_t half = 0; half < 2; ++half) {
        std::byte* at = place + half * ring_bytes;
        if (::mmap(at, ring_bytes, protection, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
            return nullptr;
        }
        if (kind == Memory::shared_huge &&
            (!shared_huge_pages_heeded() || ::madvise(at, ring_bytes, MADV_HUGEPAGE) != 0)) {
            return nullptr;
        }
        std::memset(at, 0, ring_bytes);
    }
    ::close(file);
    return place;
}

struct Connection {
    int sender;
    int receiver;
};

Connection connect_over_loopback(int buffer_bytes) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* general = reinterpret_cast<sockaddr*>(&address);
    if (listener < 0 || ::bind(listener, general, size) != 0) fail("bind");
    if (buffer_bytes > 0 &&
        ::setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof buffer_bytes) != 0) {
        fail("SO_RCVBUF");
    }
    if (::listen(listener, 1) != 0) fail("listen");
    if (::getsockname(listener, general, &size) != 0) fail("getsockname");
    const int sender = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sender < 0 || ::connect(sender, general, size) != 0) fail("connect");
    const int receiver = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (receiver < 0) fail("accept");
    const int on = 1;
    for (const int end : {sender, receiver}) {
        if (::setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) fail("TCP_NODELAY");
    }
    ::close(listener);
    return {sender, receiver};
}

class Receiver {
public:
    Receiver(const Setup& setup, std::byte* ring)
        : setup_(setup),
          ring_(ring),
          ends_(connect_over_loopback(setup.buffer_bytes)),
          epoll_(::epoll_create1(EPOLL_CLOEXEC)),
          aside_(setup.reading == Reading::copied ? budget_bytes : 0) {
        epoll_event event{};
        event.events = EPOLLIN;
        if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, ends_.receiver, &event) != 0) fail("epoll_ctl");
        const int microseconds = 50;
        if (setup.waiting == Waiting::busy_poll &&
            ::setsockopt(ends_.receiver, SOL_SOCKET, SO_BUSY_POLL, &microseconds,
                         sizeof microseconds) != 0) {
            fail("SO_BUSY_POLL");
        }
    }
    ~Receiver() {
        for (const int descriptor : {ends_.sender, ends_.receiver, epoll_}) ::close(descriptor);
    }
    Receiver(const Receiver&) = delete;
    Receiver& operator=(const Receiver&) = delete;

    Cost run(const std::vector<std::byte>& wire, std::size_t units) {
        std::thread sender([&] { send(wire, units); });
        const double wall = nanoseconds(CLOCK_MONOTONIC);
        const double cpu = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        for (std::size_t unit = 0; unit < units; ++unit) {
            placed_ = 0;
            while (placed_ < instance_bytes) receive();
            if (::send(ends_.receiver, "", 1, 0) != 1) fail("answering");
        }
        const auto count = static_cast<double>(units);
        const Cost cost{(nanoseconds(CLOCK_MONOTONIC) - wall) / count,
                        (nanoseconds(CLOCK_THREAD_CPUTIME_ID) - cpu) / count};
        sender.join();
        for (std::size_t at = 0; at < instance_bytes; ++at) {
            if (ring_[at] != value_at(at)) {
                std::fprintf(stderr, "wrong byte at %zu\n", at);
                std::exit(1);
            }
        }
        return cost;
    }

private:
    void send(const std::vector<std::byte>& wire, std::size_t units) {
        static_cast<void>(sit_on_core(1));  // with one core both share it
        char answer;
        for (std::size_t unit = 0; unit < units; ++unit) {
            for (std::size_t at = 0; at < wire.size();) {
                const ssize_t put = ::send(ends_.sender, &wire[at], wire.size() - at, 0);
                if (put <= 0) fail("sending");
                at += static_cast<std::size_t>(put);
            }
            if (::recv(ends_.sender, &answer, 1, 0) != 1) fail("waiting for the answer");
        }
    }

    void receive() {
        std::array<iovec, parts_max> parts;
        const std::size_t count = plan(parts);
        msghdr message{};
        message.msg_iov = parts.data();
        message.msg_iovlen = count;
        const ssize_t got = ::recvmsg(ends_.receiver, &message, MSG_DONTWAIT);
        if (got > 0) {
            dry_since_ = 0;
            take(parts, static_cast<std::size_t>(got));
            return;
        }
        if (got == 0 || errno != EAGAIN) fail("receiving");
        wait();
    }

    void wait() {
        if (setup_.waiting == Waiting::spinning) {
            const double now = nanoseconds(CLOCK_MONOTONIC);
            if (dry_since_ == 0) dry_since_ = now;
            if (now - dry_since_ < spin_ns) return;
        }
        epoll_event event;
        if (::epoll_wait(epoll_, &event, 1, -1) < 0 && errno != EINTR) fail("epoll_wait");
    }

    std::size_t plan(std::array<iovec, parts_max>& parts) {
        if (setup_.reading == Reading::copied) {
            parts[0] = {aside_.data(), aside_.size()};
            return 1;
        }
        std::size_t used = 0;
        std::size_t planned = 0;
        std::size_t header = header_.size() - header_held_;
        std::size_t fragment = fragment_left_;
        if (fragment == 0 && placed_ == 0) {  // nothing can be guessed yet
            parts[used++] = {header_.data() + header_held_, header};
            return used;
        }
        while (used + 2 <= parts_max && placed_ + planned < instance_bytes &&
               planned < budget_bytes) {
            if (fragment > 0) parts[used++] = {ring_ + placed_ + planned, fragment};
            planned += fragment;
            if (placed_ + planned >= instance_bytes) break;
            std::byte* into = used < 2 ? header_.data() : headers_[used / 2].data();
            parts[used++] = {into + header_.size() - header, header};
            if (setup_.reading == Reading::header_first && used >= 2) break;
            header = header_.size();
            fragment = std::min(fragment_bytes, instance_bytes - placed_ - planned);
        }
        return used;
    }

    void take(const std::array<iovec, parts_max>& parts, std::size_t got) {
        for (std::size_t index = 0; got > 0; ++index) {
            const auto* from = static_cast<const std::byte*>(parts[index].iov_base);
            std::size_t left = std::min(got, parts[index].iov_len);
            got -= left;
            while (left > 0) {
                const std::size_t used = fragment_left_ > 0 ? land(from, left) : head(from, left);
                from += used;
                left -= used;
            }
        }
    }

    std::size_t land(const std::byte* from, std::size_t bytes) {
        const std::size_t count = std::min(bytes, fragment_left_);
        if (from != ring_ + placed_) std::memcpy(ring_ + placed_, from, count);
        placed_ += count;
        fragment_left_ -= count;
        return count;
    }

    std::size_t head(const std::byte* from, std::size_t bytes) {
        const std::size_t count = std::min(bytes, header_.size() - header_held_);
        std::memmove(header_.data() + header_held_, from, count);
        header_held_ += count;
        if (header_held_ == header_.size()) {
            std::uint32_t announced;
            std::memcpy(&announced, header_.data() + header_.size() - sizeof announced,
                        sizeof announced);
            fragment_left_ = ntohl(announced);
            header_held_ = 0;
        }
        return count;
    }

    Setup setup_;
    std::byte* ring_;
    Connection ends_;
    int epoll_;
    std::size_t placed_ = 0;
    std::size_t fragment_left_ = 0;
    std::size_t header_held_ = 0;
    double dry_since_ = 0;
    std::array<std::byte, header_bytes> header_{};
    std::array<std::array<std::byte, header_bytes>, parts_max> headers_{};
    std::vector<std::byte> aside_;
};

class Bench {
public:
    explicit Bench(std::size_t units) : units_(units) {}

    void add(const std::string& name, const Setup& setup, const std::string& unavailable = "") {
        std::byte* ring = map_ring(setup.memory);
        if (ring == nullptr) {
            skip(name, unavailable);
            return;
        }
        auto receiver = std::make_shared<Receiver>(setup, ring);
        variants.push_back({name, [this, receiver] { return receiver->run(wire_, units_); }});
    }

    std::vector<Variant> variants;

private:
    std::size_t units_;
    std::vector<std::byte> wire_ = wire_form();
};

}  // namespace candidates

int main(int count, char** texts) {
    using namespace candidates;
    const Arguments arguments = arguments_of(count, texts);
    if (!sit_on_core(0)) fail("sitting on a core");
    Bench bench(arguments.units);
    bench.add("planned scatter into the ring", {});
    bench.add("one piece, copied into place", {.reading = Reading::copied});
    bench.add("header first, two places a call", {.reading = Reading::header_first});
    bench.add("private memory in huge pages", {.memory = Memory::private_huge},
              "madvise refuses huge pages");
    bench.add("memfd in huge pages (MADV_HUGEPAGE)", {.memory = Memory::shared_huge},
              "the kernel has them off for shared memory (transparent_hugepage/shmem_enabled)");
    bench.add("memfd in reserved huge pages", {.memory = Memory::reserved_huge},
              "no huge pages are reserved (vm.nr_hugepages)");
    bench.add("SO_RCVBUF 256 KiB", {.buffer_bytes = 256 << 10});
    bench.add("SO_RCVBUF 4 MiB", {.buffer_bytes = 4 << 20});
    bench.add("SO_BUSY_POLL 50 us", {.waiting = Waiting::busy_poll});
    bench.add("looks for 50 us before it sleeps", {.waiting = Waiting::spinning});
    take_turns(bench.variants, arguments.rounds, [] {});
    return 0;
}
