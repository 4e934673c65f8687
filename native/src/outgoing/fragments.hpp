// Where the items of encapsulated pixel data lie in a file (PS3.5 A.4), by reading their headers
// alone. Called on the way out; what is not as it should be is for engine/outgoing/reader.py to
// say, so there is one answer to it: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace scai {

struct Fragments {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> spans;  // the offset table's first
    std::uint64_t behind = 0;                                    // where the next element begins
};

// The items from `at` on, none of which leads beyond `end`. None: broken, cut off, unreadable, or
// more than `items_max`.
std::optional<Fragments> find_fragments(int descriptor, std::uint64_t at, std::uint64_t end,
                                        std::size_t items_max);

}  // namespace scai
