// The least of io_uring that a linked chain of a few operations needs, without liburing.
//
// One thread owns a Uring. submit() enters the kernel once and comes back when all are done; their
// results are told in the order in which they were added.
#pragma once

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

namespace candidates {

// IORING_OP_FTRUNCATE, Linux 6.9; older headers do not name it.
inline constexpr std::uint8_t uring_ftruncate = 55;

class Uring {
public:
    explicit Uring(unsigned entries) {
        io_uring_params parameters{};
        descriptor_ = static_cast<int>(::syscall(SYS_io_uring_setup, entries, &parameters));
        if (descriptor_ < 0) return;
        const std::size_t submission_bytes =
            parameters.sq_off.array + parameters.sq_entries * sizeof(std::uint32_t);
        const std::size_t completion_bytes =
            parameters.cq_off.cqes + parameters.cq_entries * sizeof(io_uring_cqe);
        submission_ = map(submission_bytes, IORING_OFF_SQ_RING);
        completion_ = map(completion_bytes, IORING_OFF_CQ_RING);
        entries_ = reinterpret_cast<io_uring_sqe*>(
            map(parameters.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
        submission_offsets_ = parameters.sq_off;
        completion_offsets_ = parameters.cq_off;
    }
    ~Uring() {
        for (const auto& [place, bytes] : mapped_) ::munmap(place, bytes);
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    Uring(const Uring&) = delete;
    Uring& operator=(const Uring&) = delete;

    bool usable() const { return descriptor_ >= 0 && !failed_; }

    // Linked to the one before: begun when that one has succeeded.
    io_uring_sqe& add(std::uint8_t operation, int file) {
        if (added_ > 0) entries_[added_ - 1].flags |= IOSQE_IO_LINK;
        io_uring_sqe& entry = entries_[added_];
        std::memset(&entry, 0, sizeof entry);
        entry.opcode = operation;
        entry.fd = file;
        entry.user_data = added_++;
        return entry;
    }

    std::vector<int> submit() {
        auto* tail = at(submission_, submission_offsets_.tail);
        auto* array = at(submission_, submission_offsets_.array);
        const std::uint32_t mask = *at(submission_, submission_offsets_.ring_mask);
        std::uint32_t position = *tail;
        for (unsigned index = 0; index < added_; ++index) array[position++ & mask] = index;
        // Pairs with the kernel's acquire.
        std::atomic_ref(*tail).store(position, std::memory_order_release);
        std::vector<int> results(added_, -EIO);
        unsigned submitted = added_;
        for (unsigned done = 0; done < added_;) {
            if (::syscall(SYS_io_uring_enter, descriptor_, submitted, added_ - done,
                          IORING_ENTER_GETEVENTS, nullptr, 0) < 0 &&
                errno != EINTR) {
                break;
            }
            submitted = 0;
            done += take(results);
        }
        added_ = 0;
        return results;
    }

private:
    unsigned take(std::vector<int>& results) {
        auto* head = at(completion_, completion_offsets_.head);
        auto* tail = at(completion_, completion_offsets_.tail);
        const std::uint32_t mask = *at(completion_, completion_offsets_.ring_mask);
        const auto* completions =
            reinterpret_cast<const io_uring_cqe*>(completion_ + completion_offsets_.cqes);
        const std::uint32_t last = std::atomic_ref(*tail).load(std::memory_order_acquire);
        std::uint32_t position = *head;
        const unsigned taken = last - position;
        while (position != last) {
            const io_uring_cqe& completion = completions[position++ & mask];
            results.at(completion.user_data) = completion.res;
        }
        std::atomic_ref(*head).store(position, std::memory_order_release);
        return taken;
    }

    std::byte* map(std::size_t bytes, unsigned long long offset) {
        void* got = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                           descriptor_, static_cast<off_t>(offset));
        if (got == MAP_FAILED) {
            failed_ = true;
            return nullptr;
        }
        mapped_.emplace_back(got, bytes);
        return static_cast<std::byte*>(got);
    }

    static std::uint32_t* at(std::byte* ring, std::uint32_t offset) {
        return reinterpret_cast<std::uint32_t*>(ring + offset);
    }

    int descriptor_ = -1;
    bool failed_ = false;
    unsigned added_ = 0;
    std::byte* submission_ = nullptr;
    std::byte* completion_ = nullptr;
    io_uring_sqe* entries_ = nullptr;
    io_sqring_offsets submission_offsets_{};
    io_cqring_offsets completion_offsets_{};
    std::vector<std::pair<void*, std::size_t>> mapped_;
};

}  // namespace candidates
