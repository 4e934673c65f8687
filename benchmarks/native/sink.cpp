// The floor: the least a storage server could do, and less than any server may do.
//
// usage: sink discard|file|sync PORT INSTANCE_WIRE_BYTES [DIRECTORY]. Listens on 127.0.0.1, grants
// every association, takes INSTANCE_WIRE_BYTES off the socket for each instance without looking at
// them, writes them to a file of their own (`file`; `sync` also syncs it) or forgets them
// (`discard`), and answers success. What it writes is no DICOM file: it bounds what others can do.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "answers.hpp"

namespace {

using load::Bytes;
using load::say;

constexpr std::size_t read_bytes = 256 * 1024;

enum class Mode { discard, file, sync };

struct Sink {
    Mode mode{};
    uint64_t instance_bytes{};
    std::string directory;
    uint64_t files{};
    Bytes buffer = Bytes(read_bytes);
};

struct Connection {
    bool associated{};
    uint64_t left{};  // of the instance under way
    int file{-1};
    uint16_t message_id{};
    Bytes request;  // the association request, until it is whole
};

[[noreturn]] void die(const char* what) {
    std::fprintf(stderr, "sink: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

bool answer(int descriptor, uint16_t message_id) {
    Bytes pdu{4, 0, 0, 0, 0, 58, 0, 0, 0, 54, 1, 3};
    auto element = [&](uint16_t number, uint32_t value, uint8_t size) {
        pdu.insert(pdu.end(), {0, 0, static_cast<uint8_t>(number),
                               static_cast<uint8_t>(number >> 8), size, 0, 0, 0});
        for (int i = 0; i < size; ++i) pdu.push_back(static_cast<uint8_t>(value >> 8 * i));
    };
    element(0x0000, 40, 4);
    element(0x0100, 0x8001, 2);
    element(0x0120, message_id, 2);
    element(0x0800, 0x0101, 2);
    element(0x0900, 0, 2);
    return say(descriptor, pdu);
}

void begin(Sink& sink, Connection& connection) {
    connection.left = sink.instance_bytes;
    if (sink.mode == Mode::discard) return;
    const std::string path = sink.directory + "/" + std::to_string(++sink.files);
    connection.file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (connection.file < 0) die(path.c_str());
}

bool finish(Sink& sink, Connection& connection, int descriptor) {
    if (connection.file >= 0) {
        if (sink.mode == Mode::sync && fdatasync(connection.file) != 0) die("fdatasync");
        if (close(connection.file) != 0) die("close");
        connection.file = -1;
    }
    return answer(descriptor, ++connection.message_id);
}

// One read and what follows from it. False: the connection is over.
bool serve(Sink& sink, Connection& connection, int descriptor) {
    const ssize_t got = recv(descriptor, sink.buffer.data(), sink.buffer.size(), 0);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    const uint8_t* bytes = sink.buffer.data();
    auto left = static_cast<uint64_t>(got);
    if (!connection.associated) {
        Bytes& request = connection.request;
        request.insert(request.end(), bytes, bytes + left);
        if (request.size() < 74) return true;
        const std::size_t size = static_cast<std::size_t>(request[4] << 8 | request[5]);
        if (request[0] != 1 || request[2] != 0 || request[3] != 0) return false;
        if (request.size() < 6 + size) return true;
        const Bytes accept = load::grant(&request[6], request.size() - 6, 0);  // any PDU length
        connection.associated = true;
        return !accept.empty() && say(descriptor, accept);
    }
    while (left > 0) {
        if (connection.left == 0) {
            if (bytes[0] != 4) {
                say(descriptor, {6, 0, 0, 0, 0, 4, 0, 0, 0, 0});
                return false;
            }
            begin(sink, connection);
        }
        const uint64_t take = std::min(left, connection.left);
        for (uint64_t written = 0; connection.file >= 0 && written < take;) {
            const ssize_t count = write(connection.file, bytes + written, take - written);
            if (count < 0) die("write");
            written += static_cast<uint64_t>(count);
        }
        bytes += take, left -= take, connection.left -= take;
        if (connection.left == 0 && !finish(sink, connection, descriptor)) return false;
    }
    return true;
}

// Waits for connections and their bytes until it is told to end.
[[noreturn]] void serve_all(Sink& sink, int listener) {
    const int poll = epoll_create1(EPOLL_CLOEXEC);
    std::map<int, Connection> connections;
    auto watch = [&](int descriptor) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = descriptor;
        epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event);
    };
    auto accept_one = [&] {
        const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted < 0) return;
        const int on = 1;
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections.try_emplace(accepted);
        watch(accepted);
    };
    watch(listener);
    for (;;) {
        epoll_event events[64];
        const int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; ++i) {
            const int descriptor = events[i].data.fd;
            if (descriptor == listener) {
                accept_one();
            } else if (!serve(sink, connections[descriptor], descriptor)) {
                if (connections[descriptor].file >= 0) close(connections[descriptor].file);
                connections.erase(descriptor);
                close(descriptor);
            }
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::map<std::string, Mode> modes{
        {"discard", Mode::discard}, {"file", Mode::file}, {"sync", Mode::sync}};
    if (count < 4 || !modes.contains(arguments[1]) ||
        (modes.at(arguments[1]) != Mode::discard && count < 5)) {
        std::fprintf(stderr, "usage: sink discard|file|sync PORT INSTANCE_WIRE_BYTES [DIR]\n");
        return 2;
    }
    Sink sink;
    sink.mode = modes.at(arguments[1]);
    sink.instance_bytes = std::strtoull(arguments[3], nullptr, 10);
    if (sink.instance_bytes == 0) return 2;
    if (count > 4) sink.directory = arguments[4];
    const int listener = load::listen_on(static_cast<uint16_t>(std::atoi(arguments[2])));
    if (listener < 0) die("listen");
    std::signal(SIGTERM, [](int) { _exit(0); });
    serve_all(sink, listener);
}
