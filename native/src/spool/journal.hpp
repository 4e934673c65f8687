// The writing side of a journal: appends groups of records and makes them durable with one sync.
//
// One writer, held by a lock on the directory. Not thread-safe: the committer thread owns it. A
// failed append leaves the position where it was; the next group is written over it, and the chain
// of checksums hides what the failed one may have left behind. A sync that failed is never believed
// when it is repeated: all that it was for is written again first
// (docs/decisions/0024-a-failed-sync-is-not-believed.md).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.hpp"
#include "spool/journal_format.hpp"
#include "spool/journal_reached.hpp"
#include "spool/journal_reader.hpp"
#include "spool/segment_maker.hpp"

namespace scai {

struct JournalEntry {
    std::string_view prologue;
    std::span<const std::byte> attributes;
    std::string_view name;             // of the file under incoming/; empty for an inline instance
    std::span<const std::byte> bytes;  // the whole Part-10 file of an inline instance
    std::uint64_t file_bytes = 0;
    std::uint32_t file_crc = 0;
    std::uint64_t sequence = 0;  // set by append()
};

struct JournalSettings {
    std::string directory;
    std::uint64_t segment_bytes = 0;
    std::size_t segments_max = 0;
    // So many records share one sync at most: what was not yet synced when a process died lies
    // within them.
    std::size_t group_max = 0;
    std::uint64_t wait_ms_max = 0;  // for a free segment; then the group fails with EAGAIN
    bool durable = true;
    std::uint64_t lock_wait_ms = 5000;  // a predecessor that drains leaves within two seconds
};

class Journal {
public:
    // Takes the lock (waiting a while for a predecessor that is still leaving), finds the end of
    // what was written, makes it durable.
    explicit Journal(JournalSettings settings);

    struct Appended {
        std::size_t durable;  // so many from the front are safe and numbered
        int code;             // why the others are not: errno, 0 when there are none
    };
    // Writes and syncs the entries. None is acknowledged before it is counted as durable here.
    Appended append(std::span<JournalEntry> entries);

    // Whether a group failed, and a restart may still find its records whole.
    bool has_refused() const noexcept { return refused_; }
    // Makes them unreadable for good; errno, and then it is to be tried again.
    int void_refused();

    // Has the next segment made beside us before it is needed; does nothing when there is no need.
    void prepare();

    // Lets go of the lock; nothing is appended afterwards.
    void close() noexcept {
        maker_.finish();
        segment_.reset();
        lock_.reset();
    }

    std::uint64_t last_sequence() const noexcept { return next_sequence_ - 1; }
    std::uint64_t records_found() const noexcept { return records_found_; }
    std::uint64_t torn_found() const noexcept { return torn_found_; }
    // Names of incoming files that records found at opening refer to.
    const std::vector<std::string>& names_found() const noexcept { return names_found_; }
    // Whether anything was found damaged at opening: there may be names that nobody knows now.
    bool damaged_found() const noexcept { return damaged_; }

private:
    void recover();
    std::uint64_t read_through(JournalReader& reader);
    void write_again(const std::string& path, std::uint64_t begin);
    int write_group(std::span<JournalEntry> entries);
    std::uint64_t record_bytes(const JournalEntry& entry) const;
    int rotate();
    bool is_whole(const std::string& free) const;
    std::string next_free_name();
    int adopt_free_segment(const std::string& name);

    JournalSettings settings_;
    SegmentMaker maker_;
    Descriptor lock_;
    Descriptor directory_;
    Descriptor segment_;
    std::optional<ReachedNote> note_;
    std::uint64_t offset_ = 0;
    std::uint64_t next_sequence_ = 1;
    std::uint32_t chain_ = 0;
    std::uint64_t records_found_ = 0;
    std::uint64_t torn_found_ = 0;
    std::uint64_t created_ = 0;
    bool damaged_ = false;
    bool prepared_ = false;
    bool refused_ = false;
    std::vector<std::string> names_found_;
    std::vector<std::byte> text_;
};

}  // namespace scai
