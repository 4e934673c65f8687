// Any bytes as a journal, with checksums made right so that what lies behind them is reached: the
// reader stays inside the segment, takes only whole records in order, and finds the same ones when
// it reads one at a time, in batches, or begins in the middle.
// Input: {u8 flags, records ...}, a record: {u8 kind, u8 prologue, u8 attributes, u8 name, u16 file
// bytes, u16 lie}; kind says which field lies and which checksum is left wrong.
#include <fcntl.h>

#include "base/checksum.hpp"
#include "scratch.hpp"

namespace {

constexpr std::uint64_t segment_bytes = 256u << 10;

const scratch::Directory& directory() {
    static scratch::Directory only;
    return only;
}

using Bytes = std::vector<std::byte>;

template <typename Plain>
void put(Bytes& to, std::size_t at, const Plain& value) {
    if (to.size() < at + sizeof value) to.resize(at + sizeof value);
    std::memcpy(to.data() + at, &value, sizeof value);
}

// What lies: each changes one thing that makes a record whole.
void tell_a_lie(scai::RecordHead& head, std::uint8_t kind, std::uint16_t lie) {
    switch (kind % 16) {
        case 4: head.magic ^= lie; break;
        case 5: head.sequence += lie; break;
        case 6: head.chain ^= lie; break;
        case 7: head.record_bytes += lie; break;
        case 8: head.record_bytes = std::uint64_t{lie} << 48; break;
        case 9: head.file_bytes = std::uint64_t{lie} << 48 | lie; break;
        case 10: head.prologue_bytes = std::uint32_t{lie} << 16 | lie; break;
        case 11: head.attributes_bytes += lie; break;
        case 12: head.name_bytes = std::uint32_t{lie} << 16; break;
        case 13: head.inlined = lie; break;
        default: break;
    }
}

struct Made {
    Bytes segment;
    std::uint64_t whole = 0;  // records before the first that is not
};

// Appends one record; false when it is (probably) not whole.
bool append(Made& made, std::size_t& at, std::uint32_t& chain, std::uint64_t sequence,
            const std::uint8_t* input) {
    const std::uint8_t kind = input[0];
    const auto lie = static_cast<std::uint16_t>(input[6] | input[7] << 8);
    const bool inlined = (kind & 16) == 0;
    const std::uint32_t file_bytes = (input[4] | std::uint32_t{input[5]} << 8) % 20'000;
    scai::RecordHead head{};
    head.magic = scai::record_magic;
    head.chain = chain;
    head.inlined = inlined ? 1 : 0;
    head.sequence = sequence;
    head.file_bytes = file_bytes;
    head.prologue_bytes = input[1];
    head.attributes_bytes = input[2];
    head.name_bytes = inlined ? 0 : input[3] | 1u;  // without a name it would be a gap
    head.record_bytes = head.expected_bytes();
    if (at + head.record_bytes > segment_bytes) return false;
    const std::uint64_t honest_bytes = head.record_bytes;
    const std::uint64_t text_at = at + sizeof head;
    const std::uint64_t text_bytes =
        std::uint64_t{head.prologue_bytes} + head.attributes_bytes + head.name_bytes;
    const std::uint64_t inline_at = at + head.text_bytes();
    made.segment.resize(at + honest_bytes);
    for (std::uint64_t byte = text_at; byte < at + honest_bytes; ++byte) {
        made.segment[byte] = static_cast<std::byte>(byte * 7 + kind);
    }
    const std::span<const std::byte> bytes(made.segment);
    head.file_crc = scai::crc32c(bytes.subspan(inline_at, inlined ? file_bytes : 0));
    const scai::RecordHead honest = head;
    tell_a_lie(head, kind, lie);
    head.crc = scai::checksum_of(head, bytes.subspan(text_at, text_bytes));
    // All but the checksum, which follows the lies.
    bool whole = honest.magic == head.magic &&
                 std::memcmp(&honest.chain, &head.chain, sizeof head - 8) == 0;
    if (kind % 16 == 14 && lie != 0) {
        head.crc ^= lie;
        whole = false;
    }
    if (kind % 16 == 15 && inlined && file_bytes > 0 && lie % 256 != 0) {
        made.segment[inline_at + lie % file_bytes] ^= static_cast<std::byte>(lie % 256);
        whole = false;
    }
    put(made.segment, at, head);
    at += honest_bytes;
    chain = head.crc;
    return whole;
}

Made journal_of(std::span<const std::uint8_t> input, std::uint64_t first) {
    Made made;
    scai::SegmentHeader header{};
    header.magic = scai::segment_magic;
    header.layout = scai::journal_layout;
    header.first_sequence = first;
    header.segment_bytes = segment_bytes;
    header.chain = 77;
    header.crc = scai::checksum_of(header);
    put(made.segment, 0, header);
    std::size_t at = scai::page_bytes;
    made.segment.resize(at);
    std::uint32_t chain = header.chain;
    std::uint64_t sequence = first;
    bool whole = true;
    for (std::size_t record = 0; record + 8 <= input.size() && made.segment.size() < segment_bytes;
         record += 8) {
        whole = append(made, at, chain, sequence++, input.data() + record) && whole;
        if (whole) ++made.whole;
    }
    return made;
}

std::string described(const scai::JournalRecord& record) {
    std::string text = record.prologue + "|" + record.attributes + "|" + record.name;
    for (const std::uint64_t number : {record.sequence, record.file_bytes}) {
        text += "|" + std::to_string(number);
    }
    return text + "|" + std::to_string(record.file_crc);
}

std::vector<std::string> read_all(std::uint64_t from, std::size_t at_once) {
    scai::JournalReader reader(directory().journal(), from);
    std::vector<std::string> found;
    for (;;) {
        const auto records = reader.read(UINT64_MAX, at_once);
        FUZZ_CLAIM(records.size() <= at_once);
        if (records.empty()) return found;
        for (const auto& record : records) found.push_back(described(record));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 1) return 0;
    const std::uint64_t first = 1 + input[0] % 4;
    const Made made = journal_of({input + 1, size - 1}, first);
    const std::string path = directory().journal() + "/" + scai::segment_name(first);
    {
        constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
        const scai::Descriptor file(::open(path.c_str(), flags, 0600));
        const auto count = static_cast<ssize_t>(made.segment.size());
        FUZZ_CLAIM(file && ::write(file.get(), made.segment.data(), made.segment.size()) == count);
    }
    const auto found = read_all(0, 1000);
    // A lie may happen to be none; a whole record is never missed.
    FUZZ_CLAIM(found.size() >= made.whole);
    FUZZ_CLAIM(read_all(0, 1) == found);
    const auto middle = static_cast<std::ptrdiff_t>(found.size() / 2);
    const std::vector<std::string> rest(found.begin() + middle, found.end());
    FUZZ_CLAIM(read_all(first + found.size() / 2, 3) == rest);
    std::filesystem::remove(path);
    return 0;
}
