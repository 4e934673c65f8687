// A machine that holds one of three things to do: skip, copy, or read the next header. Only
// sequences and items of undefined length are entered; they alternate, so how deep we are and what
// comes next is one number and no stack.
#include "spool/tag_scanner.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace scai {
namespace {

constexpr std::uint32_t undefined_length = 0xffffffff;
constexpr std::uint32_t item = 0xfffee000;
constexpr std::uint32_t item_delimitation = 0xfffee00d;
constexpr std::uint32_t sequence_delimitation = 0xfffee0dd;
constexpr std::uint32_t pixel_data_group = 0x7fe0;  // pixel data, float pixel data, their offsets
constexpr std::uint32_t implicit_nowhere = 0xffffffff;

constexpr std::uint16_t vr_code(char first, char second) {
    return static_cast<std::uint16_t>(first << 8 | second);
}

std::uint16_t u16_at(const std::byte* from) noexcept {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(from[0]) |
                                      std::to_integer<unsigned>(from[1]) << 8);
}

std::uint32_t u32_at(const std::byte* from) noexcept {
    return u16_at(from) | static_cast<std::uint32_t>(u16_at(from + 2)) << 16;
}

std::uint32_t tag_at(const std::byte* from) noexcept {
    return static_cast<std::uint32_t>(u16_at(from)) << 16 | u16_at(from + 2);
}

std::uint16_t vr_at(const std::byte* header) noexcept {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(header[4]) << 8 |
                                      std::to_integer<unsigned>(header[5]));
}

void put_u16(std::byte* to, std::uint32_t value) noexcept {
    to[0] = static_cast<std::byte>(value);
    to[1] = static_cast<std::byte>(value >> 8);
}

bool is_capital(unsigned letter) noexcept { return letter >= 'A' && letter <= 'Z'; }

bool is_printable(unsigned letter) noexcept { return letter >= ' ' && letter <= '~'; }

bool is_two_capitals(std::uint16_t vr) noexcept {
    return is_capital(vr >> 8) && is_capital(vr & 0xff);
}

// PS3.5 7.1.2, table 7.1-1: reserved bytes and a length of 32 bits.
bool has_long_form(std::uint16_t vr) noexcept {
    switch (vr) {
        case vr_code('O', 'B'): case vr_code('O', 'D'): case vr_code('O', 'F'):
        case vr_code('O', 'L'): case vr_code('O', 'V'): case vr_code('O', 'W'):
        case vr_code('S', 'Q'): case vr_code('S', 'V'): case vr_code('U', 'C'):
        case vr_code('U', 'N'): case vr_code('U', 'R'): case vr_code('U', 'T'):
        case vr_code('U', 'V'):
            return true;
        default:
            return false;
    }
}

// PS3.5 7.1.2, table 7.1-2: a length of 16 bits.
bool has_short_form(std::uint16_t vr) noexcept {
    switch (vr) {
        case vr_code('A', 'E'): case vr_code('A', 'S'): case vr_code('A', 'T'):
        case vr_code('C', 'S'): case vr_code('D', 'A'): case vr_code('D', 'S'):
        case vr_code('D', 'T'): case vr_code('F', 'D'): case vr_code('F', 'L'):
        case vr_code('I', 'S'): case vr_code('L', 'O'): case vr_code('L', 'T'):
        case vr_code('P', 'N'): case vr_code('S', 'H'): case vr_code('S', 'L'):
        case vr_code('S', 'S'): case vr_code('S', 'T'): case vr_code('T', 'M'):
        case vr_code('U', 'I'): case vr_code('U', 'L'): case vr_code('U', 'S'):
            return true;
        default:
            return false;
    }
}

// Of a VR that is none: whether what would be its 32 bits of length are the next tag. Then 16 bits
// of zeros were its length, and it has no value.
bool is_empty_and_made_up(const std::byte* header) noexcept {
    if (has_long_form(vr_at(header))) return false;
    const std::uint32_t tag = tag_at(header);
    const std::uint32_t next = tag_at(header + 8);
    return (next & 0xffff) != 0 && next > tag && (next >> 16) - (tag >> 16) < 0x100;
}

// PS3.5 table 7.1-1 allows an undefined length to SQ and UN, and to OB and OW where they hold
// fragments: Pixel Data, also that of an icon inside a sequence.
bool may_be_undefined(std::uint16_t vr) noexcept {
    return vr == vr_code('S', 'Q') || vr == vr_code('U', 'N') || vr == vr_code('O', 'B') ||
           vr == vr_code('O', 'W');
}

}  // namespace

WantedTags::WantedTags(std::vector<std::uint32_t> tags) : tags_(std::move(tags)) {
    std::sort(tags_.begin(), tags_.end());
    tags_.erase(std::unique(tags_.begin(), tags_.end()), tags_.end());
}

bool WantedTags::contains(std::uint32_t tag) const noexcept {
    return std::binary_search(tags_.begin(), tags_.end(), tag);
}

