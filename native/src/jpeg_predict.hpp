// From differences to samples: the predictors of ITU-T T.81 H.1.2.1, row by row, into the caller's
// image. Fed by the entropy decoder with runs of differences of any length. Promise: writes only
// rows that lie in the image it was given; with none it only checks.
#pragma once

#include "jpeg_header.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace scai::jpeg {

// Where samples go: colour by pixel, rows without gaps, little endian. Empty `bytes`: nowhere.
struct Image {
    std::span<std::uint8_t> bytes;
    unsigned bytes_per_sample = 2;
};

class RowBuilder {
public:
    RowBuilder(const Frame& frame, const Scan& scan, Image image);

    // A restart interval begins: the next row is predicted as a first one.
    void begin_interval() noexcept { first_row_ = true; }
    // The next differences, components interleaved as in the scan.
    void take(const std::uint16_t* differences, std::size_t count);

    std::uint64_t taken() const noexcept { return std::uint64_t{row_} * row_samples_ + partial_; }
    // Samples that do not fit the precision in the header: a damaged stream, or a false header.
    std::uint64_t out_of_range() const noexcept { return out_of_range_; }

private:
    void build_row(const std::uint16_t* differences);
    void store_row(const std::uint16_t* samples, unsigned component);

    const Scan scan_;
    const Image image_;
    const unsigned columns_;
    const unsigned frame_components_;
    const std::size_t row_samples_;
    const unsigned range_shift_;
    const std::uint16_t initial_;
    unsigned row_ = 0;
    bool first_row_ = true;
    std::size_t partial_ = 0;
    std::uint64_t out_of_range_ = 0;
    std::vector<std::uint16_t> partial_row_;
    std::vector<std::uint16_t> single_;    // one component's differences
    std::vector<std::uint16_t> samples_;   // this row of each component, then the row before
};

}  // namespace scai::jpeg
