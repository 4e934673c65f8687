// See element_run.hpp. Nothing is written for good until the element of the caller's own level that
// it belongs to has been taken as a whole: what a sequence had written before its broken item, is
// taken back.
#include "outgoing/element_run.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string_view>

namespace scai {
namespace {

constexpr std::uint32_t undefined_length = 0xffffffff;
constexpr std::uint32_t item = 0xfffee000;
constexpr std::uint32_t item_end = 0xfffee00d;
constexpr std::uint32_t sequence_end = 0xfffee0dd;
constexpr std::uint32_t length_to_end = 0x00080001;
constexpr std::uint32_t photometric_interpretation = 0x00280004;
constexpr std::uint32_t pixels_first = 0x7fe00000;  // pixel data, and the tables of their frames
constexpr std::size_t header_bytes = 8;
constexpr std::size_t long_header_bytes = 12;
constexpr std::uint32_t kept_bytes_max = 64;
constexpr std::size_t open_end = std::numeric_limits<std::size_t>::max();

constexpr std::uint16_t vr_code(char first, char second) {
    return static_cast<std::uint16_t>(first << 8 | second);
}
constexpr std::uint16_t sequence_vr = vr_code('S', 'Q');

// PS3.5 7.1.2.
constexpr std::array<std::uint16_t, 21> short_vrs{
    vr_code('A', 'E'), vr_code('A', 'S'), vr_code('A', 'T'), vr_code('C', 'S'), vr_code('D', 'A'),
    vr_code('D', 'S'), vr_code('D', 'T'), vr_code('F', 'D'), vr_code('F', 'L'), vr_code('I', 'S'),
    vr_code('L', 'O'), vr_code('L', 'T'), vr_code('P', 'N'), vr_code('S', 'H'), vr_code('S', 'L'),
    vr_code('S', 'S'), vr_code('S', 'T'), vr_code('T', 'M'), vr_code('U', 'I'), vr_code('U', 'L'),
    vr_code('U', 'S')};
constexpr std::array<std::uint16_t, 13> long_vrs{
    vr_code('O', 'B'), vr_code('O', 'D'), vr_code('O', 'F'), vr_code('O', 'L'), vr_code('O', 'V'),
    vr_code('O', 'W'), sequence_vr,       vr_code('S', 'V'), vr_code('U', 'C'), vr_code('U', 'N'),
    vr_code('U', 'R'), vr_code('U', 'T'), vr_code('U', 'V')};
static_assert(std::is_sorted(short_vrs.begin(), short_vrs.end()));
static_assert(std::is_sorted(long_vrs.begin(), long_vrs.end()));

bool is_short(std::uint16_t vr) noexcept {
    return std::binary_search(short_vrs.begin(), short_vrs.end(), vr);
}

bool is_long(std::uint16_t vr) noexcept {
    return std::binary_search(long_vrs.begin(), long_vrs.end(), vr);
}

std::uint32_t u16_at(const std::byte* from) noexcept {
    return std::to_integer<std::uint32_t>(from[0]) | std::to_integer<std::uint32_t>(from[1]) << 8;
}

std::uint32_t u32_at(const std::byte* from) noexcept {
    return u16_at(from) | u16_at(from + 2) << 16;
}

std::uint32_t tag_at(const std::byte* from) noexcept {
    return u16_at(from) << 16 | u16_at(from + 2);
}

bool is_halved(std::span<const std::byte> value) noexcept {
    std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
    while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
    return text == "YBR_FULL_422";
}

}  // namespace

ElementRun::ElementRun(Rules rules) : rules_(std::move(rules)), level_max_(2 * rules_.depth_max) {
    levels_.reserve(level_max_ + 2);
}

std::size_t ElementRun::pass(std::span<const std::byte> data, std::size_t depth,
                             std::uint32_t below) {
    data_ = data;
    depth_ = depth;
    below_ = below;
    written_.clear();
    kept_.clear();
    levels_.assign(1, {data.size(), false});
    at_ = 0;
    std::size_t taken = 0;
    std::size_t written = 0;
    for (;;) {
        if (levels_.size() == 1) {
            taken = at_;
            written = written_.size();
        }
        const Level& level = levels_.back();
        if (at_ >= level.end) {
            if (at_ > level.end || levels_.size() == 1) break;
            leave();
        } else if (!(level.items ? take_item() : take_element())) {
            break;
        }
    }
    written_.resize(written);
    data_ = {};
    return taken;
}

bool ElementRun::is_outside(std::size_t end) const noexcept {
    return end > data_.size() || end > levels_.back().end;
}

void ElementRun::leave() {
    put_plain(levels_.back().items ? sequence_end : item_end, 0);
    levels_.pop_back();
}

bool ElementRun::enter(std::size_t at, std::uint32_t length, bool items) {
    if (depth_ + levels_.size() - 1 > level_max_) return false;
    const std::size_t end = length == undefined_length ? open_end : at + length;
    if (end != open_end && is_outside(end)) return false;
    levels_.push_back({end, items});
    at_ = at;
    return true;
}

bool ElementRun::take_item() {
    if (data_.size() - at_ < header_bytes) return false;
    const std::uint32_t tag = tag_at(&data_[at_]);
    const std::uint32_t length = u32_at(&data_[at_ + 4]);
    const std::size_t behind = at_ + header_bytes;
    if (tag == sequence_end && length == 0 && levels_.back().end == open_end) {
        leave();
        at_ = behind;
        return true;
    }
    if (tag != item) return false;
    put_plain(item, length == 0 ? 0 : undefined_length);
    if (length != 0) return enter(behind, length, false);
    at_ = behind;
    return true;
}

bool ElementRun::take_element() {
    if (data_.size() - at_ < header_bytes) return false;
    const std::byte* const header = &data_[at_];
    const std::uint32_t tag = tag_at(header);
    if (tag == item_end && levels_.size() > 1 && levels_.back().end == open_end) {
        if (u32_at(header + 4) != 0) return false;
        leave();
        at_ += header_bytes;
        return true;
    }
    if (tag >= pixels_first) return false;
    if (levels_.size() == 1 && depth_ == 1) {
        if (tag >= below_ || tag == length_to_end) return false;
        if (std::binary_search(rules_.stops.begin(), rules_.stops.end(), tag)) return false;
    }
    const auto vr = vr_code(static_cast<char>(header[4]), static_cast<char>(header[5]));
    if (is_short(vr)) return take_value(tag, vr, at_ + header_bytes, u16_at(header + 6));
    if (!is_long(vr) || data_.size() - at_ < long_header_bytes) return false;
    return take_value(tag, vr, at_ + long_header_bytes, u32_at(header + 8));
}

bool ElementRun::take_value(std::uint32_t tag, std::uint16_t vr, std::size_t at,
                            std::uint32_t length) {
    const bool counts = (tag & 0xffff) == 0;
    if (vr == sequence_vr && length != 0 && !counts) {
        put_header(tag, vr, undefined_length);
        return enter(at, length, true);
    }
    if (length > rules_.value_max || is_outside(at + length)) return false;
    const auto value = data_.subspan(at, length);
    at_ = at + length;
    if (counts) return true;
    if (rules_.decodes && tag == photometric_interpretation && is_halved(value)) return false;
    if (levels_.size() == 1 && std::binary_search(rules_.kept.begin(), rules_.kept.end(), tag)) {
        kept_.push_back({tag, static_cast<std::uint32_t>(at), std::min(length, kept_bytes_max)});
    }
    put_header(tag, vr, length);
    written_.insert(written_.end(), value.begin(), value.end());
    return true;
}

void ElementRun::put_plain(std::uint32_t tag, std::uint32_t length) {
    std::array<std::byte, header_bytes> header;
    const std::array<std::uint32_t, 2> words{tag >> 16 | tag << 16, length};
    for (std::size_t index = 0; index < header.size(); ++index) {
        header[index] = static_cast<std::byte>(words[index / 4] >> index % 4 * 8);
    }
    written_.insert(written_.end(), header.begin(), header.end());
}

void ElementRun::put_header(std::uint32_t tag, std::uint16_t vr, std::uint32_t length) {
    if (!rules_.explicit_out) return put_plain(tag, length);
    const std::uint32_t letters = vr >> 8 | (vr & 0xffu) << 8;
    if (is_short(vr)) return put_plain(tag, letters | length << 16);
    put_plain(tag, letters);
    for (int shift = 0; shift < 32; shift += 8) {
        written_.push_back(static_cast<std::byte>(length >> shift));
    }
}

}  // namespace scai
