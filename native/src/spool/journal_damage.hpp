// What a start keeps of a damaged journal for whoever looks after it: damaged/ under the journal.
#pragma once

#include <string>

#include "spool/journal_repair.hpp"

namespace scai {

inline constexpr const char* damaged_directory = "damaged";

// Adds a line to damaged/findings.jsonl: which case, where, which numbers are lost. Durable when
// this returns; SystemFailure.
void note_damage(const std::string& directory, const Diagnosis& diagnosis);

// A durable copy of the segment as the disk had it, under a name of its own.
void set_damage_aside(const std::string& directory, const Diagnosis& diagnosis);

// Writes a file and syncs it.
void write_file(const std::string& path, std::span<const std::byte> content);

void sync_directory(const std::string& directory);

}  // namespace scai
