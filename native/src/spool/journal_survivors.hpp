// What of a damaged journal segment still proves itself: records whose own checksums hold, wherever
// they stand.
//
// A record is looked for at each place where one may begin. Only a damaged one is looked into: its
// bytes came from a peer and may look like a record. So of two that have the same number the one
// counts that the chain leads to, from the last good record on or back from the end; failing that
// the one that was written later. A name that leads out of incoming/ is no record of ours.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spool/journal_format.hpp"
#include "spool/journal_reached.hpp"

namespace scai {

struct Survivor {
    RecordHead head;
    std::size_t begin;  // in the segment
    bool whole;         // false: of an inline instance whose bytes do not hold
    std::size_t end() const { return begin + static_cast<std::size_t>(head.record_bytes); }
};

class Survivors {
public:
    // Reads the segment of this number. `reached`: a number that the journal came to for sure.
    // SystemFailure if the disk fails.
    Survivors(const std::string& path, std::uint64_t first, std::uint64_t reached,
              std::uint64_t segment_bytes);

    // One for each number below `limit`. `known`: a record that is known to have stood here.
    std::map<std::uint64_t, Survivor> chosen(std::uint64_t limit, const Reached& known) const;

    // Every number below it was durable: a record says so that stands where reading ended, or
    // behind. 0: none does.
    std::uint64_t durable_before(std::uint64_t end) const;

    // The last number that any of them has; 0: there is none.
    std::uint64_t last_sequence() const {
        return found_.empty() ? 0 : found_.rbegin()->second.head.last_sequence();
    }

    std::span<const std::byte> content() const { return content_; }
    std::uint32_t header_chain() const { return header_chain_; }

private:
    bool look_at(std::size_t begin, Survivor& found) const;

    std::uint64_t first_;
    std::uint64_t limit_;  // no number above is believed; gaps lead further
    std::vector<std::byte> content_;
    bool has_header_ = false;
    std::uint32_t header_chain_ = 0;
    std::multimap<std::uint64_t, Survivor> found_;
};

// Whether it can be the name of a file under incoming/.
bool is_plain_name(std::string_view name);

}  // namespace scai
