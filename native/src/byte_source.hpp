// Where an intake's bytes come from: a socket, or a TLS session upon one.
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
        broken  // what came is not to be trusted: the source says why
    };
    Kind kind = Kind::none;
    std::size_t count = 0;
};

class ByteSource {
public:
    virtual ~ByteSource() = default;
    // Before the reads of one turn, which shall take about `budget` bytes.
    virtual void begin_turn(std::size_t budget) = 0;
    // Fills the parts in their order; may stop anywhere.
    virtual Reading read(std::span<const iovec> parts) = 0;
    virtual int descriptor() const noexcept = 0;
};

}  // namespace scai
