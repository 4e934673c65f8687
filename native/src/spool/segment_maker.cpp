// Writing zeros in portions, directly where that is possible.
#include "spool/segment_maker.hpp"

#include <algorithm>
#include <new>
#include <span>
#include <string_view>
#include <system_error>

#include "base/direct_file.hpp"
#include "base/directory_names.hpp"
#include "base/thread.hpp"

namespace scai {

namespace {

constexpr std::size_t portion_bytes = 1u << 20;  // between two of them a record's sync has its turn
constexpr std::string_view unfinished = ".making";

int write_zeros(int descriptor, bool direct, std::span<const std::byte> zeros,
                std::uint64_t bytes) {
    for (std::uint64_t at = 0; at < bytes;) {
        const std::size_t count = std::min<std::uint64_t>(zeros.size(), bytes - at);
        const ssize_t put = ::pwrite(descriptor, zeros.data(), count, static_cast<off_t>(at));
        if (put > 0) {
            at += static_cast<std::uint64_t>(put);
        } else if (put == 0) {
            return ENOSPC;
        } else if (errno == EINVAL && direct) {
            direct = false;
            if (const int code = end_direct(descriptor); code != 0) return code;
        } else if (errno != EINTR) {
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

int SegmentMaker::make(const std::string& name) try {
    const std::string path = directory_ + "/" + name;
    const std::string making = path + std::string(unfinished);
    PageBuffer buffer;
    const auto zeros = buffer.zeroed(portion_bytes);
    bool direct = true;
    Descriptor file =
        open_direct(AT_FDCWD, making, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, direct);
    if (!file) return errno;
    int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(segment_bytes_));
    if (code == 0) code = write_zeros(file.get(), direct, zeros, segment_bytes_);
    if (code == 0 && durable_ && ::fsync(file.get()) != 0) code = errno;
    if (const int closing = file.reset(); code == 0) code = closing;
    if (code == 0 && ::rename(making.c_str(), path.c_str()) != 0) code = errno;
    if (code != 0) ::unlink(making.c_str());
    return code;
} catch (const std::bad_alloc&) {
    return ENOMEM;
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
    for (const std::string& name : names_in(directory_)) {
        if (!name.ends_with(unfinished)) continue;
        const std::string path = directory_ + "/" + name;
        if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("removing " + path);
    }
}

}  // namespace scai
