// The marker segments of a lossless JPEG stream (ITU-T T.81 annex B): read in order, each length
// checked, into a description of the frame and of the scan that comes next. Called by the decoder
// before anything is allocated. Promise: no read outside the stream, no loop without progress.
#pragma once

#include "jpeg/huffman.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace scai::jpeg {

inline constexpr unsigned components_max = 4;

struct Frame {
    unsigned rows = 0;
    unsigned columns = 0;
    unsigned components = 0;
    unsigned precision = 0;
    std::array<std::uint8_t, components_max> identifiers{};
    bool unit_sampling = true;  // every component has the sampling factors 1x1

    std::uint64_t samples() const noexcept {
        return std::uint64_t{rows} * columns * components;
    }
};

struct Scan {
    unsigned components = 0;
    std::array<std::uint8_t, components_max> component{};  // index into the frame
    std::array<std::uint8_t, components_max> table{};
    unsigned predictor = 0;
    unsigned point_transform = 0;
};

class HeaderReader {
public:
    explicit HeaderReader(std::span<const std::uint8_t> stream) : stream_(stream) {}

    // Reads up to the frame header. Throws when this is not a lossless Huffman stream.
    void read_frame();
    // Reads up to the next scan's entropy-coded data; false: the stream ends before another scan.
    bool read_scan();

    const Frame& frame() const noexcept { return frame_; }
    const Scan& scan() const noexcept { return scan_; }
    unsigned restart_interval() const noexcept { return restart_interval_; }
    HuffmanTable& table(unsigned index) { return tables_[index]; }

    // Where the next marker, or the entropy-coded data, begins.
    std::size_t position() const noexcept { return position_; }
    void seek(std::size_t position) noexcept { position_ = position; }

private:
    unsigned next_marker();
    std::span<const std::uint8_t> segment(const char* name);
    bool read_table_or_other(unsigned marker);
    void read_start_of_frame();
    void read_start_of_scan();
    void read_huffman_tables();
    void read_restart_interval();
    std::string here() const;
    [[noreturn]] void fail(const std::string& what) const;
    [[noreturn]] void refuse(const std::string& what) const;

    std::span<const std::uint8_t> stream_;
    std::size_t position_ = 0;
    Frame frame_;
    Scan scan_;
    unsigned restart_interval_ = 0;
    std::array<HuffmanTable, 4> tables_;
};

}  // namespace scai::jpeg
