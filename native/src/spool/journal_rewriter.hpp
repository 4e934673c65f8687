// Writes a segment anew that takes the name of a damaged one in one step: records that prove
// themselves under their own numbers, gaps for the others, all chained again.
//
// What does not fit goes to another segment behind it, which has its name before. So an interrupted
// writing leaves the damaged segment, and at most a successor whose numbers are not in it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "spool/journal_survivors.hpp"

namespace scai {

class JournalRewriter {
public:
    JournalRewriter(std::string directory, std::uint64_t segment_bytes, std::uint64_t first,
                    std::uint32_t chain);

    // A record of the segment with this content; one whose bytes do not hold becomes a gap that
    // says whose they were.
    void add(const Survivor& record, std::span<const std::byte> content);
    void add_gap(std::uint64_t sequence, std::uint64_t count,
                 std::span<const std::byte> prologue = {});

    // All of it has its place on the disk, under its names. SystemFailure.
    void put() const;

private:
    struct Segment {
        std::uint64_t first;
        std::vector<std::byte> content;
    };

    void begin(std::uint64_t first);
    void append(RecordHead head, std::span<const std::byte> text, std::span<const std::byte> bytes);

    std::string directory_;
    std::uint64_t segment_bytes_;
    std::uint32_t chain_;
    std::uint64_t offset_ = 0;
    std::vector<Segment> segments_;
};

}  // namespace scai
