// A journal whose segments do not follow each other: what is damaged is told from what was never
// promised, and mended so that all that still proves itself is read again.
//
// Looked at by a start, under the writer's lock, where reading came to an end. A segment is left
// only when it is full and synced, and its successor is named only when its header is synced. So
// where a later segment begins, all numbers below its own were durable. These are all the cases:
//
//   the segment             behind it                     what it means          what is done
//   ----------------------  ----------------------------  ---------------------  ----------------
//   ends, all of its size   no segment; no record that    end: what was never    goes on from here
//                           says more was durable         promised, or nothing
//   ends, cut short         no segment; `reached` says    unused_cut: only room  made whole
//                           that this was the end         is lost
//   header does not hold,   no segment; it has no record, unfinished_rotation:   removed
//   begins at the end       `reached` is not so far       (without syncs only)
//   ends                    no segment; a record that     broken_inside          mended
//                           says more was durable
//   ends                    no segment; `reached` is      behind_reached: its    mended
//                           further                       end, or segments
//   ends, cut short         no segment; `reached` says    cut_short              mended, numbers
//                           nothing of it                                        go on behind it
//   ends                    a segment that begins above   short_of_next: this    mended
//                                                         is damaged, or one
//                                                         between is missing
//   header does not hold    anything else                 head_lost              mended
//   there is none           `reached` says there was      all_missing            numbers go on
//
// To mend is to give the segment's name to another one with every record that proves itself, each
// under its number, and gaps (journal_format.hpp) for the rest. What the disk had goes to damaged/
// before, and a line in damaged/findings.jsonl says what is missing. Nothing else is ever removed.
// A mending that is interrupted is done again by the next start.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "spool/journal_reader.hpp"
#include "spool/journal_reached.hpp"
#include "spool/journal_survivors.hpp"

namespace scai {

enum class JournalCase : std::uint8_t {
    end,
    unused_cut,
    unfinished_rotation,
    broken_inside,
    behind_reached,
    cut_short,
    short_of_next,
    head_lost,
    all_missing,
};

const char* name_of(JournalCase found);

// Numbers that are lost, and between which bytes of the segment they stood.
struct LostRange {
    std::uint64_t first;
    std::uint64_t last;
    std::uint64_t begin;
    std::uint64_t end;
};

struct Diagnosis {
    JournalCase found = JournalCase::end;
    SegmentName segment;                    // of which it is said
    std::uint64_t byte = 0;                 // where reading came to its end
    std::uint64_t limit = 0;                // its numbers are below
    std::vector<LostRange> lost;
    std::uint64_t taken = 0;                // records behind that still prove themselves
    std::uint32_t header_chain = 0;
    std::map<std::uint64_t, Survivor> kept;
    std::vector<std::byte> content;

    bool is_damage() const {
        return found != JournalCase::end && found != JournalCase::unused_cut &&
               found != JournalCase::unfinished_rotation;
    }
};

class JournalRepair {
public:
    JournalRepair(std::string directory, std::uint64_t segment_bytes)
        : directory_(std::move(directory)),
          segment_bytes_(segment_bytes),
          reached_(read_reached(directory_)) {}

    // After a reader that began with the oldest segment has come to its end. Changes nothing.
    Diagnosis diagnose(const JournalReader& reader) const;

    // True: something has changed, and the journal is to be read again from its beginning.
    bool mend(const Diagnosis& diagnosis) const;

    const Reached& reached() const { return reached_; }

private:
    Diagnosis of_last(Diagnosis diagnosis, const JournalReader& reader, bool begins_at_end) const;
    void weigh(Diagnosis& diagnosis, const Survivors& survivors, std::uint64_t end,
               const Reached& known) const;

    std::string directory_;
    std::uint64_t segment_bytes_;
    Reached reached_;
};

// What a start would find damaged first; nothing if it would find none. For a journal that nobody
// writes at the moment.
std::optional<Diagnosis> examine_journal(const std::string& directory,
                                         std::uint64_t segment_bytes);

}  // namespace scai
