// What carries a connection's bytes, as an intake reads it and answers go out over it: a socket, or
// a TLS session upon one. Never waits.
#pragma once

#include <sys/uio.h>
#include <cstddef>
#include <cstdint>
#include <span>

namespace scai {

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
    // How many were taken; 0: none now. A rest is to be offered again, first. SystemFailure: the
    // peer is gone.
    virtual std::size_t send(std::span<const std::byte> data) = 0;
    virtual int descriptor() const noexcept = 0;
};

}  // namespace scai
