// Laying records one behind the other in memory, and putting the segment in its place.
#include "spool/journal_rewriter.hpp"

#include <fcntl.h>
#include <algorithm>
#include <cstring>

#include "spool/journal_damage.hpp"

namespace scai {

JournalRewriter::JournalRewriter(std::string directory, std::uint64_t segment_bytes,
                                 std::uint64_t first, std::uint32_t chain)
    : directory_(std::move(directory)), segment_bytes_(segment_bytes), chain_(chain) {
    begin(first);
}

void JournalRewriter::begin(std::uint64_t first) {
    Segment& segment = segments_.emplace_back(Segment{first, {}});
    segment.content.resize(static_cast<std::size_t>(segment_bytes_));
    SegmentHeader header{};
    header.magic = segment_magic;
    header.layout = journal_layout;
    header.first_sequence = first;
    header.segment_bytes = segment_bytes_;
    header.chain = chain_;
    header.crc = checksum_of(header);
    std::memcpy(segment.content.data(), &header, sizeof header);
    offset_ = page_bytes;
}

void JournalRewriter::append(RecordHead head, std::span<const std::byte> text,
                             std::span<const std::byte> bytes) {
    head.record_bytes = head.expected_bytes();
    if (offset_ + head.record_bytes > segment_bytes_) begin(head.sequence);
    head.chain = chain_;
    head.crc = checksum_of(head, text);
    std::byte* const at = segments_.back().content.data() + offset_;
    std::memcpy(at, &head, sizeof head);
    std::copy(text.begin(), text.end(), at + sizeof head);
    std::copy(bytes.begin(), bytes.end(), at + head.text_bytes());
    offset_ += head.record_bytes;
    chain_ = head.crc;
}

void JournalRewriter::add(const Survivor& record, std::span<const std::byte> content) {
    const RecordHead& head = record.head;
    const auto text = content.subspan(record.begin + sizeof head);
    if (!record.whole) {
        add_gap(head.sequence, 1, text.first(head.prologue_bytes));
        return;
    }
    const auto text_bytes =
        std::size_t{head.prologue_bytes} + head.attributes_bytes + head.name_bytes;
    std::span<const std::byte> bytes;
    if (head.inlined != 0) {
        bytes = content.subspan(record.begin + static_cast<std::size_t>(head.text_bytes()),
                                static_cast<std::size_t>(head.file_bytes));
    }
    append(head, text.first(text_bytes), bytes);
}

void JournalRewriter::add_gap(std::uint64_t sequence, std::uint64_t count,
                              std::span<const std::byte> prologue) {
    RecordHead head{};
    head.magic = record_magic;
    head.sequence = sequence;
    head.file_bytes = count;
    head.prologue_bytes = static_cast<std::uint32_t>(prologue.size());
    head.durable_before = sequence;
    append(head, prologue, {});
}

void JournalRewriter::put() const {
    for (auto segment = segments_.rbegin(); segment != segments_.rend(); ++segment) {
        const std::string path = directory_ + "/" + segment_name(segment->first);
        const std::string making = path + ".making";  // segment_maker.cpp sweeps such
        write_file(making, segment->content);
        if (::rename(making.c_str(), path.c_str()) != 0) fail("renaming " + making);
        sync_directory(directory_);
    }
}

}  // namespace scai
