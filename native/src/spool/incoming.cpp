// Looking through incoming/ at a start. See incoming.hpp for what is promised.
#include "spool/incoming.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <unordered_set>

#include "base/directory_names.hpp"

namespace scai {

namespace {

struct Part {
    std::string name;
    bool begun;  // it has bytes: it is not from the stock of names
};

std::vector<Part> parts_in(int directory, const std::string& path) {
    std::vector<Part> parts;
    for (std::string& name : names_in(path)) {
        if (!name.ends_with(".part")) continue;
        struct stat status {};
        if (::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) continue;  // the indexer was done with it
            fail("looking at " + name);
        }
        parts.push_back({std::move(name), status.st_size > 0});
    }
    return parts;
}

// The record that named it may be one of those that were lost: whoever looks after the journal has
// its bytes.
void keep_aside(int directory, const std::string& name) {
    if (::mkdirat(directory, "damaged", 0700) != 0 && errno != EEXIST) fail("making damaged");
    const std::string to = "damaged/" + name;
    if (::renameat(directory, name.c_str(), directory, to.c_str()) != 0) fail("moving " + name);
}

}  // namespace

LeftOver sweep_incoming(int directory, const std::string& path, const Journal& journal,
                        std::uint64_t sealed_bytes_max, bool durable) {
    const auto& named = journal.names_found();
    const std::unordered_set<std::string> wanted(named.begin(), named.end());
    LeftOver left;
    for (const auto& [name, begun] : parts_in(directory, path)) {
        if (wanted.contains(name)) continue;
        if (begun) {
            if (auto seal = find_seal(directory, name, sealed_bytes_max, durable)) {
                left.sealed.push_back(std::move(*seal));
                continue;
            }
        }
        if (begun && journal.damaged_found()) {
            keep_aside(directory, name);
            continue;
        }
        if (::unlinkat(directory, name.c_str(), 0) != 0) fail("removing " + name);
        if (begun) ++left.removed;
    }
    if (durable && !left.sealed.empty() && ::fsync(directory) != 0) fail("fsync of " + path);
    std::sort(left.sealed.begin(), left.sealed.end(),
              [](const auto& a, const auto& b) { return a.number < b.number; });
    return left;
}

std::uint64_t adopt_sealed(JournalSettings settings, const std::string& incoming_directory,
                           std::uint64_t sealed_bytes_max) {
    const Descriptor directory(
        ::open(incoming_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory && errno == ENOENT) return 0;
    if (!directory) fail("opening " + incoming_directory);
    const auto parts = parts_in(directory.get(), incoming_directory);
    if (std::ranges::none_of(parts, &Part::begun) &&
        list_segments(settings.directory, nullptr).empty()) {
        return 0;  // no journal is made
    }
    const bool durable = settings.durable;
    const std::size_t group_max = settings.group_max;
    Journal journal(std::move(settings));
    const LeftOver left =
        sweep_incoming(directory.get(), incoming_directory, journal, sealed_bytes_max, durable);
    std::vector<JournalEntry> entries;
    for (const FoundSeal& seal : left.sealed) {
        entries.push_back({.prologue = seal.prologue,
                           .attributes = seal.attributes,
                           .name = seal.name,
                           .bytes = {},
                           .file_bytes = seal.file_bytes,
                           .file_crc = seal.file_crc});
    }
    std::uint64_t given = 0;
    for (std::span rest(entries); !rest.empty();) {
        const auto group = rest.first(std::min(rest.size(), group_max));
        const auto appended = journal.append(group);
        given += appended.durable;
        if (appended.code != 0) {
            throw SystemFailure(appended.code, "giving sealed files their records");
        }
        rest = rest.subspan(group.size());
    }
    return given;
}

}  // namespace scai
