// The code tables of lossless JPEG (ITU-T T.81 annexes C and H): built from a DHT segment, then
// read by the entropy decoder. Promise: a table that was built has no overlapping codes and names
// only difference categories 0 to 16; whatever bits are looked up, nothing outside the table is
// read.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

namespace scai::jpeg {

// The stream is broken, or is not what the caller expects.
class JpegError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The stream may be whole, but is of a kind that is not decoded here.
class JpegUnsupported : public JpegError {
public:
    using JpegError::JpegError;
};

// The next 64 bits at a bit position, first bit on top; at least 57 of them are real. Reads eight
// bytes from position / 8 on.
inline std::uint64_t peek(const std::uint8_t* bytes, std::uint64_t position) noexcept {
    std::uint64_t word;
    std::memcpy(&word, bytes + (position >> 3), sizeof word);
    if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
    return word << (position & 7);
}

inline constexpr unsigned peek_bits = 57;

// One symbol, decoded: the bits it takes (0: no code begins with these bits) and its difference.
struct Symbol {
    std::uint32_t bits;
    std::uint16_t difference;
};

// Entries of the fast table, by the next `fast_index_bits` bits. The index reaches past a short
// code to the first extra bit, which is the difference's sign, so the entry is already that of the
// sign:
//   bits 0 to 7    bits taken by code and extra bits together; 0: not decided here, use decode()
//   bits 8 to 15   how many of them are extra bits
//   bits 16 to 31  what is added to the extra bits to make the difference, modulo 2^16
using FastEntry = std::uint32_t;

// Eleven bits hold every code of a CT table that occurs more often than once in a thousand samples;
// 8 KiB stay in the first-level cache beside four streams.
inline constexpr unsigned fast_index_bits = 11;
using FastTable = std::array<FastEntry, 1u << fast_index_bits>;

class HuffmanTable {
public:
    // `counts`: codes of length 1 to 16; `symbols`: their categories, as many as the counts say.
    void build(std::span<const std::uint8_t, 16> counts, std::span<const std::uint8_t> symbols) {
        symbol_count_ = symbols.size();
        if (symbol_count_ > symbols_.size()) throw JpegError("more than 256 codes in a table");
        std::copy(symbols.begin(), symbols.end(), symbols_.begin());
        std::uint32_t code = 0;
        std::size_t index = 0;
        for (unsigned length = 1; length <= 16; ++length) {
            first_code_[length] = code;
            first_index_[length] = static_cast<std::uint32_t>(index);
            counts_[length] = counts[length - 1];
            code += counts[length - 1];
            index += counts[length - 1];
            if (code > (1u << length)) throw JpegError("Huffman codes overlap");
            limit_[length] = code << (16 - length);
            code <<= 1;
        }
        if (index != symbol_count_) throw JpegError("Huffman table with a wrong number of codes");
        present_ = true;
        fast_bits_max_ = 0;
    }

    bool present() const noexcept { return present_; }

    // Tables of other processes may lie unused in the same stream, so this is asked at a scan only.
    bool lossless() const noexcept {
        for (std::size_t index = 0; index < symbol_count_; ++index) {
            if (symbols_[index] > 16) return false;
        }
        return symbol_count_ > 0;
    }

    bool operator==(const HuffmanTable& other) const noexcept {
        return present_ == other.present_ && counts_ == other.counts_ &&
               std::memcmp(symbols_.data(), other.symbols_.data(), symbol_count_) == 0;
    }

    // Any symbol, from at least 32 bits on top of `word`.
    Symbol decode(std::uint64_t word) const noexcept {
        const auto code16 = static_cast<std::uint32_t>(word >> 48);
        for (unsigned length = 1; length <= 16; ++length) {
            if (code16 >= limit_[length]) continue;
            const std::uint32_t offset = (code16 >> (16 - length)) - first_code_[length];
            return extend(symbols_[first_index_[length] + offset], length, word << length);
        }
        return {0, 0};
    }

    // How often, by the code lengths, a symbol takes more than `bits_max` bits or is too long for
    // the fast index: in 2^-16.
    std::uint32_t slow_share(unsigned bits_max) const noexcept {
        std::uint32_t share = 0;
        for_each_code([&](unsigned length, std::uint32_t, unsigned category) {
            if (!is_fast(length, category, bits_max)) share += 1u << (16 - length);
        });
        return share;
    }

    // Makes the fast table for symbols of at most `bits_max` bits.
    void prepare(unsigned bits_max) {
        if (fast_bits_max_ == bits_max) return;
        fast_.fill(0);
        for_each_code([&](unsigned length, std::uint32_t code, unsigned category) {
            if (!is_fast(length, category, bits_max)) return;
            const unsigned free_bits = fast_index_bits - length;
            const std::size_t first = std::size_t{code} << free_bits;
            const std::size_t half = (std::size_t{1} << free_bits) / 2;
            if (category == 0 || category == 16) {
                const FastEntry entry = length | (category == 16 ? 0x8000u << 16 : 0);
                std::fill_n(fast_.begin() + first, std::size_t{1} << free_bits, entry);
                return;
            }
            const FastEntry positive = (length + category) | category << 8;
            const FastEntry negative = positive | (((~0u << category) + 1) & 0xffff) << 16;
            std::fill_n(fast_.begin() + first, half, negative);
            std::fill_n(fast_.begin() + first + half, half, positive);
        });
        fast_bits_max_ = bits_max;
    }

    const FastEntry* fast() const noexcept { return fast_.data(); }

private:
    // Table F.1 with H.2: category 16 is 32768 without extra bits.
    static Symbol extend(unsigned category, unsigned length, std::uint64_t rest) noexcept {
        if (category == 0) return {length, 0};
        if (category >= 16) return {length, 0x8000};
        const auto extra = static_cast<std::uint32_t>(rest >> (64 - category));
        const bool negative = (extra >> (category - 1)) == 0;
        const std::uint32_t offset = negative ? (~0u << category) + 1 : 0;
        return {length + category, static_cast<std::uint16_t>(extra + offset)};
    }

    static bool is_fast(unsigned length, unsigned category, unsigned bits_max) noexcept {
        const bool has_extra = category != 0 && category != 16;
        return length + (has_extra ? 1 : 0) <= fast_index_bits &&
               length + (has_extra ? category : 0) <= bits_max;
    }

    template <class Visit>
    void for_each_code(Visit&& visit) const {
        for (unsigned length = 1; length <= 16; ++length) {
            for (std::uint32_t offset = 0; offset < counts_[length]; ++offset) {
                const std::uint8_t category = symbols_[first_index_[length] + offset];
                visit(length, first_code_[length] + offset, category);
            }
        }
    }

    bool present_ = false;
    unsigned fast_bits_max_ = 0;
    std::size_t symbol_count_ = 0;
    std::array<std::uint32_t, 17> counts_{};
    std::array<std::uint32_t, 17> first_code_{};
    std::array<std::uint32_t, 17> first_index_{};
    std::array<std::uint32_t, 17> limit_{};  // of each length: the first 16 bits that are above
    std::array<std::uint8_t, 256> symbols_{};
    alignas(64) FastTable fast_{};
};

}  // namespace scai::jpeg
