// What carries a connection's bytes, as a cutter reads it and answers go out over it: a socket, or
// a TLS session upon one. Never waits.
#pragma once

#include <sys/uio.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/base.hpp"

namespace scai {

// The connection is gone, by the peer's doing or the network's. Any other SystemFailure of a stream
// is a fault of ours, and not to be taken for that.
class ConnectionLost : public SystemFailure {
public:
    using SystemFailure::SystemFailure;
};

// What recv(2), send(2) and the ICMP errors of tcp(7) say of a connection, not of us. Python's
// twin is in workers/receiver/transport.py.
inline bool is_connection_loss(int code) noexcept {
    switch (code) {
        case ECONNRESET:
        case ECONNABORTED:
        case ECONNREFUSED:
        case EPIPE:
        case ENOTCONN:
        case ETIMEDOUT:
        case EPROTO:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENETDOWN:
        case ENETUNREACH:
        case ENETRESET:
            return true;
        default:
            return false;
    }
}

// Throws what `code` means; returns where the kernel is short of memory, which passes.
inline void judge_failure(int code, const char* doing) {
    if (code == ENOMEM || code == ENOBUFS) return;
    if (is_connection_loss(code)) throw ConnectionLost(code, doing);
    throw SystemFailure(code, doing);
}

// What one read came to.
struct Reading {
    enum class Kind : std::uint8_t {
        bytes,
        none,   // there are none now
        end,    // the peer closed its side
        broken  // what came is not to be trusted: the stream says why
    };
    Kind kind = Kind::none;
    std::size_t count = 0;
    bool last = false;  // of `bytes`: there were no more at that moment
};

class ByteStream {
public:
    virtual ~ByteStream() = default;
    // Before the reads of one turn, which shall take about `budget` bytes.
    virtual void begin_turn(std::size_t budget) = 0;
    // Fills the parts in their order; may stop anywhere.
    virtual Reading read(std::span<const iovec> parts) = 0;
    // How many were taken; 0: none now. A rest is to be offered again, first. Both may throw
    // ConnectionLost.
    virtual std::size_t send(std::span<const std::byte> data) = 0;
    virtual int descriptor() const noexcept = 0;
};

}  // namespace scai
