// A Storage SCP that takes everything and keeps nothing: what senders are measured against.
//
// usage: acceptor PORT. Listens on 127.0.0.1, grants every context its first transfer syntax, reads
// C-STORE and C-ECHO requests with their data sets, answers success, and answers a release. On
// SIGUSR1 it prints, on one line, "instances bytes seconds associations" since it began: the
// seconds from the first association request to the last response. A stream that is no DICOM ends
// its connection. One thread, one epoll set.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "answers.hpp"
#include "wire.hpp"

namespace {

using load::append_big32;
using load::big32;
using load::Bytes;
using load::grant;
using load::little16;
using load::little32;
using load::say;

constexpr std::size_t read_bytes = 256 * 1024;
constexpr uint32_t pdu_bytes_advertised = 16378;
constexpr std::size_t pdu_bytes_max = 1024 * 1024;

struct Totals {
    uint64_t instances{}, bytes{}, associations{};
    double first{}, last{};
};

struct Connection {
    Bytes unread;      // the rest of a PDU or PDV header, or a whole PDU that is no P-DATA
    uint64_t pdata{};  // bytes of the P-DATA-TF under way that are left
    uint64_t pdv{};    // bytes of the PDV under way that are left
    uint8_t context{}, flags{};
    bool in_pdv{};
    Bytes command;
    uint16_t message_id{}, field{};
    Bytes sop_class, sop_instance;
};

double now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

[[noreturn]] void die(const char* what) {
    std::fprintf(stderr, "acceptor: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

void append_element(Bytes& to, uint16_t number, const Bytes& value) {
    const auto size = static_cast<uint8_t>(value.size());
    to.insert(to.end(), {0, 0, static_cast<uint8_t>(number), static_cast<uint8_t>(number >> 8),
                         size, 0, 0, 0});
    to.insert(to.end(), value.begin(), value.end());
}

Bytes two(uint16_t value) {
    return {static_cast<uint8_t>(value), static_cast<uint8_t>(value >> 8)};
}

Bytes response(const Connection& connection) {
    Bytes rest;
    append_element(rest, 0x0002, connection.sop_class);
    append_element(rest, 0x0100, two(static_cast<uint16_t>(connection.field | 0x8000)));
    append_element(rest, 0x0120, two(connection.message_id));
    append_element(rest, 0x0800, two(0x0101));
    append_element(rest, 0x0900, two(0));
    if (!connection.sop_instance.empty()) append_element(rest, 0x1000, connection.sop_instance);
    Bytes command;
    const auto size = static_cast<uint8_t>(rest.size());
    append_element(command, 0x0000, {size, 0, 0, 0});
    command.insert(command.end(), rest.begin(), rest.end());
    const auto pdv = static_cast<uint8_t>(command.size() + 2);
    Bytes pdu{4, 0};
    append_big32(pdu, pdv + 4U);
    append_big32(pdu, pdv);
    pdu.insert(pdu.end(), {connection.context, 3});
    pdu.insert(pdu.end(), command.begin(), command.end());
    return pdu;
}

// False: it is none that is answered here.
bool read_command(Connection& connection, bool& has_data) {
    const Bytes& set = connection.command;
    connection.sop_class.clear();
    connection.sop_instance.clear();
    for (std::size_t at = 0; at + 8 <= set.size();) {
        const uint16_t number = little16(&set[at + 2]);
        const std::size_t length = little32(&set[at + 4]);
        at += 8;
        if (length > 64 && number != 0x1030) return false;
        if (at + length > set.size()) return false;
        const Bytes value(set.begin() + static_cast<std::ptrdiff_t>(at),
                          set.begin() + static_cast<std::ptrdiff_t>(at + length));
        if (number == 0x0002) connection.sop_class = value;
        if (number == 0x1000) connection.sop_instance = value;
        if (length == 2 && number == 0x0100) connection.field = little16(value.data());
        if (length == 2 && number == 0x0110) connection.message_id = little16(value.data());
        if (length == 2 && number == 0x0800) has_data = little16(value.data()) != 0x0101;
        at += length;
    }
    return connection.field == 0x0001 || connection.field == 0x0030;
}

class Acceptor {
public:
    // False: the connection is to be closed.
    bool take(int descriptor, Connection& connection) {
        const ssize_t got = recv(descriptor, buffer_.data(), buffer_.size(), 0);
        if (got < 0) return errno == EAGAIN || errno == EINTR;
        if (got == 0) return false;
        const uint8_t* at = buffer_.data();
        std::size_t left = static_cast<std::size_t>(got);
        while (left > 0) {
            const std::size_t used = step(descriptor, connection, at, left);
            if (used == 0) return false;
            at += used;
            left -= used;
        }
        return true;
    }

    void report() {
        std::printf("%llu %llu %.6f %llu\n", static_cast<unsigned long long>(totals_.instances),
                    static_cast<unsigned long long>(totals_.bytes), totals_.last - totals_.first,
                    static_cast<unsigned long long>(totals_.associations));
        std::fflush(stdout);
    }

private:
    // Takes what one state of the stream may; 0: the connection is over.
    std::size_t step(int descriptor, Connection& connection, const uint8_t* at, std::size_t left) {
        if (connection.in_pdv) return take_fragment(descriptor, connection, at, left);
        Bytes& unread = connection.unread;
        std::size_t wanted = 6;
        if (connection.pdata == 0 && unread.size() >= 6) {
            const std::size_t length = big32(&unread[2]);
            if (length > pdu_bytes_max) return 0;
            wanted = 6 + length;
        }
        const std::size_t used = std::min(left, wanted - unread.size());
        unread.insert(unread.end(), at, at + used);
        if (unread.size() < wanted) return used;
        if (connection.pdata > 0) {  // a PDV's header
            const uint32_t length = big32(unread.data());
            if (length < 2 || length + 4 > connection.pdata) return 0;
            connection.context = unread[4];
            connection.flags = unread[5];
            connection.pdv = length - 2;
            connection.pdata -= 6;
            connection.in_pdv = true;
            unread.clear();
            if (connection.pdv == 0 && !end_fragment(descriptor, connection)) return 0;
            return used;
        }
        if (wanted == 6 && unread[0] == 4) {
            connection.pdata = big32(&unread[2]);
            unread.clear();
            return connection.pdata >= 6 ? used : 0;
        }
        if (wanted == 6 && big32(&unread[2]) > 0) return used;
        const bool going_on = answer(descriptor, unread);
        unread.clear();
        return going_on ? used : 0;
    }

    std::size_t take_fragment(int descriptor, Connection& connection, const uint8_t* at,
                              std::size_t left) {
        const auto used = static_cast<std::size_t>(std::min<uint64_t>(left, connection.pdv));
        if (connection.flags & 1) {
            connection.command.insert(connection.command.end(), at, at + used);
            if (connection.command.size() > 16 * 1024) return 0;
        } else {
            totals_.bytes += used;
        }
        connection.pdv -= used;
        connection.pdata -= used;
        if (connection.pdv == 0 && !end_fragment(descriptor, connection)) return 0;
        return used;
    }

    bool end_fragment(int descriptor, Connection& connection) {
        connection.in_pdv = false;
        if (!(connection.flags & 2)) return true;
        if (connection.flags & 1) {
            bool has_data = false;
            const bool known = read_command(connection, has_data);
            connection.command.clear();
            if (!known) return false;
            if (has_data) return true;
        } else {
            ++totals_.instances;
        }
        totals_.last = now();
        return say(descriptor, response(connection));
    }

    bool answer(int descriptor, const Bytes& pdu) {
        if (pdu[0] == 1) {
            if (totals_.first == 0) totals_.first = now();
            ++totals_.associations;
            const Bytes accept = grant(pdu.data() + 6, pdu.size() - 6, pdu_bytes_advertised);
            return !accept.empty() && say(descriptor, accept);
        }
        if (pdu[0] == 5) return say(descriptor, {6, 0, 0, 0, 0, 4, 0, 0, 0, 0});
        return false;
    }

    Totals totals_;
    Bytes buffer_ = Bytes(read_bytes);
};

void watch(int set, int descriptor) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = descriptor;
    if (epoll_ctl(set, EPOLL_CTL_ADD, descriptor, &event) != 0) die("epoll_ctl");
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: acceptor PORT\n");
        return 2;
    }
    std::signal(SIGPIPE, SIG_IGN);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int asked = signalfd(-1, &signals, SFD_CLOEXEC);
    const int listener = load::listen_on(static_cast<uint16_t>(std::atoi(arguments[1])));
    if (listener < 0) die("listen");
    const int set = epoll_create1(EPOLL_CLOEXEC);
    watch(set, listener);
    watch(set, asked);
    Acceptor acceptor;
    std::map<int, Connection> connections;
    std::vector<epoll_event> events(64);
    for (;;) {
        const int ready = epoll_wait(set, events.data(), static_cast<int>(events.size()), -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; ++i) {
            const int descriptor = events[static_cast<std::size_t>(i)].data.fd;
            if (descriptor == asked) {
                signalfd_siginfo information{};
                if (read(asked, &information, sizeof information) > 0) acceptor.report();
            } else if (descriptor == listener) {
                const int one = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (one < 0) continue;
                const int yes = 1;
                setsockopt(one, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
                watch(set, one);
                connections[one];
            } else if (!acceptor.take(descriptor, connections[descriptor])) {
                connections.erase(descriptor);
                close(descriptor);
            }
        }
    }
}
