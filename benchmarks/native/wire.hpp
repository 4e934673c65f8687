// The little a sender must read: what an A-ASSOCIATE-AC, a C-STORE-RSP and a refusal say.
//
// Promises: never reads beyond what it is given; a message it cannot read is a failure with a name.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>

#include "plan.hpp"

namespace load {

inline uint32_t big32(const uint8_t* p) {
    return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}
inline uint16_t big16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
inline uint16_t little16(const uint8_t* p) { return static_cast<uint16_t>(p[1] << 8 | p[0]); }
inline uint32_t little32(const uint8_t* p) {
    return uint32_t{p[3]} << 24 | uint32_t{p[2]} << 16 | uint32_t{p[1]} << 8 | p[0];
}

struct Accepted {
    std::map<uint8_t, uint8_t> results;  // presentation context -> result, 0 is acceptance
    uint32_t pdu_bytes{};                // what the peer takes at most, 0: anything
};

// `body` is an A-ASSOCIATE-AC without its six-byte PDU header (PS3.8 9.3.3).
inline std::optional<Accepted> read_accept(const uint8_t* body, std::size_t size) {
    Accepted accepted;
    std::size_t at = 68;
    while (at + 4 <= size) {
        uint8_t type = body[at];
        std::size_t length = big16(body + at + 2);
        const uint8_t* item = body + at + 4;
        if (at + 4 + length > size) return std::nullopt;
        if (type == 0x21 && length >= 4) accepted.results[item[0]] = item[2];
        if (type == 0x50) {
            for (std::size_t sub = 0; sub + 8 <= length && item[sub] != 0;) {
                if (item[sub] == 0x51) accepted.pdu_bytes = big32(item + sub + 4);
                sub += 4 + big16(item + sub + 2);
            }
        }
        at += 4 + length;
    }
    return at == size ? std::optional(accepted) : std::nullopt;
}

struct Response {
    uint16_t message_id{};
    uint16_t status{};
};

// A command set in Implicit VR Little Endian; only a C-STORE-RSP with both fields is an answer.
inline std::optional<Response> read_response(const Bytes& command) {
    Response response;
    int found = 0;
    std::size_t at = 0;
    while (at + 8 <= command.size()) {
        uint32_t tag = uint32_t{little16(&command[at])} << 16 | little16(&command[at + 2]);
        std::size_t length = little32(&command[at + 4]);
        at += 8;
        if (at + length > command.size()) return std::nullopt;
        if (length == 2) {
            uint16_t value = little16(&command[at]);
            if (tag == 0x0100 && value == 0x8001) ++found;
            if (tag == 0x0120) ++found, response.message_id = value;
            if (tag == 0x0900) ++found, response.status = value;
        }
        at += length;
    }
    return found == 3 ? std::optional(response) : std::nullopt;
}

inline std::string refusal(uint8_t pdu_type, const uint8_t* body, std::size_t size) {
    if (size < 4) return "unreadable PDU";
    auto number = [&](int at) { return std::to_string(body[at]); };
    if (pdu_type == 0x03) return "rejected " + number(1) + "/" + number(2) + "/" + number(3);
    if (pdu_type == 0x07) return "aborted by peer " + number(2) + "/" + number(3);
    return "unexpected PDU " + std::to_string(pdu_type);
}

}  // namespace load
