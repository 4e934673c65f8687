// Looking through incoming/ at a start. See incoming.hpp for what is promised.
#include "incoming.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <filesystem>
#include <unordered_set>

namespace scai {

namespace {

std::vector<std::string> unnamed_files(const std::string& path, const Journal& journal) {
    const auto& named = journal.names_found();
    const std::unordered_set<std::string> wanted(named.begin(), named.end());
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(path.c_str()), ::closedir);
    if (!entries) fail("opening " + path);
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(entries.get())) {
        std::string name = entry->d_name;
        if (name.ends_with(".part") && !wanted.contains(name)) names.push_back(std::move(name));
    }
    return names;
}

bool has_bytes(const std::string& path) {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
        const auto bytes = entry.file_size(gone);
        if (!gone && bytes > 0) return true;
    }
    return false;
}

}  // namespace

LeftOver sweep_incoming(int directory, const std::string& path, const Journal& journal) {
    LeftOver left;
    for (const std::string& name : unnamed_files(path, journal)) {
        if (auto seal = find_seal(directory, name, sealed_bytes_max)) {
            left.sealed.push_back(std::move(*seal));
            continue;
        }
        struct stat status {};
        const bool begun = ::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                           status.st_size > 0;
        if (::unlinkat(directory, name.c_str(), 0) != 0) fail("removing " + name);
        if (begun) ++left.removed;
    }
    std::sort(left.sealed.begin(), left.sealed.end(),
              [](const auto& a, const auto& b) { return a.number < b.number; });
    return left;
}

std::uint64_t adopt_sealed(JournalSettings settings, const std::string& incoming_directory) {
    const Descriptor directory(
        ::open(incoming_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory && errno == ENOENT) return 0;
    if (!directory) fail("opening " + incoming_directory);
    if (!has_bytes(incoming_directory)) return 0;
    Journal journal(std::move(settings));
    const LeftOver left = sweep_incoming(directory.get(), incoming_directory, journal);
    std::vector<JournalEntry> entries;
    for (const FoundSeal& seal : left.sealed) {
        entries.push_back({.prologue = seal.prologue,
                           .attributes = seal.attributes,
                           .name = seal.name,
                           .bytes = {},
                           .file_bytes = seal.file_bytes,
                           .file_crc = seal.file_crc});
    }
    const auto appended = journal.append(entries);
    if (appended.code != 0) throw SystemFailure(appended.code, "giving sealed files their records");
    return appended.durable;
}

}  // namespace scai
