// What every fuzz target needs: a claim that ends the run, and pieces of the input that stand alone
// in memory, so that the address sanitizer sees a read of one byte too many.
#pragma once

#include <sys/socket.h>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#define FUZZ_CLAIM(condition)                                                     \
    do {                                                                          \
        if (!(condition)) {                                                       \
            std::fprintf(stderr, "claim failed: %s (%s:%d)\n", #condition, __FILE__, __LINE__); \
            std::abort();                                                         \
        }                                                                         \
    } while (false)

namespace fuzzing {

// Hands `data` on in pieces of the sizes that `next_size` gives (at least 1 each), each in a block
// of memory of exactly its size.
template <typename NextSize, typename Take>
void in_pieces(std::span<const std::byte> data, NextSize next_size, Take take) {
    while (!data.empty()) {
        const std::size_t size = std::min<std::size_t>(std::max<std::size_t>(next_size(), 1),
                                                       data.size());
        const std::unique_ptr<std::byte[]> piece(new std::byte[size]);
        std::memcpy(piece.get(), data.data(), size);
        take(std::span<const std::byte>(piece.get(), size));
        data = data.subspan(size);
    }
}

// All that lies ready in a socket, behind what has arrived before.
inline void take_over(int socket, std::vector<std::byte>& arrived) {
    std::byte piece[4096];
    for (;;) {
        const ssize_t count = ::recv(socket, piece, sizeof piece, MSG_DONTWAIT);
        if (count <= 0) return;
        arrived.insert(arrived.end(), piece, piece + count);
    }
}

// Repeatable choices from one seed.
class Random {
public:
    explicit Random(std::uint32_t seed) : state_(seed) {}
    std::uint32_t below(std::uint32_t limit) {
        state_ = state_ * 1664525u + 1013904223u;
        return (state_ >> 8) % limit;
    }

private:
    std::uint32_t state_;
};

// Repeatable sizes from one seed; mostly small, now and then large.
class Sizes {
public:
    explicit Sizes(std::uint32_t seed) : state_(seed * 2654435761u + 1) {}
    std::size_t operator()() {
        state_ = state_ * 1664525u + 1013904223u;
        const std::uint32_t bits = state_ >> 8;
        return (bits & 7) == 0 ? 1 + (bits >> 3) % 4096 : 1 + (bits >> 3) % 13;
    }

private:
    std::uint32_t state_;
};

}  // namespace fuzzing
