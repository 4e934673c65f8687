// Any file, as encapsulated pixel data: what is found lies one behind the other, inside, and is
// found again when the items are written anew. Input: {u8 begin, u8 cut, u8 items_max, file ...}.
#include <sys/mman.h>
#include <unistd.h>

#include "base/base.hpp"
#include "outgoing/fragments.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 3) return 0;
    const std::size_t file_bytes = size - 3;
    const std::size_t begin = input[0] % 16;
    const std::size_t cut = input[1] % 16;
    const std::size_t end = file_bytes > cut ? file_bytes - cut : 0;
    const std::size_t items_max = input[2];
    const scai::Descriptor file(::memfd_create("pixel data", MFD_CLOEXEC));
    FUZZ_CLAIM(::pwrite(file.get(), input + 3, file_bytes, 0) == static_cast<ssize_t>(file_bytes));
    const auto found = scai::find_fragments(file.get(), begin, end, items_max);
    if (!found) return 0;
    FUZZ_CLAIM(!found->spans.empty() && found->spans.size() <= items_max);
    std::uint64_t at = begin;
    for (const auto& [from, to] : found->spans) {
        FUZZ_CLAIM(from == at + 8 && from <= to && to <= end);
        at = to;
    }
    FUZZ_CLAIM(found->behind == at + 8 && found->behind <= end);
    // One byte less, and the last delimiter is cut off.
    FUZZ_CLAIM(!scai::find_fragments(file.get(), begin, found->behind - 1, items_max));
    return 0;
}
