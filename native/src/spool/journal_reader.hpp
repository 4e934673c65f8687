// The reading side of a journal, for the indexer and for recovery: records in order, only whole
// ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.hpp"
#include "spool/journal_format.hpp"

namespace scai {

struct JournalRecord {
    std::uint64_t sequence;
    std::string prologue;
    std::string attributes;
    std::string name;
    std::uint64_t file_bytes;
    std::uint32_t file_crc;
    std::uint64_t inline_offset;  // in bytes(), good until the next read()
    std::uint64_t segment_first;  // which segment it stands in, and where
    std::uint64_t offset;
    // So many numbers, up to this one, are lost: a gap has nothing else but a prologue perhaps.
    std::uint64_t lost = 0;
};

class JournalReader {
public:
    // next_sequence 0: the oldest record there is.
    JournalReader(std::string directory, std::uint64_t next_sequence);

    // At most `count` records, none above `last_sequence`; stops before the first that is not
    // whole.
    std::vector<JournalRecord> read(std::uint64_t last_sequence, std::size_t count);

    // Creates or replaces `path` in one step with an inline instance's bytes.
    void place_inline(std::uint64_t offset, std::uint64_t count, const std::string& path,
                      bool durable);

    // Renames segments that end before this sequence so that the writer uses them again; how many.
    std::size_t release(std::uint64_t before_sequence);

    std::uint64_t next_sequence() const noexcept { return next_sequence_; }
    // Where the next record would begin, and what its chain must be: the writer goes on from there.
    std::uint64_t offset() const noexcept { return offset_; }
    std::uint32_t chain() const noexcept { return chain_; }
    std::uint64_t segment_first() const noexcept { return segment_first_; }
    std::uint64_t segment_bytes() const noexcept { return segment_bytes_; }
    // True if something that looks like a record, but is not whole, lies at the end.
    bool torn() const noexcept { return torn_; }

private:
    bool open_segment(std::uint64_t first_sequence, const std::string& name);
    void refresh();
    bool enter_next_segment();
    bool read_record(std::vector<JournalRecord>* into);
    void seek(std::uint64_t sequence);

    std::string directory_;
    Descriptor segment_;
    std::uint64_t segment_first_ = 0;
    std::uint64_t segment_bytes_ = 0;
    std::uint64_t offset_ = 0;
    std::uint64_t next_sequence_ = 0;
    std::uint32_t chain_ = 0;
    bool torn_ = false;
    std::vector<std::uint64_t> starts_;
    std::vector<std::byte> bytes_;
    std::uint64_t used_ = 0;
};

}  // namespace scai
