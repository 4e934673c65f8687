// The journal on disk: what a segment and a record look like, and when a record counts as whole.
//
//   <directory>/<first sequence, 16 hex digits>.wal     segments in use, each of the same size
//   <directory>/free-<16 hex digits>.wal                consumed, to be used again
//   <directory>/reached                                 how far it came: journal_reached.hpp
//   <directory>/damaged/                                what a start set aside: journal_repair.hpp
//
//   segment: | header, one page | record | record | ... | whatever lay there before |
//   record:  | RecordHead 64 | prologue | attributes | name | 0..7 zero | file bytes, if inline |
//   zeros to 64 |
//
// A record is whole if its magic, its length, its sequence (the one before plus 1), its chain (the
// checksum of the record before it) and its checksums hold. The chain is what makes a left-over of
// an earlier writing at the same place invisible, even one of the same size with the right number.
// Each says up to where the journal was durable when it was written: what was promised can be told
// from the torn end of a group that never was.
//
// A gap is a record with neither a name nor bytes inside: `file_bytes` numbers from its own on are
// lost. Only a start writes one, in the place of what was damaged (journal_repair.hpp), so that
// numbers go on without a hole and none is used again. If it stands for one record whose head still
// proves itself, that record's prologue is in it. All fields little endian.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/base.hpp"

namespace scai {

inline constexpr std::uint64_t segment_magic = 0x4C41574943414353;  // "SCACIWAL", never a record's
inline constexpr std::uint32_t record_magic = 0x524A4353;           // "SCJR"
inline constexpr std::uint32_t journal_layout = 1;
inline constexpr std::uint64_t record_alignment = 64;

struct SegmentHeader {
    std::uint64_t magic;
    std::uint32_t layout;
    std::uint32_t crc;  // of the fields that follow
    std::uint64_t first_sequence;
    std::uint64_t segment_bytes;
    std::uint32_t chain;  // the checksum of the last record of the segment before
    std::uint32_t reserved;
};
static_assert(sizeof(SegmentHeader) == 40);

struct RecordHead {
    std::uint32_t magic;
    std::uint32_t crc;    // of all that follows in the head, then prologue, attributes and name
    std::uint32_t chain;  // the crc of the record before this one
    std::uint32_t inlined;
    std::uint64_t sequence;
    std::uint64_t record_bytes;
    std::uint64_t file_bytes;
    std::uint32_t file_crc;
    std::uint32_t prologue_bytes;
    std::uint32_t attributes_bytes;
    std::uint32_t name_bytes;
    // The first sequence of the group it was written with: all below was durable by then. 0 in
    // journals of release 0.2.0 and before.
    std::uint64_t durable_before;

    bool is_gap() const { return inlined == 0 && name_bytes == 0; }
    // The last number that it stands for.
    std::uint64_t last_sequence() const {
        return is_gap() ? sequence + file_bytes - 1 : sequence;
    }
    std::uint64_t text_bytes() const {
        return align_up(
            sizeof(RecordHead) + std::uint64_t{prologue_bytes} + attributes_bytes + name_bytes, 8);
    }
    std::uint64_t expected_bytes() const {
        return align_up(text_bytes() + (inlined != 0 ? file_bytes : 0), record_alignment);
    }
};
static_assert(sizeof(RecordHead) == 64);

inline constexpr std::uint64_t record_text_bytes_max = 1u << 20;  // far below this in truth
inline constexpr std::uint64_t gap_max = std::uint64_t{1} << 44;  // numbers in one
// No segment can have begun more numbers than this: damage does not lead beyond.
constexpr std::uint64_t numbers_in(std::uint64_t segment_bytes) {
    return segment_bytes / record_alignment;
}

struct SegmentName {
    std::uint64_t first_sequence;
    std::string name;
};

std::string segment_name(std::uint64_t first_sequence);
std::string free_segment_name(std::uint64_t first_sequence);

// Segments in use, in order; `free` receives the names of those that may be used again.
std::vector<SegmentName> list_segments(const std::string& directory,
                                       std::vector<std::string>* free);

std::uint32_t checksum_of(const SegmentHeader& header);

// Whether the header of the segment of this number holds.
bool holds(const SegmentHeader& header, std::uint64_t first_sequence);

// The checksum of a record's head and the text after it.
std::uint32_t checksum_of(const RecordHead& head, std::span<const std::byte> text);

}  // namespace scai
