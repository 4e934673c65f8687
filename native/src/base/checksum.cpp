// CRC-32C in two ways: the SSE4.2 instruction on three interleaved streams, or eight tables.
// The instruction has a latency of three cycles and a throughput of one, so three independent
// streams run three times as fast as one; their checksums are joined by a multiplication with
// x^(8n) modulo the polynomial, which is linear and therefore four table look-ups.
#include "base/checksum.hpp"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace scai {
namespace {

constexpr std::uint32_t polynomial = 0x82f63b78;  // reflected
using ByteTable = std::array<std::uint32_t, 256>;

constexpr std::array<ByteTable, 8> make_byte_tables() {
    std::array<ByteTable, 8> tables{};
    for (std::uint32_t value = 0; value < 256; ++value) {
        std::uint32_t crc = value;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? polynomial : 0);
        tables[0][value] = crc;
    }
    for (std::size_t table = 1; table < 8; ++table) {
        for (std::size_t value = 0; value < 256; ++value) {
            const std::uint32_t before = tables[table - 1][value];
            tables[table][value] = (before >> 8) ^ tables[0][before & 0xff];
        }
    }
    return tables;
}

constexpr std::array<ByteTable, 8> byte_tables = make_byte_tables();

std::uint32_t load_u32(const std::byte* from) noexcept {
    // Assembled, not copied: right on every byte order, and compilers make one load of it.
    return std::to_integer<std::uint32_t>(from[0]) | std::to_integer<std::uint32_t>(from[1]) << 8 |
           std::to_integer<std::uint32_t>(from[2]) << 16 |
           std::to_integer<std::uint32_t>(from[3]) << 24;
}

#if defined(__x86_64__)

// Bytes of one of three streams: the first amortises the join over 12 KiB, the second serves
// what is too short for it.
constexpr std::size_t long_stream_bytes = 4096;
constexpr std::size_t short_stream_bytes = 256;

using Matrix = std::array<std::uint32_t, 32>;  // a linear map on 32 bits, by its columns
using ShiftTables = std::array<ByteTable, 4>;  // the same map, by the four bytes of its argument

constexpr std::uint32_t apply(const Matrix& matrix, std::uint32_t vector) {
    std::uint32_t sum = 0;
    for (std::size_t bit = 0; vector != 0; ++bit, vector >>= 1) {
        if (vector & 1) sum ^= matrix[bit];
    }
    return sum;
}

constexpr Matrix square(const Matrix& matrix) {
    Matrix result{};
    for (std::size_t bit = 0; bit < 32; ++bit) result[bit] = apply(matrix, matrix[bit]);
    return result;
}

// The effect on a checksum of `bytes` zero bytes; `bytes` is a power of two.
constexpr ShiftTables make_shift_tables(std::size_t bytes) {
    Matrix shift{};
    shift[0] = polynomial;
    for (std::size_t bit = 1; bit < 32; ++bit) shift[bit] = 1u << (bit - 1);
    for (std::size_t bits = 1; bits < 8 * bytes; bits *= 2) shift = square(shift);
    ShiftTables tables{};
    for (std::size_t part = 0; part < 4; ++part) {
        for (std::size_t bit = 0; bit < 8; ++bit) {
            for (std::size_t low = 0; low < (std::size_t{1} << bit); ++low) {
                const std::size_t value = low | (std::size_t{1} << bit);
                tables[part][value] = tables[part][low] ^ shift[8 * part + bit];
            }
        }
    }
    return tables;
}

constexpr ShiftTables long_shift = make_shift_tables(long_stream_bytes);
constexpr ShiftTables short_shift = make_shift_tables(short_stream_bytes);

std::uint32_t shifted(const ShiftTables& tables, std::uint64_t crc) noexcept {
    return tables[0][crc & 0xff] ^ tables[1][(crc >> 8) & 0xff] ^ tables[2][(crc >> 16) & 0xff] ^
           tables[3][(crc >> 24) & 0xff];
}

std::uint64_t load_u64(const std::byte* from) noexcept {
    std::uint64_t value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

__attribute__((target("sse4.2"))) std::uint64_t three_streams(
    const std::byte*& from, std::size_t& left, std::size_t stream, const ShiftTables& shift,
    std::uint64_t crc) noexcept {
    while (left >= 3 * stream) {
        std::uint64_t second = 0;
        std::uint64_t third = 0;
        for (std::size_t at = 0; at < stream; at += 8) {
            crc = _mm_crc32_u64(crc, load_u64(from + at));
            second = _mm_crc32_u64(second, load_u64(from + stream + at));
            third = _mm_crc32_u64(third, load_u64(from + 2 * stream + at));
        }
        crc = shifted(shift, crc) ^ second;
        crc = shifted(shift, crc) ^ third;
        from += 3 * stream;
        left -= 3 * stream;
    }
    return crc;
}

__attribute__((target("sse4.2"))) std::uint32_t crc32c_by_instruction(
    std::span<const std::byte> data, std::uint32_t seed) noexcept {
    const std::byte* from = data.data();
    std::size_t left = data.size();
    std::uint64_t crc = static_cast<std::uint32_t>(~seed);
    crc = three_streams(from, left, long_stream_bytes, long_shift, crc);
    crc = three_streams(from, left, short_stream_bytes, short_shift, crc);
    for (; left >= 8; from += 8, left -= 8) crc = _mm_crc32_u64(crc, load_u64(from));
    auto narrow = static_cast<std::uint32_t>(crc);
    for (; left > 0; ++from, --left) {
        narrow = _mm_crc32_u8(narrow, std::to_integer<std::uint8_t>(*from));
    }
    return ~narrow;
}

#endif

using Implementation = std::uint32_t (*)(std::span<const std::byte>, std::uint32_t) noexcept;

Implementation choose() noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2")) return crc32c_by_instruction;
#endif
    return crc32c_by_table;
}

}  // namespace

std::uint32_t crc32c_by_table(std::span<const std::byte> data, std::uint32_t seed) noexcept {
    const std::byte* from = data.data();
    std::size_t left = data.size();
    std::uint32_t crc = ~seed;
    for (; left >= 8; from += 8, left -= 8) {
        const std::uint32_t low = load_u32(from) ^ crc;
        const std::uint32_t high = load_u32(from + 4);
        crc = byte_tables[7][low & 0xff] ^ byte_tables[6][(low >> 8) & 0xff] ^
              byte_tables[5][(low >> 16) & 0xff] ^ byte_tables[4][low >> 24] ^
              byte_tables[3][high & 0xff] ^ byte_tables[2][(high >> 8) & 0xff] ^
              byte_tables[1][(high >> 16) & 0xff] ^ byte_tables[0][high >> 24];
    }
    for (; left > 0; ++from, --left) {
        crc = (crc >> 8) ^ byte_tables[0][(crc ^ std::to_integer<std::uint32_t>(*from)) & 0xff];
    }
    return ~crc;
}

std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t seed) noexcept {
    static const Implementation implementation = choose();
    return implementation(data, seed);
}

}  // namespace scai
