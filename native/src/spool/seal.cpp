// Making a seal, and believing one. See seal.hpp for the format.
#include "spool/seal.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <cstring>

#include "base/checksum.hpp"
#include "base/exact_read.hpp"

namespace scai {

namespace {

constexpr std::uint64_t seal_magic = 0x4C41455349414353;  // "SCAISEAL"
constexpr std::uint32_t seal_layout = 1;
constexpr std::uint64_t text_bytes_max = 1u << 20;  // prologue and attributes: far below this
constexpr std::size_t block_bytes = 1u << 20;

std::uint32_t checksum_of(const SealFoot& foot, std::string_view name,
                          std::span<const std::byte> text) {
    const auto head = std::as_bytes(std::span(&foot, 1)).subspan(offsetof(SealFoot, number));
    return crc32c(text, crc32c(head, crc32c(std::as_bytes(std::span(name)))));
}

constexpr const char* reading = "reading a sealed file";

// Whether the instance's bytes are the ones that were sealed.
bool is_whole(int descriptor, const SealFoot& foot) {
    std::vector<std::byte> block(block_bytes);
    std::uint32_t crc = 0;
    for (std::uint64_t at = 0; at < foot.file_bytes;) {
        const auto part = std::span(block).first(
            static_cast<std::size_t>(std::min<std::uint64_t>(block.size(), foot.file_bytes - at)));
        if (!read_exact(descriptor, part, at, reading)) return false;
        crc = crc32c(part, crc);
        at += part.size();
    }
    return crc == foot.file_crc;
}

}  // namespace

std::span<const std::byte> sealed_tail(PageBuffer& buffer, std::span<const std::byte> rest,
                                       std::string_view name, std::uint64_t file_bytes,
                                       std::uint32_t file_crc, const SealText& text) {
    const std::size_t text_bytes = text.prologue.size() + text.attributes.size();
    const std::span<std::byte> tail = buffer.zeroed(rest.size() + text_bytes + sizeof(SealFoot));
    const std::span<std::byte> written = tail.subspan(rest.size(), text_bytes);
    std::copy(rest.begin(), rest.end(), tail.begin());
    const auto prologue = std::as_bytes(std::span(text.prologue));
    std::copy(text.attributes.begin(), text.attributes.end(),
              std::copy(prologue.begin(), prologue.end(), written.begin()));
    SealFoot foot{};
    foot.magic = seal_magic;
    foot.layout = seal_layout;
    foot.number = text.number;
    foot.file_bytes = file_bytes;
    foot.file_crc = file_crc;
    foot.prologue_bytes = static_cast<std::uint32_t>(text.prologue.size());
    foot.attributes_bytes = static_cast<std::uint32_t>(text.attributes.size());
    foot.crc = checksum_of(foot, name, written);
    std::memcpy(tail.last(sizeof foot).data(), &foot, sizeof foot);
    return tail;
}

std::optional<FoundSeal> find_seal(int directory, const std::string& name,
                                   std::uint64_t file_bytes_max, bool durable) {
    const Descriptor file(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!file) fail("opening " + name);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) fail("looking at " + name);
    const auto length = static_cast<std::uint64_t>(status.st_size);
    SealFoot foot{};
    if (!S_ISREG(status.st_mode) || length < page_bytes || length % page_bytes != 0 ||
        !read_exact(file.get(), std::as_writable_bytes(std::span(&foot, 1)), length - sizeof foot,
                    reading)) {
        return std::nullopt;
    }
    const std::uint64_t text_bytes = std::uint64_t{foot.prologue_bytes} + foot.attributes_bytes;
    if (foot.magic != seal_magic || foot.layout != seal_layout ||
        foot.file_bytes > file_bytes_max || text_bytes > text_bytes_max ||
        align_up(foot.file_bytes + text_bytes + sizeof foot, page_bytes) != length) {
        return std::nullopt;
    }
    if (durable) {
        if (::fdatasync(file.get()) != 0) fail("fdatasync of " + name);
        // Pages that the kernel takes for clean are let go, so that what is believed is what the
        // disk has. Best effort: files are written past the page cache where that is possible.
        static_cast<void>(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED));
    }
    std::vector<std::byte> text(text_bytes);
    if (!read_exact(file.get(), text, foot.file_bytes, reading) ||
        foot.crc != checksum_of(foot, name, text) || !is_whole(file.get(), foot)) {
        return std::nullopt;
    }
    FoundSeal found{name, foot.number, foot.file_bytes, foot.file_crc, {}, {}};
    const auto* const prologue = reinterpret_cast<const char*>(text.data());
    found.prologue.assign(prologue, foot.prologue_bytes);
    found.attributes.assign(text.begin() + foot.prologue_bytes, text.end());
    return found;
}

}  // namespace scai
