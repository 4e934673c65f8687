// The predictors; see jpeg/predict.hpp. 1, 4 and 5 are running sums of something that is known
// before the row, and are computed eight samples at a time. 2 and 3 need no sum. 6 and 7 halve a
// sum with the sample before and remain serial. All arithmetic is modulo 2^16, as the standard has
// it.
#include "jpeg/predict.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace scai::jpeg {
namespace {

static_assert(std::endian::native == std::endian::little, "samples are stored as in memory");

using Eight = std::uint16_t __attribute__((vector_size(16)));

// The loops over a row are compiled for every processor and once more for those with AVX2.
#define SCAI_ROW_LOOP [[gnu::always_inline]] inline

// out[i] = start + in[0] + ... + in[i]. `in` and `out` may be the same.
SCAI_ROW_LOOP void running_sum(const std::uint16_t* in, std::uint16_t* out, std::size_t count,
                               std::uint16_t start) {
    Eight carry;
    for (int lane = 0; lane < 8; ++lane) carry[lane] = start;
    const Eight zero{};
    std::size_t index = 0;
    for (; index + 8 <= count; index += 8) {
        Eight sum;
        std::memcpy(&sum, in + index, sizeof sum);
        sum += __builtin_shufflevector(zero, sum, 0, 8, 9, 10, 11, 12, 13, 14);
        sum += __builtin_shufflevector(zero, sum, 0, 0, 8, 9, 10, 11, 12, 13);
        sum += __builtin_shufflevector(zero, sum, 0, 0, 0, 0, 8, 9, 10, 11);
        sum += carry;
        std::memcpy(out + index, &sum, sizeof sum);
        carry = __builtin_shufflevector(sum, sum, 7, 7, 7, 7, 7, 7, 7, 7);
    }
    std::uint16_t last = carry[7];
    for (; index < count; ++index) out[index] = last = static_cast<std::uint16_t>(last + in[index]);
}

// A row that is not an interval's first begins with the sample above; then the predictor holds.
SCAI_ROW_LOOP void predict_row(unsigned predictor, const std::uint16_t* in,
                               const std::uint16_t* above, std::uint16_t* out, std::size_t count) {
    if (predictor == 1) return running_sum(in, out, count, above[0]);
    out[0] = static_cast<std::uint16_t>(above[0] + in[0]);
    switch (predictor) {
        case 2:
            for (std::size_t i = 1; i < count; ++i) {
                out[i] = static_cast<std::uint16_t>(in[i] + above[i]);
            }
            return;
        case 3:
            for (std::size_t i = 1; i < count; ++i) {
                out[i] = static_cast<std::uint16_t>(in[i] + above[i - 1]);
            }
            return;
        case 4:
            for (std::size_t i = 1; i < count; ++i) {
                out[i] = static_cast<std::uint16_t>(in[i] + above[i] - above[i - 1]);
            }
            return running_sum(out + 1, out + 1, count - 1, out[0]);
        case 5:
            for (std::size_t i = 1; i < count; ++i) {
                out[i] = static_cast<std::uint16_t>(in[i] + ((above[i] - above[i - 1]) >> 1));
            }
            return running_sum(out + 1, out + 1, count - 1, out[0]);
        case 6:
            for (std::size_t i = 1; i < count; ++i) {
                const int half = (out[i - 1] - above[i - 1]) >> 1;
                out[i] = static_cast<std::uint16_t>(in[i] + above[i] + half);
            }
            return;
        default:
            for (std::size_t i = 1; i < count; ++i) {
                out[i] = static_cast<std::uint16_t>(in[i] + ((out[i - 1] + above[i]) >> 1));
            }
    }
}

// Samples to their places, `Stride` apart. A constant stride, and the word that the image is
// nowhere else, let the compiler use whole vectors.
template <class Sample, std::size_t Stride>
SCAI_ROW_LOOP void store_apart(const Row& row) {
    const std::uint16_t* __restrict const samples = row.samples;
    std::uint8_t* __restrict const to = row.to;
    const std::size_t count = row.count;
    const unsigned shift = row.shift;
    for (std::size_t index = 0; index < count; ++index) {
        const auto value = static_cast<Sample>(samples[index] << shift);
        std::memcpy(to + index * Stride * sizeof value, &value, sizeof value);
    }
}

template <class Sample>
SCAI_ROW_LOOP void store(const Row& row) {
    if (sizeof(Sample) == 2 && row.stride == 1 && row.shift == 0) {
        std::memcpy(row.to, row.samples, row.count * 2);
        return;
    }
    switch (row.stride) {
        case 1: return store_apart<Sample, 1>(row);
        case 2: return store_apart<Sample, 2>(row);
        case 3: return store_apart<Sample, 3>(row);
        default: return store_apart<Sample, components_max>(row);
    }
}

// Returns how many samples are out of range.
SCAI_ROW_LOOP std::uint32_t build(const Row& row) {
    if (row.above == nullptr) {
        // An interval's first row: from the left, the first sample from the middle of the range.
        const auto middle = static_cast<std::uint16_t>(row.range / 2);
        running_sum(row.differences, row.samples, row.count, middle);
    } else {
        predict_row(row.predictor, row.differences, row.above, row.samples, row.count);
    }
    std::uint16_t bits = 0;
    for (std::size_t index = 0; index < row.count; ++index) bits |= row.samples[index];
    std::uint32_t out_of_range = 0;
    if (bits >= row.range) [[unlikely]] {
        for (std::size_t index = 0; index < row.count; ++index) {
            out_of_range += row.samples[index] >= row.range;
        }
    }
    if (row.to == nullptr) return out_of_range;
    if (row.bytes_per_sample == 1) {
        store<std::uint8_t>(row);
    } else {
        store<std::uint16_t>(row);
    }
    return out_of_range;
}

std::uint32_t build_any(const Row& row) { return build(row); }

#if defined(__x86_64__)
[[gnu::target("arch=x86-64-v3")]] std::uint32_t build_v3(const Row& row) { return build(row); }
#endif

// One component's differences out of those of all in a scan.
void take_apart(const std::uint16_t* from, unsigned components, std::span<std::uint16_t> to) {
    if (components == 3) {  // colour, nearly always
        for (std::size_t index = 0; index < to.size(); ++index) to[index] = from[index * 3];
        return;
    }
    for (std::size_t index = 0; index < to.size(); ++index) to[index] = from[index * components];
}

BuildRow choose_build() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return build_v3;
#endif
    return build_any;
}

}  // namespace

