// The innermost loop: several positions of one bit stream decoded in turn by one core. A symbol's
// place is known only when the one before it is decoded, about eight cycles later, and the core
// idles meanwhile; four such chains side by side fill it. Used by jpeg/entropy.cpp only, which
// finds out afterwards from where on a guessed position gave the true symbols.
#pragma once

#include "jpeg/huffman.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace scai::jpeg {

inline constexpr unsigned lanes_max = 4;
inline constexpr unsigned group_max = 4;
inline constexpr unsigned symbol_bits_max = 32;  // a code of 16 and 15 extra bits is 31

// One chain. Decodes from `position` on, a group of symbols at a time, into `out`.
struct Lane {
    std::uint64_t position = 0;
    std::uint64_t end = 0;  // stops at the first group that ends here or later
    std::uint16_t* out = nullptr;
    std::uint32_t* record = nullptr;  // takes the position of each group, while that is asked for
    bool dead = false;  // `position` is not the beginning of any code
};

// What all lanes share. `tables` has one for each symbol of a group.
struct LaneTables {
    const std::uint8_t* bytes = nullptr;
    std::array<const HuffmanTable*, group_max> tables{};
};

inline constexpr std::uint64_t no_position = ~std::uint64_t{0};

// A group in which some symbol is not in the fast table: rare, so kept out of the loop's registers.
[[gnu::cold, gnu::noinline]] inline std::uint64_t decode_group_slowly(
    const LaneTables& shared, unsigned group, std::uint64_t position, std::uint16_t* out) {
    for (unsigned index = 0; index < group; ++index) {
        const Symbol symbol = shared.tables[index]->decode(peek(shared.bytes, position));
        if (symbol.bits == 0) return no_position;
        out[index] = symbol.difference;
        position += symbol.bits;
    }
    return position;
}

// At most `rounds` groups on each of `Lanes` lanes; returns early when one is dead. The caller sees
// to it that after `rounds` - 1 groups of `peek_bits` no lane is at its end; a slow group may be
// longer and counts for three, so no group is begun at or behind a lane's end. `Uniform`: all
// tables are one.
template <unsigned Lanes, unsigned Group, bool Uniform, bool Record>
[[gnu::always_inline]] inline void run_groups(const LaneTables& shared, Lane* const* lanes,
                                              std::size_t rounds) {
    const std::uint8_t* const bytes = shared.bytes;
    const FastEntry* fast[Uniform ? 1 : Group];
    for (unsigned index = 0; index < (Uniform ? 1 : Group); ++index) {
        fast[index] = shared.tables[index]->fast();
    }
    std::uint64_t position[Lanes];
    std::uint16_t* out[Lanes];
    std::uint32_t* record[Lanes];
#pragma GCC unroll 8
    for (unsigned lane = 0; lane < Lanes; ++lane) {
        position[lane] = lanes[lane]->position;
        out[lane] = lanes[lane]->out;
        record[lane] = lanes[lane]->record;
    }
    bool dead = false;
    for (; rounds != 0 && !dead; --rounds) {
#pragma GCC unroll 8
        for (unsigned lane = 0; lane < Lanes; ++lane) {
            std::uint64_t word = peek(bytes, position[lane]);
            std::uint32_t sum = 0;
            bool decided = true;
            FastEntry entry = 0;
#pragma GCC unroll 8
            for (unsigned index = 0; index < Group; ++index) {
                entry = fast[Uniform ? 0 : index][word >> (64 - fast_index_bits)];
                // -entry and 64 - bits agree modulo 64, which is all a shift looks at.
                const auto taken = static_cast<std::uint32_t>(word >> (-entry & 63));
                const auto extra = static_cast<std::uint8_t>(entry >> 8);
                out[lane][index] =
                    static_cast<std::uint16_t>((taken & ((1u << extra) - 1)) + (entry >> 16));
                word <<= entry & 63;
                sum += entry;
                if constexpr (!Uniform) decided &= static_cast<std::uint8_t>(entry) != 0;
            }
            // An undecided entry takes no bits, so with one table all after it are the same one.
            if constexpr (Uniform) decided = static_cast<std::uint8_t>(entry) != 0;
            if constexpr (Record) *record[lane]++ = static_cast<std::uint32_t>(position[lane]);
            if (decided) [[likely]] {
                position[lane] += static_cast<std::uint8_t>(sum);
            } else {
                const std::uint64_t next =
                    decode_group_slowly(shared, Group, position[lane], out[lane]);
                if (next == no_position) {
                    lanes[lane]->dead = dead = true;
                    if constexpr (Record) --record[lane];
                    continue;
                }
                position[lane] = next;
                static_assert(group_max * symbol_bits_max <= 3 * peek_bits);
                rounds = rounds > 3 ? rounds - 2 : 1;
            }
            out[lane] += Group;
        }
    }
#pragma GCC unroll 8
    for (unsigned lane = 0; lane < Lanes; ++lane) {
        lanes[lane]->position = position[lane];
        lanes[lane]->out = out[lane];
        lanes[lane]->record = record[lane];
    }
}

}  // namespace scai::jpeg
