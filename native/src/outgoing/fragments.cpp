// See fragments.hpp.
#include "outgoing/fragments.hpp"

#include <unistd.h>
#include <array>
#include <cerrno>

namespace scai {
namespace {

constexpr std::size_t header_bytes = 8;
constexpr std::uint32_t item = 0xfffee000;
constexpr std::uint32_t sequence_end = 0xfffee0dd;
constexpr std::uint32_t undefined_length = 0xffffffff;

bool read_header(int descriptor, std::uint64_t at, std::array<unsigned char, header_bytes>& to) {
    for (;;) {
        const ssize_t count = ::pread(descriptor, to.data(), to.size(), static_cast<off_t>(at));
        if (count < 0 && errno == EINTR) continue;
        return count == static_cast<ssize_t>(to.size());
    }
}

}  // namespace

std::optional<Fragments> find_fragments(int descriptor, std::uint64_t at, std::uint64_t end,
                                        std::size_t items_max) {
    Fragments found;
    std::array<unsigned char, header_bytes> header;
    while (at <= end && end - at >= header_bytes && read_header(descriptor, at, header)) {
        const std::uint32_t tag = std::uint32_t{header[1]} << 24 | std::uint32_t{header[0]} << 16 |
                                  std::uint32_t{header[3]} << 8 | header[2];
        const std::uint32_t length = std::uint32_t{header[7]} << 24 |
                                     std::uint32_t{header[6]} << 16 |
                                     std::uint32_t{header[5]} << 8 | header[4];
        at += header_bytes;
        if (tag == sequence_end && !found.spans.empty()) {
            if (length != 0) return {};  // read all the same, but told of
            found.behind = at;
            return found;
        }
        if (tag != item || length == undefined_length) return {};
        if (found.spans.size() >= items_max) return {};
        found.spans.emplace_back(at, at + length);
        at += length;
    }
    return {};
}

}  // namespace scai