void TagScanner::start(const WantedTags* wanted, bool explicit_vr, std::size_t value_max,
                       std::size_t row_max, std::size_t depth_max) {
    if (row_.size() < row_max) row_.resize(row_max);
    wanted_ = wanted;
    row_max_ = row_max;
    row_bytes_ = 0;
    value_max_ = std::min<std::size_t>(value_max, 0xffff);
    level_max_ = 2 * depth_max;  // a sequence and an item of it are two
    last_kept_ = 0;
    disorder_ = 0;
    beyond_ = 0;
    entry_bytes_ = 0;
    copy_left_ = 0;
    skip_left_ = 0;
    level_ = 0;
    implicit_from_level_ = explicit_vr ? implicit_nowhere : 0;
    header_held_ = 0;
    first_ = true;
    outcome_ = wanted->empty() ? Progress::done : Progress::more;
}

TagScanner::Progress TagScanner::feed(std::span<const std::byte> data) noexcept {
    const std::byte* from = data.data();
    std::size_t left = data.size();
    while (left > 0 && outcome_ == Progress::more) {
        if (copy_left_ > 0) {
            const std::size_t count = std::min<std::size_t>(copy_left_, left);
            std::memcpy(row_.data() + row_bytes_ + entry_bytes_, from, count);
            entry_bytes_ += count;
            copy_left_ -= static_cast<std::uint32_t>(count);
            from += count;
            left -= count;
            if (copy_left_ == 0) end_value();
        } else if (skip_left_ > 0) {
            const std::size_t count = std::min<std::size_t>(skip_left_, left);
            skip_left_ -= static_cast<std::uint32_t>(count);
            from += count;
            left -= count;
        } else if (header_held_ == 0 && left >= header_bytes_max) {
            header_bytes(from);
            const std::size_t count = take_header(from);
            from += count;
            left -= count;
        } else {
            header_[header_held_++] = *from++;
            --left;
            if (header_held_ >= 8 && header_held_ == header_bytes(header_.data())) {
                const std::size_t used = take_header(header_.data());
                header_held_ -= used;
                std::memmove(header_.data(), header_.data() + used, header_held_);
            }
        }
    }
    return outcome_;
}

TagScanner::Progress TagScanner::finish() noexcept {
    if (outcome_ == Progress::more) {
        const bool between = level_ == 0 && header_held_ == 0 && copy_left_ == 0 && skip_left_ == 0;
        if (between) {
            outcome_ = Progress::done;
        } else {
            give_up();
        }
    }
    return outcome_;
}

// What is wrong behind all that was wanted is nothing to us.
void TagScanner::give_up() noexcept {
    outcome_ = beyond_ > 0 ? Progress::done : Progress::malformed;
}

// Called with at least 8 bytes, again with 12 if it answered so.
std::size_t TagScanner::header_bytes(const std::byte* header) noexcept {
    if (level_ % 2 == 1 || tag_at(header) >> 16 == 0xfffe) return 8;
    // Elements of group 0002 ahead of the data set tell nothing of it: they may be in the encoding
    // of the file meta information.
    if (first_ && tag_at(header) >> 16 != 0x0002) {
        // Some writers send the other encoding than the one negotiated. The first element tells:
        // as a length, two letters would mean more than 16 KiB in what begins group 0008.
        const std::uint16_t vr = vr_at(header);
        if (implicit_from_level_ == 0 && (has_short_form(vr) || has_long_form(vr))) {
            implicit_from_level_ = implicit_nowhere;
        } else if (implicit_from_level_ != 0 && form_of(header) == Form::implicit) {
            implicit_from_level_ = 0;
        }
        first_ = false;
    }
    return form_of(header) == Form::explicit_long ? 12 : 8;
}

TagScanner::Form TagScanner::form_of(const std::byte* header) const noexcept {
    const std::uint16_t vr = vr_at(header);
    const bool is_implicit = level_ >= implicit_from_level_;
    if (is_implicit && (!first_ || tag_at(header) >> 16 != 0x0002)) return Form::implicit;
    if (has_short_form(vr)) return Form::explicit_short;
    if (has_long_form(vr)) return Form::explicit_long;
    if (is_implicit) return Form::implicit;
    // A VR of the future has the long form (PS3.5 6.2, note), one made up by a writer mostly the
    // short one; the bytes reserved in the long form tell them apart.
    if (is_two_capitals(vr)) {
        return u16_at(header + 6) == 0 ? Form::explicit_long : Form::explicit_short;
    }
    // "??", blanks, small letters, which DCMTK writes or reads for an unknown VR. As an implicit
    // length they would be 8 KiB and more.
    if (is_printable(vr >> 8) && is_printable(vr & 0xff)) return Form::explicit_short;
    // Two zeros with a length of 16 bits, as DCMTK reads them. In implicit VR, into which some
    // writers fall most often inside sequences, they begin a length that is a multiple of 64 KiB.
    if (vr == 0 && level_ == 0 && u16_at(header + 6) != 0) return Form::explicit_short;
    return Form::implicit;
}

