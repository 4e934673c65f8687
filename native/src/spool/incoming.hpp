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

// Of an instance that is acknowledged by its seal alone: a restart reads it whole. What is larger
// can wait for its record.
inline constexpr std::uint64_t sealed_bytes_max = 16u << 20;  // limits.sealed_bytes_max

struct LeftOver {
    std::vector<FoundSeal> sealed;  // in the order in which they were
    std::uint64_t removed = 0;      // files with bytes of instances nobody was told of
};

// If `durable`, sealed files and their names are synced when this returns: a record is going to
// name them. SystemFailure if the disk fails.
LeftOver sweep_incoming(int directory, const std::string& path, const Journal& journal,
                        bool durable);

// For a journal that no receiver writes any more: gives each sealed file its record. How many there
// were. SystemFailure if somebody writes the journal, or it takes no record.
std::uint64_t adopt_sealed(JournalSettings settings, const std::string& incoming_directory);

}  // namespace scai
