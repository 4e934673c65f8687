// From differences to samples: the predictors of ITU-T T.81 H.1.2.1, row by row, into the caller's
// image. Fed by the entropy decoder with runs of differences of any length. Promise: writes only
// rows that lie in the image it was given; with none it only checks.
#pragma once

#include "jpeg/header.hpp"

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

// One row of one component.
struct Row {
    const std::uint16_t* differences = nullptr;
    const std::uint16_t* above = nullptr;  // none: the first row of an interval
    std::uint16_t* samples = nullptr;
    std::size_t count = 0;
    unsigned predictor = 1;
    std::uint32_t range = 0;  // a sample is below this
    std::uint8_t* to = nullptr;
    unsigned shift = 0;  // the point transform, undone
    std::size_t stride = 1;
    unsigned bytes_per_sample = 2;
};
using BuildRow = std::uint32_t (*)(const Row&);

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

    const Scan scan_;
    const Image image_;
    const unsigned columns_;
    const unsigned frame_components_;
    const std::size_t row_samples_;
    const std::uint32_t range_;
    const BuildRow build_;
    unsigned row_ = 0;
    bool first_row_ = true;
    std::size_t partial_ = 0;
    std::uint64_t out_of_range_ = 0;
    std::vector<std::uint16_t> partial_row_;
    std::vector<std::uint16_t> single_;    // one component's differences
    std::vector<std::uint16_t> samples_;   // this row of each component, then the row before
};

}  // namespace scai::jpeg
