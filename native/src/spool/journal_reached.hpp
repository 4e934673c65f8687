// How far a journal came, noted beside it in `reached`: the number and the checksum of its last
// durable record.
//
// It is written after each group's sync and never synced itself, so it costs a copy into the page
// cache. What a disk has of it after a power cut may be old, but it is never ahead of a journal
// that is synced: it is a lower bound, and one that is not whole says nothing. By it a start
// notices that the journal's last segment is missing, was cut, or is an old copy of itself, and
// begins above the numbers that were used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/base.hpp"

namespace scai {

struct Reached {
    std::uint64_t sequence = 0;  // 0: nothing is known
    std::uint32_t chain = 0;     // that record's checksum
};

Reached read_reached(const std::string& directory);

class ReachedNote {
public:
    // Opens it to be written; SystemFailure.
    explicit ReachedNote(const std::string& directory);
    // What fails is not told: the note is older then, and still true.
    void write(Reached reached) noexcept;

private:
    Descriptor file_;
};

}  // namespace scai
