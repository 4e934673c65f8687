// Explicit VR elements written anew, as explicit or implicit ones, as long as there is nothing to
// decide: what engine/outgoing/reencode.py does element by element, for the runs of plain elements
// of which data sets mostly consist. Sequences and items get an undefined length, group lengths go.
//
// Contract: takes whole elements of one level, with all that is in them, and stops in front of the
// first that is not plain. Not plain is what is cut off or malformed in any way, large, of an
// unknown VR, pixel data, of undefined length but no sequence, or named by the caller. What it
// wrote is what the slow way writes. What is wrong with the rest is for the slow way to say. Reads
// nothing outside the span.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace scai {

class ElementRun {
public:
    struct Rules {
        bool explicit_out = true;
        bool decodes = false;         // stop where halved chroma is said of what will be whole then
        std::uint32_t value_max = 0;  // above, a value is large
        std::vector<std::uint32_t> kept;   // sorted; told of, where they stand at this level
        std::vector<std::uint32_t> stops;  // sorted; at the data set's own level
        std::size_t depth_max;             // sequences within each other
    };
    // A value in the span.
    struct Kept {
        std::uint32_t tag;
        std::uint32_t at;
        std::uint32_t length;
    };
    explicit ElementRun(Rules rules);

    // Passes over `data`, which ends where the level does or earlier. `depth`: levels around it, 1
    // is the data set itself. Tags from `below` on stop it there. Returns where it stopped.
    std::size_t pass(std::span<const std::byte> data, std::size_t depth, std::uint32_t below);

    // Of the last pass().
    std::span<const std::byte> written() const noexcept { return written_; }
    std::span<const Kept> kept() const noexcept { return kept_; }

private:
    struct Level {
        std::size_t end;
        bool items;  // a sequence: items are next
    };

    bool take_item();
    bool take_element();
    bool take_value(std::uint32_t tag, std::uint16_t vr, std::size_t at, std::uint32_t length);
    bool enter(std::size_t at, std::uint32_t length, bool items);
    void leave();
    bool is_outside(std::size_t end) const noexcept;
    void put_plain(std::uint32_t tag, std::uint32_t length);
    void put_header(std::uint32_t tag, std::uint16_t vr, std::uint32_t length);

    const Rules rules_;
    const std::size_t level_max_;  // a sequence and an item of it are two
    std::span<const std::byte> data_;
    std::size_t at_ = 0;
    std::size_t depth_ = 0;  // of the level that is passed over
    std::uint32_t below_ = 0;
    std::vector<Level> levels_;
    std::vector<std::byte> written_;
    std::vector<Kept> kept_;
};

}  // namespace scai