RowBuilder::RowBuilder(const Frame& frame, const Scan& scan, Image image)
    : scan_(scan), image_(image), columns_(frame.columns), frame_components_(frame.components),
      row_samples_(std::size_t{frame.columns} * scan.components),
      range_(1u << (frame.precision - scan.point_transform)), build_(choose_build()),
      partial_row_(row_samples_), single_(scan.components > 1 ? columns_ : 0),
      samples_(row_samples_ * 2) {}

void RowBuilder::take(const std::uint16_t* differences, std::size_t count) {
    if (partial_ > 0) {
        const std::size_t part = std::min(count, row_samples_ - partial_);
        std::copy_n(differences, part, partial_row_.data() + partial_);
        differences += part;
        count -= part;
        partial_ += part;
        if (partial_ < row_samples_) return;
        partial_ = 0;
        build_row(partial_row_.data());
    }
    for (; count >= row_samples_; count -= row_samples_, differences += row_samples_) {
        build_row(differences);
    }
    std::copy_n(differences, count, partial_row_.begin());
    partial_ = count;
}

void RowBuilder::build_row(const std::uint16_t* differences) {
    for (unsigned component = 0; component < scan_.components; ++component) {
        Row row;
        row.differences = differences;
        if (scan_.components > 1) {
            take_apart(differences + component, scan_.components, single_);
            row.differences = single_.data();
        }
        std::uint16_t* const pair = samples_.data() + std::size_t{component} * 2 * columns_;
        row.samples = pair + (row_ % 2) * columns_;
        row.above = first_row_ ? nullptr : pair + ((row_ + 1) % 2) * columns_;
        row.count = columns_;
        row.predictor = scan_.predictor;
        row.range = range_;
        row.shift = scan_.point_transform;
        row.stride = frame_components_;
        row.bytes_per_sample = image_.bytes_per_sample;
        if (!image_.bytes.empty()) {
            const std::size_t first = std::size_t{row_} * columns_ * frame_components_;
            row.to = image_.bytes.data() +
                     (first + scan_.component[component]) * image_.bytes_per_sample;
        }
        out_of_range_ += build_(row);
    }
    first_row_ = false;
    ++row_;
}

}  // namespace scai::jpeg
