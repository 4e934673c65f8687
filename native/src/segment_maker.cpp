// Writing zeros in portions, directly where that is possible.
#include "segment_maker.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <system_error>

#include "base.hpp"
#include "thread.hpp"

namespace scai {

namespace {

constexpr std::size_t portion_bytes = 1u << 20;  // between two of them a record's sync has its turn
constexpr std::string_view unfinished = ".making";

using Portion = std::unique_ptr<std::byte, void (*)(void*)>;

Portion zero_portion() {
    auto* const memory = static_cast<std::byte*>(std::aligned_alloc(page_bytes, portion_bytes));
    if (memory != nullptr) std::memset(memory, 0, portion_bytes);
    return {memory, std::free};
}

Descriptor open_fresh(const std::string& path) {
    constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    Descriptor file(::open(path.c_str(), flags | O_DIRECT, 0600));
    if (!file && errno == EINVAL) file = Descriptor(::open(path.c_str(), flags, 0600));
    return file;
}

// Some file systems take O_DIRECT when opening and refuse it when writing.
bool give_up_direct(int descriptor) {
    const int flags = ::fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & O_DIRECT) != 0 &&
           ::fcntl(descriptor, F_SETFL, flags & ~O_DIRECT) == 0;
}

int write_zeros(int descriptor, std::uint64_t bytes) {
    const Portion zeros = zero_portion();
    if (zeros == nullptr) return ENOMEM;
    for (std::uint64_t at = 0; at < bytes;) {
        const std::size_t count = std::min<std::uint64_t>(portion_bytes, bytes - at);
        const ssize_t put = ::pwrite(descriptor, zeros.get(), count, static_cast<off_t>(at));
        if (put > 0) {
            at += static_cast<std::uint64_t>(put);
        } else if (put == 0) {
            return ENOSPC;
        } else if (errno != EINTR && !(errno == EINVAL && give_up_direct(descriptor))) {
            return errno;
        }
    }
    return 0;
}

}  // namespace

SegmentMaker::SegmentMaker(std::string directory, std::uint64_t segment_bytes, bool durable)
    : directory_(std::move(directory)), segment_bytes_(segment_bytes), durable_(durable) {}

SegmentMaker::~SegmentMaker() {
    finish();
}

int SegmentMaker::make(const std::string& name) {
    const std::string path = directory_ + "/" + name;
    const std::string making = path + std::string(unfinished);
    Descriptor file = open_fresh(making);
    if (!file) return errno;
    int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(segment_bytes_));
    if (code == 0) code = write_zeros(file.get(), segment_bytes_);
    if (code == 0 && durable_ && ::fsync(file.get()) != 0) code = errno;
    if (const int closing = file.reset(); code == 0) code = closing;
    if (code == 0 && ::rename(making.c_str(), path.c_str()) != 0) code = errno;
    if (code != 0) ::unlink(making.c_str());
    return code;
}

void SegmentMaker::begin(std::string name) {
    if (under_way()) return;
    finish();
    busy_.store(true, std::memory_order_release);
    try {
        thread_ = start_thread("scai-segment", [this, name = std::move(name)] {
            static_cast<void>(make(name));
            busy_.store(false, std::memory_order_release);
        });
    } catch (const std::system_error&) {  // no thread to be had: as if it had failed
        busy_.store(false, std::memory_order_release);
    }
}

void SegmentMaker::finish() {
    if (thread_.joinable()) thread_.join();
}

void SegmentMaker::sweep() const {
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory_.c_str()), ::closedir);
    if (!entries) fail("opening " + directory_);
    while (const dirent* entry = ::readdir(entries.get())) {
        if (!std::string_view(entry->d_name).ends_with(unfinished)) continue;
        const std::string path = directory_ + "/" + entry->d_name;
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("removing " + path);
    }
}

}  // namespace scai
