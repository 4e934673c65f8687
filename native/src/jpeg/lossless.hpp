// JPEG Lossless, process 14 (ITU-T T.81 annex H), all predictors: one stream to samples, many
// frames on several threads, or a check that keeps nothing. Called by bindings/jpeg.cpp and the
// fuzzer. Promise: every sample of the image is written or JpegError is thrown; hostile streams
// cost no more time and memory than honest ones of their length.
#pragma once

#include "jpeg/header.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace scai::jpeg {

// What the data set says about the pixels; the stream must say the same.
struct Expected {
    unsigned rows = 0;
    unsigned columns = 0;
    unsigned samples = 0;         // per pixel
    unsigned bits_allocated = 0;  // 8 or 16
};

struct Validation {
    Frame frame;
    unsigned predictor = 0;
    unsigned point_transform = 0;
    unsigned intervals = 0;               // restart intervals, of all scans
    std::uint64_t samples_out_of_range = 0;
};

// The bytes of one decoded frame, up to 34 GB: who makes room for them has a bound. Throws when the
// expectation itself is impossible.
std::size_t frame_bytes(const Expected& expected);

// Throws unless the stream's header agrees and its length could hold that many samples: to be asked
// before room is made for the image.
void check_header(std::span<const std::uint8_t> stream, const Expected& expected);

// Decodes into `image`, which has frame_bytes().
void decode(std::span<const std::uint8_t> stream, const Expected& expected,
            std::span<std::uint8_t> image);

inline constexpr unsigned threads_max = 64;

// Decodes frames into `images`, one behind the other, on at most `threads` threads (the caller's is
// one of them). The error of the first frame that has one is thrown.
void decode_frames(std::span<const std::span<const std::uint8_t>> streams, const Expected& expected,
                   std::span<std::uint8_t> images, unsigned threads);

// Decodes all and keeps nothing. Throws what decode() would, and where data is left over.
Validation validate(std::span<const std::uint8_t> stream);

}  // namespace scai::jpeg
