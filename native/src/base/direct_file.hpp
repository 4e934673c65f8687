// Files past the page cache (O_DIRECT): memory that is aligned for it, and what to do where a file
// system does not take it, which it may say when a file is opened or only when it is written.
#pragma once

#include <fcntl.h>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>

#include "base/base.hpp"

namespace scai {

// Memory for direct writes; grows to what was ever needed.
class PageBuffer {
public:
    // At least so many whole pages' bytes, zeroed.
    std::span<std::byte> zeroed(std::size_t bytes) {
        bytes = align_up(bytes, page_bytes);
        if (bytes > bytes_) {
            memory_.reset(static_cast<std::byte*>(std::aligned_alloc(page_bytes, bytes)));
            if (!memory_) throw std::bad_alloc();
            bytes_ = bytes;
        }
        std::memset(memory_.get(), 0, bytes);
        return {memory_.get(), bytes};
    }

private:
    struct Free {
        void operator()(std::byte* memory) const noexcept { std::free(memory); }
    };
    std::unique_ptr<std::byte, Free> memory_;
    std::size_t bytes_ = 0;
};

// With O_DIRECT if `direct`, which becomes false where that is not to be had. No file: errno.
inline Descriptor open_direct(int directory, const std::string& name, int flags, bool& direct) {
    if (direct) {
        Descriptor file(::openat(directory, name.c_str(), flags | O_DIRECT, 0600));
        if (file || errno != EINVAL) return file;
        direct = false;
        flags &= ~O_EXCL;  // a kernel that refuses has made the file by then
    }
    return Descriptor(::openat(directory, name.c_str(), flags, 0600));
}

// What follows goes through the page cache. errno.
inline int end_direct(int descriptor) {
    const int flags = ::fcntl(descriptor, F_GETFL);
    return flags >= 0 && ::fcntl(descriptor, F_SETFL, flags & ~O_DIRECT) == 0 ? 0 : errno;
}

}  // namespace scai
