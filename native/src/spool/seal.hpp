// A seal: what makes a large instance's file under incoming/ speak for itself until the journal
// names it.
//
//   | file bytes | prologue | attributes | zeros | SealFoot, 64 bytes |    whole pages in all
//
// It is written with the instance's last bytes, in one write, and made durable by the same sync; so
// the peer need not wait for the journal as well. A seal is believed only if its own checksum and
// that of the whole file hold: pages reach a disk in any order. It is cut off when the file is
// placed, which happens only after a journal's record says the same. All fields little endian.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.hpp"
#include "base/direct_file.hpp"

namespace scai {

struct SealFoot {
    std::uint64_t magic;
    std::uint32_t layout;
    std::uint32_t crc;     // of the file's name, all that follows here, the prologue and attributes
    std::uint64_t number;  // grows with each seal of a spool, and from one process to the next
    std::uint64_t file_bytes;
    std::uint32_t file_crc;
    std::uint32_t prologue_bytes;
    std::uint32_t attributes_bytes;
    std::uint32_t reserved[5];
};
static_assert(sizeof(SealFoot) == 64);

struct SealText {
    std::uint64_t number = 0;
    std::string_view prologue;
    std::span<const std::byte> attributes;
};

// The last pages of a sealed file: `rest`, the instance's bytes behind its last whole page, and the
// seal. Good until the buffer is used again.
std::span<const std::byte> sealed_tail(PageBuffer& buffer, std::span<const std::byte> rest,
                                       std::string_view name, std::uint64_t file_bytes,
                                       std::uint32_t file_crc, const SealText& text);

struct FoundSeal {
    std::string name;
    std::uint64_t number = 0;
    std::uint64_t file_bytes = 0;
    std::uint32_t file_crc = 0;
    std::string prologue;
    std::vector<std::byte> attributes;
};

// The seal of a file, if it has one and all of it holds; reads the whole file then. Nothing for a
// file of more than `file_bytes_max`. If `durable` it is synced first, and read from the disk: its
// writer's own sync may never have come, or have failed. SystemFailure if the disk fails.
std::optional<FoundSeal> find_seal(int directory, const std::string& name,
                                   std::uint64_t file_bytes_max, bool durable);

}  // namespace scai
