// Writing damaged/: findings, one line of JSON each, and the segments as they were found.
#include "spool/journal_damage.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <span>

#include "base/clock.hpp"

namespace scai {

namespace {

constexpr std::size_t ranges_told_max = 100;  // of one segment; how many are lost is told of all

std::string make_damaged(const std::string& directory) {
    const std::string damaged = directory + "/" + damaged_directory;
    if (::mkdir(damaged.c_str(), 0700) != 0 && errno != EEXIST) fail("making " + damaged);
    sync_directory(directory);
    return damaged;
}

void write_all(int descriptor, std::span<const std::byte> content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t put = ::write(descriptor, content.data(), content.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) fail("writing " + path);
        if (put == 0) throw SystemFailure(ENOSPC, "writing " + path);
        content = content.subspan(static_cast<std::size_t>(put));
    }
}

std::string number(std::uint64_t value) {
    return std::to_string(value);
}

std::string line_of(const Diagnosis& diagnosis) {
    std::uint64_t lost = 0;
    std::string ranges;
    for (std::size_t index = 0; index < diagnosis.lost.size(); ++index) {
        const LostRange& range = diagnosis.lost[index];
        if (range.first != 0) lost += range.last - range.first + 1;
        if (index >= ranges_told_max) continue;
        if (index > 0) ranges += ',';
        ranges += '[' + number(range.first) + ',' + number(range.last) + ',' +
                  number(range.begin) + ',' + number(range.end) + ']';
    }
    return "{\"time_ns\":" + number(realtime_ns()) + ",\"found\":\"" + name_of(diagnosis.found) +
           "\",\"segment\":\"" + diagnosis.segment.name + "\",\"byte\":" + number(diagnosis.byte) +
           ",\"lost\":" + number(lost) + ",\"taken\":" + number(diagnosis.taken) +
           ",\"ranges\":[" + ranges + "]}\n";
}

}  // namespace

void sync_directory(const std::string& directory) {
    const Descriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!opened || ::fsync(opened.get()) != 0) fail("fsync of " + directory);
}

void write_file(const std::string& path, std::span<const std::byte> content) {
    const Descriptor file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file) fail("opening " + path);
    try {
        write_all(file.get(), content, path);
        if (::fsync(file.get()) != 0) fail("fsync of " + path);
    } catch (const SystemFailure&) {
        ::unlink(path.c_str());
        throw;
    }
}

void note_damage(const std::string& directory, const Diagnosis& diagnosis) {
    const std::string damaged = make_damaged(directory);
    const std::string path = damaged + "/findings.jsonl";
    const Descriptor file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!file) fail("opening " + path);
    const std::string line = line_of(diagnosis);
    write_all(file.get(), std::as_bytes(std::span(line)), path);
    if (::fsync(file.get()) != 0) fail("fsync of " + path);
    sync_directory(damaged);
}

void set_damage_aside(const std::string& directory, const Diagnosis& diagnosis) {
    const std::string damaged = make_damaged(directory);
    std::string path;
    for (int copy = 0; path.empty() || ::access(path.c_str(), F_OK) == 0; ++copy) {
        path = damaged + "/" + diagnosis.segment.name + "." + std::to_string(copy);
    }
    write_file(path, diagnosis.content);
    sync_directory(damaged);
}

}  // namespace scai
