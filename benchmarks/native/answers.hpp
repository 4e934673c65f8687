// The little a receiver must do before it receives: listen, and grant associations.
//
// Promises: never reads beyond what it is given; a request it cannot read is granted nothing.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "wire.hpp"

namespace load {

inline void append_item(Bytes& to, uint8_t type, const Bytes& value) {
    to.insert(to.end(), {type, 0, static_cast<uint8_t>(value.size() >> 8),
                         static_cast<uint8_t>(value.size())});
    to.insert(to.end(), value.begin(), value.end());
}

inline void append_big32(Bytes& to, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<uint8_t>(value >> shift));
}

// An A-ASSOCIATE-AC that grants each context its first transfer syntax, or nothing if malformed.
// `body` is an A-ASSOCIATE-RQ without its six-byte PDU header (PS3.8 9.3.2); `pdu_bytes` is what
// is taken at most, 0: anything.
inline Bytes grant(const uint8_t* body, std::size_t size, uint32_t pdu_bytes) {
    if (size < 68) return {};
    Bytes answer(body, body + 68);  // version, titles: as they came
    for (std::size_t at = 68; at + 4 <= size;) {
        const std::size_t length = big16(body + at + 2);
        if (at + 4 + length > size) return {};
        const uint8_t* item = body + at + 4;
        if (body[at] == 0x10) append_item(answer, 0x10, Bytes(item, item + length));
        for (std::size_t sub = 4; body[at] == 0x20 && sub + 4 <= length;) {
            const std::size_t bytes = big16(item + sub + 2);
            if (sub + 4 + bytes > length) return {};
            if (item[sub] == 0x40) {
                Bytes value{item[0], 0, 0, 0};
                append_item(value, 0x40, Bytes(item + sub + 4, item + sub + 4 + bytes));
                append_item(answer, 0x21, value);
                break;
            }
            sub += 4 + bytes;
        }
        at += 4 + length;
    }
    Bytes limit, user;
    append_big32(limit, pdu_bytes);
    append_item(user, 0x51, limit);
    const std::string uid = "2.25.4711.9";  // an implementation class UID is mandatory
    append_item(user, 0x52, Bytes(uid.begin(), uid.end()));
    append_item(answer, 0x50, user);
    Bytes pdu{2, 0};
    append_big32(pdu, static_cast<uint32_t>(answer.size()));
    pdu.insert(pdu.end(), answer.begin(), answer.end());
    return pdu;
}

// What is said is short: a peer that does not take it at once has stopped reading.
inline bool say(int descriptor, const Bytes& bytes) {
    return send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
}

// A non-blocking listener on 127.0.0.1, or -1 and errno.
inline int listen_on(uint16_t port) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return -1;
    return listen(listener, 128) == 0 ? listener : -1;
}

}  // namespace load
