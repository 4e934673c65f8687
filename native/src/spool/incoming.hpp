// What a predecessor left under incoming/, and what becomes of it.
//
// A file that the journal names is the indexer's. Of the others, one with a seal that holds was
// acknowledged and lacks only its record; one without was never acknowledged, and goes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spool/journal.hpp"
#include "spool/seal.hpp"

namespace scai {

struct LeftOver {
    std::vector<FoundSeal> sealed;  // in the order in which they were
    std::uint64_t removed = 0;      // files with bytes of instances nobody was told of
};

// If `durable`, sealed files and their names are synced when this returns: a record is going to
// name them. Files above `sealed_bytes_max` have waited for their records, and are read by nobody.
// SystemFailure if the disk fails.
LeftOver sweep_incoming(int directory, const std::string& path, const Journal& journal,
                        std::uint64_t sealed_bytes_max, bool durable);

// For a journal that no receiver writes any more: gives each sealed file its record. How many there
// were. SystemFailure if somebody writes the journal, or it takes no record.
std::uint64_t adopt_sealed(JournalSettings settings, const std::string& incoming_directory,
                           std::uint64_t sealed_bytes_max);

}  // namespace scai
