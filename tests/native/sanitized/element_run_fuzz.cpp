// Any bytes, as the elements of one level. Whatever is taken is whole elements. What is written of
// them is explicit VR, and reading it writes the same again. Of less at hand a beginning of that
// is made. Input: {u8 choices, u8 depth, u8 value_max, u8 cut, elements ...}.
#include "outgoing/element_run.hpp"
#include "fuzzing.hpp"

namespace {

using Bytes = std::vector<std::byte>;
using scai::ElementRun;

struct Passed {
    std::size_t stopped;
    Bytes written;
};

Passed pass(ElementRun& run, std::span<const std::byte> data, std::size_t depth,
            std::uint32_t below) {
    // Alone in memory, so that the sanitizer sees a read of one byte too many.
    const std::unique_ptr<std::byte[]> alone(new std::byte[data.size()]);
    if (!data.empty()) std::memcpy(alone.get(), data.data(), data.size());
    const std::size_t stopped = run.pass({alone.get(), data.size()}, depth, below);
    FUZZ_CLAIM(stopped <= data.size());
    for (const ElementRun::Kept& one : run.kept()) {
        FUZZ_CLAIM(one.length <= 64 && one.at + one.length <= stopped);
        FUZZ_CLAIM(one.tag == 0x00280010 || one.tag == 0x00280011);
    }
    return {stopped, {run.written().begin(), run.written().end()}};
}

constexpr std::size_t sequence_depth_max = 1024;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 4) return 0;
    const std::size_t depth = 1 + input[1] * (2 * sequence_depth_max / 255);
    const std::uint32_t below = (input[0] & 1) != 0 ? 0x00400000 : 0xffffffff;
    const ElementRun::Rules rules{(input[0] & 2) != 0,
                                  (input[0] & 4) != 0,
                                  input[2] * 8u,
                                  {0x00280010, 0x00280011},
                                  {0x00100010, 0x00100020},
                                  sequence_depth_max};
    const auto data = std::as_bytes(std::span(input + 4, size - 4));
    ElementRun run(rules);
    const Passed whole = pass(run, data, depth, below);
    // Every element of eight bytes or more becomes one of twelve and a delimiter at most.
    FUZZ_CLAIM(whole.written.size() <= whole.stopped * 3);

    const Passed part = pass(run, data.first(data.size() * input[3] / 255), depth, below);
    FUZZ_CLAIM(part.stopped <= whole.stopped && part.written.size() <= whole.written.size());
    FUZZ_CLAIM(std::equal(part.written.begin(), part.written.end(), whole.written.begin()));
    const Passed rest = pass(run, data.subspan(part.stopped), depth, below);
    FUZZ_CLAIM(part.stopped + rest.stopped == whole.stopped);

    if (rules.explicit_out) {
        const Passed again = pass(run, whole.written, depth, below);
        FUZZ_CLAIM(again.stopped == whole.written.size() && again.written == whole.written);
    }
    return 0;
}
