// Mapping of a ring: the header page once, the data twice in a row.
#include "spool/ring.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <new>

namespace scai {

Ring::Ring(int descriptor, std::size_t slot, std::size_t bytes) : bytes_(bytes) {
    if (bytes == 0 || bytes % page_bytes != 0) {
        throw SystemFailure(EINVAL, "ring size is no multiple of the page size");
    }
    const std::uint64_t offset = segment_bytes(slot, bytes);
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) fail("fstat of the ring segment");
    if (static_cast<std::uint64_t>(status.st_size) < offset + page_bytes + bytes) {
        throw SystemFailure(EINVAL, "ring segment is too small");
    }
    constexpr int protection = PROT_READ | PROT_WRITE;
    void* header = ::mmap(nullptr, page_bytes, protection, MAP_SHARED | MAP_POPULATE, descriptor,
                          static_cast<off_t>(offset));
    if (header == MAP_FAILED) fail("mmap of a ring header");
    header_ = static_cast<RingHeader*>(header);
    // Reserve twice the size in one piece, then lay both mappings into it.
    void* place = ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) {
        unmap();
        fail("reserving address space for a ring");
    }
    data_ = static_cast<std::byte*>(place);
    for (int half = 0; half < 2; ++half) {
        void* mapped =
            ::mmap(data_ + half * bytes, bytes, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE,
                   descriptor, static_cast<off_t>(offset + page_bytes));
        if (mapped == MAP_FAILED) {
            const int code = errno;
            unmap();
            throw SystemFailure(code, "mmap of a ring");
        }
    }
    // A predecessor may have died in the middle of anything: its positions mean nothing now.
    header_ = ::new (header) RingHeader{};
}

Ring::~Ring() {
    unmap();
}

void Ring::unmap() noexcept {
    if (data_ != nullptr) ::munmap(data_, 2 * bytes_);
    if (header_ != nullptr) ::munmap(header_, page_bytes);
}

}  // namespace scai
