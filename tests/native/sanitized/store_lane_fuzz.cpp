// Any command set: what is taken for a regular C-STORE-RQ has a UID that fits, and a file head, a
// journal prologue and a response whose lengths agree with what they hold; all else is left alone.
#include "fuzzing.hpp"
#include "reception/store_lane.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    scai::StoreTemplate pieces;
    pieces.sop_class = "1.2.840.10008.5.1.4.1.1.2";
    pieces.head_before = "before";
    pieces.head_between = "between";
    pieces.head_after = "after";
    pieces.response_sop_class = "class";
    const auto command = std::as_bytes(std::span(input, size));
    const auto store = scai::StoreLane::match(pieces, 3, command, 64);
    if (!store) return 0;
    const std::string& uid = store->sop_instance;
    FUZZ_CLAIM(!uid.empty() && uid.size() <= 64);
    FUZZ_CLAIM(uid.find_first_not_of("0123456789.") == std::string::npos);
    const std::size_t padded = uid.size() + uid.size() % 2;
    const auto file = scai::StoreLane::file_of(pieces, *store, 1);
    FUZZ_CLAIM(file.head.size() == 6 + 4 + 7 + 2 + padded + 5);
    FUZZ_CLAIM(file.prologue.size() == 2 + uid.size() + 9 + 3);
    const std::string response = scai::StoreLane::response(pieces, *store);
    FUZZ_CLAIM(response.size() == 12 + 12 + 5 + 40 + 8 + padded);
    FUZZ_CLAIM(static_cast<std::uint8_t>(response[5]) == response.size() - 6);
    return 0;
}
