// Matching regular requests and filling templates in. See store_lane.hpp.
#include "reception/store_lane.hpp"

#include <algorithm>
#include <string_view>

#include "base/clock.hpp"

namespace scai {

namespace {

std::uint32_t little_16(const std::byte* at) {
    return std::to_integer<std::uint32_t>(at[0]) | std::to_integer<std::uint32_t>(at[1]) << 8;
}

std::uint32_t little_32(const std::byte* at) {
    return little_16(at) | little_16(at + 2) << 16;
}

template <typename Number>
void put_little(std::string& to, Number value) {
    for (std::size_t byte = 0; byte < sizeof value; ++byte) {
        to.push_back(static_cast<char>(value >> (8 * byte) & 0xFF));
    }
}

template <typename Number>
void put_big(std::string& to, Number value) {
    for (std::size_t byte = sizeof value; byte-- > 0;) {
        to.push_back(static_cast<char>(value >> (8 * byte) & 0xFF));
    }
}

std::string_view without_padding(std::span<const std::byte> value) {
    std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
    while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.remove_suffix(1);
    return text;
}

// What is padded with blanks is read the long way, where it is told.
bool is_regularly_padded(std::span<const std::byte> value) {
    return value.empty() || value.back() != std::byte{' '};
}

bool is_uid(std::string_view text, std::size_t characters_max) {
    const auto digit = [](char character) { return character >= '0' && character <= '9'; };
    return !text.empty() && text.size() <= characters_max && digit(text.front()) &&
           std::all_of(text.begin(), text.end(),
                       [&](char character) { return digit(character) || character == '.'; });
}

void put_element_head(std::string& to, std::uint16_t element, std::size_t bytes) {
    put_little<std::uint16_t>(to, 0);
    put_little<std::uint16_t>(to, element);
    put_little<std::uint32_t>(to, static_cast<std::uint32_t>(bytes));
}

void put_number(std::string& to, std::uint16_t element, std::uint16_t value) {
    put_element_head(to, element, 2);
    put_little(to, value);
}

void put_padded(std::string& to, std::string_view uid) {
    to.append(uid);
    if (uid.size() % 2 == 1) to.push_back('\0');
}

}  // namespace

std::optional<StoreUnderWay> StoreLane::match(const StoreTemplate& pieces, std::uint8_t context,
                                              std::span<const std::byte> command_set,
                                              std::size_t uid_characters_max) {
    constexpr std::size_t group_length_bytes = 12;
    if (command_set.size() < group_length_bytes || little_32(command_set.data()) != 0 ||
        little_32(command_set.data() + 4) != 4 ||
        little_32(command_set.data() + 8) != command_set.size() - group_length_bytes) {
        return std::nullopt;
    }
    StoreUnderWay store;
    store.context = context;
    store.began_ns = monotonic_ns();
    unsigned seen = 0;  // one bit for each of the five that must be there
    std::uint32_t before = 0;
    std::span<const std::byte> left = command_set.subspan(group_length_bytes);
    while (!left.empty()) {
        if (left.size() < 8 || little_16(left.data()) != 0) return std::nullopt;
        const std::uint32_t element = little_16(left.data() + 2);
        const std::uint32_t length = little_32(left.data() + 4);
        left = left.subspan(8);
        if (element <= before || length % 2 == 1 || length > left.size()) return std::nullopt;
        before = element;
        const auto value = left.first(length);
        left = left.subspan(length);
        const bool number = length == 2;
        switch (element) {
            case 0x0002:
                if (!is_regularly_padded(value)) return std::nullopt;
                if (without_padding(value) != pieces.sop_class) return std::nullopt;
                seen |= 1;
                break;
            case 0x0100:
                if (!number || little_16(value.data()) != 0x0001) return std::nullopt;
                seen |= 2;
                break;
            case 0x0110:
                if (!number) return std::nullopt;
                store.message_id = static_cast<std::uint16_t>(little_16(value.data()));
                seen |= 4;
                break;
            case 0x0700:  // Priority: there is nothing to put first
            case 0x1030:  // Move Originator: whose C-MOVE it is changes nothing here
            case 0x1031:
                break;
            case 0x0800:
                if (!number || little_16(value.data()) == 0x0101) return std::nullopt;
                seen |= 8;
                break;
            case 0x1000:
                if (!is_regularly_padded(value)) return std::nullopt;
                if (!is_uid(without_padding(value), uid_characters_max)) return std::nullopt;
                store.sop_instance = without_padding(value);
                seen |= 16;
                break;
            default:
                return std::nullopt;
        }
    }
    if (seen != 31) return std::nullopt;
    return store;
}

StoreFile StoreLane::file_of(const StoreTemplate& pieces, const StoreUnderWay& store,
                             std::uint64_t received_ns) {
    const std::string& uid = store.sop_instance;
    const std::size_t padded = uid.size() + uid.size() % 2;
    StoreFile file;
    std::string& head = file.head;
    head.reserve(512);
    head += pieces.head_before;
    put_little(head, static_cast<std::uint32_t>(pieces.head_group_length + padded));
    head += pieces.head_between;
    put_little(head, static_cast<std::uint16_t>(padded));
    put_padded(head, uid);
    head += pieces.head_after;
    // msgpack: str 8 for the UID, uint 64 for the time, uint 16 for the head's size.
    std::string& prologue = file.prologue;
    prologue.reserve(256);
    prologue += pieces.arrival_before;
    prologue.push_back(static_cast<char>(0xD9));
    prologue.push_back(static_cast<char>(uid.size()));
    prologue += uid;
    prologue += pieces.arrival_middle;
    prologue.push_back(static_cast<char>(0xCF));
    put_big(prologue, received_ns);
    prologue.push_back(static_cast<char>(0xCD));
    put_big(prologue, static_cast<std::uint16_t>(head.size()));
    prologue += pieces.arrival_after;
    return file;
}

std::string StoreLane::response(const StoreTemplate& pieces, const StoreUnderWay& store) {
    const std::string& uid = store.sop_instance;
    const std::size_t padded = uid.size() + uid.size() % 2;
    const std::size_t group_length = pieces.response_sop_class.size() + 4 * 10 + 8 + padded;
    const auto command_bytes = static_cast<std::uint32_t>(12 + group_length);
    std::string pdu;
    pdu.reserve(12 + command_bytes);
    pdu.push_back(0x04);  // P-DATA-TF with one PDV: a command, and its last fragment
    pdu.push_back(0x00);
    put_big(pdu, command_bytes + 6);
    put_big(pdu, command_bytes + 2);
    pdu.push_back(static_cast<char>(store.context));
    pdu.push_back(0x03);
    put_element_head(pdu, 0x0000, 4);
    put_little(pdu, static_cast<std::uint32_t>(group_length));
    pdu += pieces.response_sop_class;
    put_number(pdu, 0x0100, 0x8001);
    put_number(pdu, 0x0120, store.message_id);
    put_number(pdu, 0x0800, 0x0101);
    put_number(pdu, 0x0900, 0x0000);
    put_element_head(pdu, 0x1000, padded);
    put_padded(pdu, uid);
    return pdu;
}

}  // namespace scai
