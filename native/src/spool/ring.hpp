// One association's byte ring in shared memory: the socket side produces, one writer thread
// consumes.
//
// The memory is mapped twice, one mapping behind the other, so a span that runs over the end goes
// on in the second and every span is contiguous: direct writes and the tag scanner never see a
// wrap.
//
//   segment of a worker:  | slot 0 | slot 1 | ...      one slot: | header page | ring_bytes of data
//   | header page:          produced u64 (own cache line) | consumed u64 (own cache line)
//
// Positions only grow; an instance begins at position 0 (reset()), because there is one outstanding
// operation and the ring is empty then: a small instance always passes through the same warm
// memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "base/base.hpp"

namespace scai {

struct RingHeader {
    alignas(64) std::atomic<std::uint64_t> produced;  // written by the socket side alone
    alignas(64) std::atomic<std::uint64_t> consumed;  // written by the writer thread alone
};
static_assert(sizeof(RingHeader) <= page_bytes);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

class Ring {
public:
    // Maps slot number `slot` of the segment behind `descriptor` and touches every page once, so
    // that no page fault and no growth of the process happens while an instance arrives.
    Ring(int descriptor, std::size_t slot, std::size_t bytes);
    ~Ring();
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    static std::uint64_t segment_bytes(std::size_t slots, std::size_t bytes) {
        return static_cast<std::uint64_t>(slots) * (page_bytes + bytes);
    }

    std::size_t bytes() const noexcept { return bytes_; }

    // Both sides idle: begin again at position 0.
    void reset() noexcept {
        header_->produced.store(0, std::memory_order_relaxed);
        header_->consumed.store(0, std::memory_order_relaxed);
    }

    // --- socket side
    std::uint64_t produced() const noexcept {
        return header_->produced.load(std::memory_order_relaxed);
    }
    // Room after the produced position. Pairs with consume(), whose order with FileWriter's flag
    // has to be one for both threads: see FileWriter::want_space().
    std::span<std::byte> room() noexcept {
        const std::uint64_t at = produced();
        const std::uint64_t used = at - header_->consumed.load(std::memory_order_seq_cst);
        SCAI_ASSERT(used <= bytes_);
        return {data_ + at % bytes_, bytes_ - used};
    }
    // The release pairs with the acquire in available().
    void produce(std::size_t count) noexcept {
        header_->produced.store(produced() + count, std::memory_order_release);
    }

    // --- writer's side
    std::uint64_t consumed() const noexcept {
        return header_->consumed.load(std::memory_order_relaxed);
    }
    std::uint64_t available() const noexcept {
        return header_->produced.load(std::memory_order_acquire) - consumed();
    }
    std::span<std::byte> peek(std::size_t count) noexcept {
        SCAI_ASSERT(count <= bytes_);
        return {data_ + consumed() % bytes_, count};
    }
    void consume(std::uint64_t count) noexcept {
        header_->consumed.store(consumed() + count, std::memory_order_seq_cst);
    }

private:
    void unmap() noexcept;

    std::size_t bytes_;
    RingHeader* header_ = nullptr;
    std::byte* data_ = nullptr;
};

}  // namespace scai
