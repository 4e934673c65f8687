// Any bytes: the instruction and the tables agree, and so do any two halves with the whole.
// Input: {u8 alignment, u32 seed, data ...}, repeated to reach the interleaved streams' lengths.
#include "base/checksum.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 6) return 0;
    const std::size_t skipped = input[0] % 16;
    const std::size_t repeats = 1 + (input[0] >> 4) * 16u;
    std::uint32_t seed;
    std::memcpy(&seed, input + 1, sizeof seed);
    std::vector<std::byte> data(skipped);
    const auto part = std::as_bytes(std::span(input + 5, size - 5));
    for (std::size_t count = 0; count < repeats && data.size() < 65536; ++count) {
        data.insert(data.end(), part.begin(), part.end());
    }
    const auto bytes = std::span<const std::byte>(data).subspan(skipped);
    const std::uint32_t whole = scai::crc32c(bytes, seed);
    FUZZ_CLAIM(whole == scai::crc32c_by_table(bytes, seed));
    const std::size_t half = seed % (bytes.size() + 1);
    FUZZ_CLAIM(whole == scai::crc32c(bytes.subspan(half), scai::crc32c(bytes.first(half), seed)));
    std::uint32_t pieces = seed;
    fuzzing::in_pieces(bytes, fuzzing::Sizes(seed),
                       [&](auto piece) { pieces = scai::crc32c(piece, pieces); });
    FUZZ_CLAIM(pieces == whole);
    return 0;
}
