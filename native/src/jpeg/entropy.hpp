// Entropy-coded segments to differences: Huffman decoding of one restart interval after the other,
// the way jpeg/lanes.hpp describes. Promise: the same differences as symbol by symbol from the
// start, however the guesses turn out; work and memory bounded by the segment's length and a fixed
// window.
#pragma once

#include "jpeg/lanes.hpp"
#include "jpeg/predict.hpp"
#include "jpeg/segment.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace scai::jpeg {

// The buffers of one decoding thread.
struct Workspace {
    // Bytes of stream for each lane at a time. A symbol has at least one bit, which bounds the
    // differences; an image uses about an eighth of that room, which stays in the second-level
    // cache.
    static constexpr std::size_t lane_bytes = 8192;
    static constexpr std::size_t window_bytes = lane_bytes * lanes_max;
    static constexpr std::size_t padding_bytes = 64;  // zeros that may be peeked at behind the end
    static constexpr std::size_t lane_differences = lane_bytes * 8 + 256;
    static constexpr std::size_t records_max = 128;

    alignas(64) std::array<std::uint8_t, window_bytes + padding_bytes> window;
    std::array<std::array<std::uint16_t, lane_differences>, lanes_max> differences;
    std::array<std::array<std::uint32_t, records_max>, lanes_max> records;
};

class EntropyDecoder {
public:
    // `tables`: the one of each component of the scan. Prepares their fast halves.
    EntropyDecoder(Workspace& workspace, std::span<HuffmanTable* const> tables);

    // Decodes `count` differences into `rows`. Throws JpegError when the segment has fewer; returns
    // how many bytes of the segment were left over. `reader` is then at the segment's end.
    std::size_t decode_interval(SegmentReader& reader, std::uint64_t count, RowBuilder& rows);

private:
    void refill(SegmentReader& reader);
    void run_batch(std::uint64_t usable);
    void run_lanes(unsigned count);
    void follow(unsigned lane, std::uint64_t usable);
    std::size_t step_until_met(unsigned lane, std::size_t records);
    void finish_by_symbol();
    void step_to_invalid();
    bool step();
    void deliver(std::uint64_t from, const std::uint16_t* differences, std::size_t count);
    [[noreturn]] void fail_invalid() const;

    Workspace& space_;
    LaneTables shared_;
    const unsigned period_;  // symbols after which the tables repeat: 1 if there is but one
    unsigned group_;
    std::array<Lane, lanes_max> lanes_{};
    std::uint64_t position_ = 0;  // in bits, in the window: all before it is decoded and delivered
    std::size_t length_ = 0;      // bytes in the window
    std::uint64_t remaining_ = 0;
    unsigned phase_ = 0;  // which component is next, when stepping
    RowBuilder* rows_ = nullptr;
};

}  // namespace scai::jpeg