std::size_t TagScanner::take_header(const std::byte* header) noexcept {
    const std::uint32_t tag = tag_at(header);
    const bool is_element = level_ % 2 == 0 && tag >> 16 != 0xfffe;
    if (beyond_ > 0 || (level_ == 0 && is_element && tag > wanted_->last())) ++beyond_;
    if (beyond_ > beyond_max || (level_ == 0 && tag >> 16 == pixel_data_group)) {
        outcome_ = Progress::done;
        return 8;
    }
    if (!is_element) {
        take_item_header(tag, u32_at(header + 4));
        return 8;
    }
    Form form = form_of(header);
    if (form == Form::explicit_long && is_empty_and_made_up(header)) form = Form::explicit_short;
    take_element(tag, form, header);
    return form == Form::explicit_long ? 12 : 8;
}

void TagScanner::take_item_header(std::uint32_t tag, std::uint32_t length) noexcept {
    if (level_ % 2 == 1 && tag == item) {
        if (length == undefined_length) {
            ++level_;
        } else {
            skip_left_ = length;
        }
    } else if ((level_ % 2 == 1 && tag == sequence_delimitation) ||
               (level_ > 0 && level_ % 2 == 0 && tag == item_delimitation)) {
        // The length of a delimiter has to be 0; like everybody else we do not look.
        leave_level();
    } else {
        give_up();
    }
}

void TagScanner::leave_level() noexcept {
    --level_;
    if (level_ < implicit_from_level_) implicit_from_level_ = implicit_nowhere;
}

void TagScanner::take_element(std::uint32_t tag, Form form, const std::byte* header) noexcept {
    const std::uint16_t vr = form == Form::implicit ? std::uint16_t{0} : vr_at(header);
    std::uint32_t length = 0;
    switch (form) {
        case Form::explicit_short: length = u16_at(header + 6); break;
        case Form::explicit_long: length = u32_at(header + 8); break;
        case Form::implicit: length = u32_at(header + 4); break;
    }
    if (form != Form::explicit_short && length == undefined_length) {
        begin_undefined_length(vr, form);
    } else if (level_ == 0 && vr != vr_code('S', 'Q') && wanted_->contains(tag)) {
        begin_value(tag, length);
    } else {
        skip_left_ = length;
    }
}

void TagScanner::begin_undefined_length(std::uint16_t vr, Form form) noexcept {
    const bool follows = form == Form::implicit || may_be_undefined(vr);
    if (!follows || level_ >= level_max_) return give_up();
    ++level_;
    // PS3.5 6.2.2, note on UN: what had to be given the VR UN was implicit, and inside still is.
    if (vr == vr_code('U', 'N') && level_ < implicit_from_level_) implicit_from_level_ = level_;
}

void TagScanner::begin_value(std::uint32_t tag, std::uint32_t length) noexcept {
    const auto kept = static_cast<std::uint32_t>(std::min<std::size_t>(length, value_max_));
    if (row_max_ - row_bytes_ < entry_head_bytes + kept) {
        skip_left_ = length;
        return;
    }
    std::byte* entry = row_.data() + row_bytes_;
    put_u16(entry, tag >> 16);
    put_u16(entry + 2, tag);
    put_u16(entry + 4, kept);
    entry_bytes_ = entry_head_bytes;
    copy_left_ = kept;
    skip_left_ = length - kept;
    if (kept == 0) end_value();
}

void TagScanner::end_value() noexcept {
    const std::uint32_t tag = tag_at(row_.data() + row_bytes_);
    const std::size_t entry_bytes = entry_bytes_;
    entry_bytes_ = 0;
    if (row_bytes_ == 0 || tag > last_kept_) {
        last_kept_ = tag;
        row_bytes_ += entry_bytes;
    } else if (disorder_ < disorder_max) {
        ++disorder_;
        put_in_order(entry_bytes);
    } else {
        outcome_ = Progress::malformed;
    }
}

// The new entry lies behind the complete ones; it takes its place among them, or another's.
void TagScanner::put_in_order(std::size_t entry_bytes) noexcept {
    const std::uint32_t tag = tag_at(row_.data() + row_bytes_);
    std::byte* at = row_.data();
    while (tag_at(at) < tag) at += entry_head_bytes + u16_at(at + 4);
    std::byte* end = row_.data() + row_bytes_;
    if (tag_at(at) == tag) {
        const std::size_t replaced = entry_head_bytes + u16_at(at + 4);
        const auto behind = static_cast<std::size_t>(end - at) - replaced + entry_bytes;
        std::memmove(at, at + replaced, behind);
        end -= replaced;
        row_bytes_ -= replaced;
    }
    std::rotate(at, end, end + entry_bytes);
    row_bytes_ += entry_bytes;
}

}  // namespace scai
