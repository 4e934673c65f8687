// Cuts the index attributes out of the head of a data set while it passes by; the spool's writer
// threads and the tests call it. Resumable at any byte: every cutting of the data into pieces gives
// the same row and the same outcome. Memory is the row, reserved by start(); feed() allocates
// nothing, fails never and touches no byte of a value it skips. Nothing in the data makes it read
// outside the piece it was given, whatever lengths, nesting or order the data claims.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace scai {

// Which top-level attributes are cut: tags as group << 16 | element, in any order.
class WantedTags {
public:
    explicit WantedTags(std::vector<std::uint32_t> tags);
    bool contains(std::uint32_t tag) const noexcept;
    bool empty() const noexcept { return tags_.empty(); }
    std::uint32_t last() const noexcept { return tags_.back(); }

private:
    std::vector<std::uint32_t> tags_;  // sorted, each once
};

class TagScanner {
public:
    // done: everything wanted has been passed. malformed: not followed any further; the row holds
    // what came before. more: neither yet.
    enum class Progress : std::uint8_t { more, done, malformed };

    // Wanted attributes that came out of order or twice. Each costs a move of the row, so a bound
    // keeps a hostile data set from buying much work with few bytes; real ones have a handful.
    static constexpr std::uint32_t disorder_max = 64;
    // Headers that are looked at behind the first tag that is greater than all wanted ones: some
    // writers put an element a little behind its place, and it may be the study's UID.
    static constexpr std::uint32_t beyond_max = 64;

    // A data set begins. `wanted` must outlive the scan; values are cut at `value_max` bytes (at
    // most 65535, the row's length field), a value for which `row_max` leaves no room is left out,
    // and sequences nested deeper than `depth_max` are malformed.
    void start(const WantedTags* wanted, bool explicit_vr, std::size_t value_max,
               std::size_t row_max, std::size_t depth_max);

    // The next bytes of the data set. Returns at once when the outcome is no longer `more`.
    Progress feed(std::span<const std::byte> data) noexcept;

    // The data set has ended: done if it ended between two top-level elements, else malformed.
    Progress finish() noexcept;

    Progress outcome() const noexcept { return outcome_; }

    // {u16 group, u16 element, u16 length, bytes}, little endian, in tag order, each tag once (the
    // last one holds, as in pydicom and DCMTK); complete values only. Valid until start().
    std::span<const std::byte> row() const noexcept { return {row_.data(), row_bytes_}; }

private:
    // How an element's header is laid out: PS3.5 7.1.2 (two forms) and 7.1.3.
    enum class Form : std::uint8_t { explicit_short, explicit_long, implicit };
    static constexpr std::size_t header_bytes_max = 12;
    static constexpr std::size_t entry_head_bytes = 6;

    Form form_of(const std::byte* header) const noexcept;
    std::size_t header_bytes(const std::byte* header) noexcept;
    // Returns how many of the header's bytes it has used.
    std::size_t take_header(const std::byte* header) noexcept;
    void take_item_header(std::uint32_t tag, std::uint32_t length) noexcept;
    void take_element(std::uint32_t tag, Form form, const std::byte* header) noexcept;
    void begin_undefined_length(std::uint16_t vr, Form form) noexcept;
    void begin_value(std::uint32_t tag, std::uint32_t length) noexcept;
    void end_value() noexcept;
    void put_in_order(std::size_t entry_bytes) noexcept;
    void leave_level() noexcept;
    void give_up() noexcept;

    const WantedTags* wanted_ = nullptr;
    std::vector<std::byte> row_;
    std::size_t row_max_ = 0;
    std::size_t row_bytes_ = 0;    // of complete entries
    std::size_t value_max_ = 0;
    std::size_t level_max_ = 0;
    std::uint32_t last_kept_ = 0;  // the greatest tag in the row
    std::uint32_t disorder_ = 0;
    std::uint32_t beyond_ = 0;
    std::size_t entry_bytes_ = 0;  // of the entry being copied, behind the complete ones
    std::uint32_t copy_left_ = 0;  // bytes of a wanted value still to copy
    std::uint32_t skip_left_ = 0;  // bytes to pass over after that
    // 0: the data set itself. Odd: in a sequence of undefined length, an item comes. Even: in an
    // item of undefined length. What has a defined length is skipped whole and needs no level.
    std::uint32_t level_ = 0;
    std::uint32_t implicit_from_level_ = 0;  // at this level and above, implicit VR holds
    std::array<std::byte, header_bytes_max> header_{};
    std::size_t header_held_ = 0;  // bytes of a header cut by the end of a piece
    bool first_ = true;
    Progress outcome_ = Progress::done;
};

}  // namespace scai
