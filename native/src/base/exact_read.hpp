// Reading a place in a file to the last byte, whatever read(2) does in between.
#pragma once

#include <span>

#include "base/base.hpp"

namespace scai {

// False: the file ends before. SystemFailure that says what was being done if the disk fails.
inline bool read_exact(int descriptor, std::span<std::byte> into, std::uint64_t offset,
                       const char* doing) {
    while (!into.empty()) {
        const ssize_t got =
            ::pread(descriptor, into.data(), into.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) fail(doing);
        if (got == 0) return false;
        into = into.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
    return true;
}

}  // namespace scai
