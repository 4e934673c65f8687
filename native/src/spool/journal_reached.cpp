// The note of 32 bytes. See journal_reached.hpp for what it is worth.
#include "spool/journal_reached.hpp"

#include <fcntl.h>
#include <span>

#include "base/checksum.hpp"
#include "base/exact_read.hpp"

namespace scai {

namespace {

constexpr std::uint64_t reached_magic = 0x4843524941435300;  // "SCAIRCH"

struct Note {
    std::uint64_t magic;
    std::uint64_t sequence;
    std::uint32_t chain;
    std::uint32_t reserved;
    std::uint32_t crc;  // of all before it
    std::uint32_t zero;
};
static_assert(sizeof(Note) == 32);

std::uint32_t checksum_of(const Note& note) {
    return crc32c(std::as_bytes(std::span(&note, 1)).first(offsetof(Note, crc)));
}

std::string path_in(const std::string& directory) {
    return directory + "/reached";
}

}  // namespace

Reached read_reached(const std::string& directory) {
    const Descriptor file(::open(path_in(directory).c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        if (errno == ENOENT) return {};
        fail("opening " + path_in(directory));
    }
    Note note{};
    const bool whole = read_exact(file.get(), std::as_writable_bytes(std::span(&note, 1)), 0,
                                  "reading how far the journal came");
    if (!whole || note.magic != reached_magic || note.crc != checksum_of(note)) return {};
    return {note.sequence, note.chain};
}

ReachedNote::ReachedNote(const std::string& directory)
    : file_(::open(path_in(directory).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) {
    if (!file_) fail("opening " + path_in(directory));
}

void ReachedNote::write(Reached reached) noexcept {
    Note note{reached_magic, reached.sequence, reached.chain, 0, 0, 0};
    note.crc = checksum_of(note);
    // One page is written in one step, as far as any process of this machine can see.
    static_cast<void>(::pwrite(file_.get(), &note, sizeof note, 0));
}

}  // namespace scai
