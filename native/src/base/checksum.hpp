// CRC-32C (Castagnoli, RFC 3720 appendix B.4), the checksum of journal records and stored files.
// Promise: incremental, crc32c(b, crc32c(a)) == crc32c(a + b); never allocates, never fails; the
// same result with and without the processor's own instruction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace scai {

std::uint32_t crc32c(std::span<const std::byte> data, std::uint32_t seed = 0) noexcept;

// The way for processors without the instruction; public so that tests compare the two.
std::uint32_t crc32c_by_table(std::span<const std::byte> data, std::uint32_t seed = 0) noexcept;

}  // namespace scai
