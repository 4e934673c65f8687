// The bytes of one entropy-coded segment (ITU-T T.81 B.1.1.5) with the stuffed zeros taken out, in
// pieces of whatever size the caller has room for. Promise: stops before the first marker or at the
// stream's end, whichever comes first, and never reads beyond it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace scai::jpeg {

class SegmentReader {
public:
    SegmentReader(std::span<const std::uint8_t> stream, std::size_t position)
        : next_(stream.data() + position), end_(stream.data() + stream.size()),
          begin_(stream.data()) {}

    // Fills `room` but for the last seven bytes, or less at the segment's end.
    std::size_t fill(std::uint8_t* to, std::size_t room) noexcept {
        std::size_t filled = 0;
        while (filled + 8 <= room && !ended_) {
            if (end_ - next_ >= 8) {
                std::uint64_t word;
                std::memcpy(&word, next_, sizeof word);
                std::memcpy(to + filled, &word, sizeof word);
                // Exact for the question whether any byte is FF.
                if (((~word - ones) & word & tops) == 0) {
                    next_ += 8;
                    filled += 8;
                    continue;
                }
            }
            filled += step(to + filled);
        }
        return filled;
    }

    // No more bytes: position() is a marker's first FF, or the stream's end.
    bool ended() const noexcept { return ended_; }
    std::size_t position() const noexcept { return static_cast<std::size_t>(next_ - begin_); }

    // Passes over what is left of the segment; how many bytes of data that was.
    std::size_t skip() noexcept {
        std::size_t skipped = 0;
        std::uint8_t dropped[8];
        while (!ended_) skipped += step(dropped);
        return skipped;
    }

    // At a marker's first FF: true if it is this restart marker (0 to 7); the reader then stands
    // at the segment behind it.
    bool pass_restart(unsigned number) noexcept {
        const std::uint8_t* after = next_;
        while (after != end_ && *after == 0xff) ++after;
        if (!ended_ || after == end_ || *after != 0xd0 + number) return false;
        next_ = after + 1;
        ended_ = false;
        return true;
    }

private:
    static constexpr std::uint64_t ones = 0x0101010101010101;
    static constexpr std::uint64_t tops = 0x8080808080808080;

    // Bytes up to and with the next FF, at most eight.
    std::size_t step(std::uint8_t* to) noexcept {
        for (std::size_t count = 0; count < 8; ++count) {
            if (next_ == end_) {
                ended_ = true;
                return count;
            }
            to[count] = *next_;
            if (*next_ != 0xff) {
                ++next_;
                continue;
            }
            // Any number of FFs may stand before a marker as fill bytes; before a zero they are
            // one byte of data, as in the Independent JPEG Group's decoder.
            const std::uint8_t* after = next_ + 1;
            while (after != end_ && *after == 0xff) ++after;
            if (after == end_ || *after != 0) {
                ended_ = true;
                return count;
            }
            next_ = after + 1;
            return count + 1;
        }
        return 8;
    }

    const std::uint8_t* next_;
    const std::uint8_t* end_;
    const std::uint8_t* begin_;
    bool ended_ = false;
};

}  // namespace scai::jpeg
