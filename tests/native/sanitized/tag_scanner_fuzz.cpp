// Any bytes, as a data set: the row and the outcome are the same whole, byte by byte and in random
// pieces, the row keeps its bounds and its order, and nothing is read outside the piece given.
// Input: {u8 choices, u8 value_max, u8 row_max, u8 seed, data set ...}.
#include "fuzzing.hpp"
#include "spool/tag_scanner.hpp"

namespace {

using scai::TagScanner;

const scai::WantedTags many({0x00080005, 0x00080016, 0x00080018, 0x00080020, 0x00080030, 0x00080050,
                             0x00080060, 0x00080061, 0x00081030, 0x00100010, 0x00100020, 0x00100030,
                             0x0020000d, 0x0020000e, 0x00200011, 0x00200013, 0x00280010});
const scai::WantedTags few({0x00100020});
const scai::WantedTags late({0x00000000, 0x00100020, 0xfffefffe, 0xffffffff});
const scai::WantedTags none({});
constexpr std::size_t depth_max = 1024;
const scai::WantedTags* const choices[] = {&many, &few, &late, &none};

std::uint32_t u16_at(std::span<const std::byte> bytes, std::size_t at) {
    return std::to_integer<std::uint32_t>(bytes[at]) |
           std::to_integer<std::uint32_t>(bytes[at + 1]) << 8;
}

void claim_row(std::span<const std::byte> row, const scai::WantedTags& wanted,
               std::size_t value_max, std::size_t row_max) {
    FUZZ_CLAIM(row.size() <= row_max);
    std::size_t at = 0;
    std::int64_t before = -1;
    while (at < row.size()) {
        FUZZ_CLAIM(row.size() - at >= 6);
        const std::uint32_t tag = u16_at(row, at) << 16 | u16_at(row, at + 2);
        const std::size_t length = u16_at(row, at + 4);
        FUZZ_CLAIM(before < static_cast<std::int64_t>(tag));
        FUZZ_CLAIM(wanted.contains(tag));
        FUZZ_CLAIM(length <= value_max);
        before = tag;
        at += 6 + length;
    }
    FUZZ_CLAIM(at == row.size());
}

struct Result {
    std::vector<std::byte> row;
    TagScanner::Progress outcome;
    TagScanner::Progress finished;
    bool operator==(const Result&) const = default;
};

Result result_of(TagScanner& scanner) {
    const auto row = scanner.row();
    const auto outcome = scanner.outcome();
    return {{row.begin(), row.end()}, outcome, scanner.finish()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 4) return 0;
    const bool explicit_vr = input[0] & 1;
    const scai::WantedTags& wanted = *choices[input[0] >> 1 & 3];
    const std::size_t value_max = input[1] == 255 ? 100'000 : input[1];
    const std::size_t row_max = std::size_t{input[2]} * input[2] / 4;
    const auto data = std::as_bytes(std::span(input + 4, size - 4));

    TagScanner scanner;
    scanner.start(&wanted, explicit_vr, value_max, row_max, depth_max);
    fuzzing::in_pieces(data, [&] { return data.size(); }, [&](auto piece) { scanner.feed(piece); });
    claim_row(scanner.row(), wanted, value_max, row_max);
    const Result whole = result_of(scanner);
    FUZZ_CLAIM(whole.finished != TagScanner::Progress::more);

    // The same scanner again: start() leaves nothing of what was before.
    scanner.start(&wanted, explicit_vr, value_max, row_max, depth_max);
    fuzzing::in_pieces(data, [] { return std::size_t{1}; },
                       [&](auto piece) { scanner.feed(piece); });
    FUZZ_CLAIM(result_of(scanner) == whole);

    TagScanner another;
    another.start(&wanted, explicit_vr, value_max, row_max, depth_max);
    fuzzing::in_pieces(data, fuzzing::Sizes(input[3]), [&](auto piece) { another.feed(piece); });
    FUZZ_CLAIM(result_of(another) == whole);
    return 0;
}
