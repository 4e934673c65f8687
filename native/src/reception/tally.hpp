// What a reception counts, in its process's block of the shared segment
// (engine/telemetry/counters.py): plain words, written by the event loop's thread alone and read by
// other processes.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/base.hpp"

namespace scai {

// A row of slots: one for each bucket, one for what lies above the last, one for the sum.
struct HistogramSlots {
    std::size_t first = 0;
    std::vector<double> bounds;  // seconds, rising
};

// Where in the block each number stands (engine/telemetry/metrics.py).
struct TallySlots {
    std::size_t received_bytes = 0;
    std::size_t ring_full = 0;
    std::size_t stored_instances = 0;
    std::size_t stored_bytes = 0;
    std::size_t store_success = 0;
    std::size_t journal_records = 0;
    std::size_t journal_groups = 0;
    std::size_t last_received = 0;
    std::size_t store_fault = 0;
    std::size_t durable_sequence = 0;
    std::size_t acknowledged_sequence = 0;
    HistogramSlots commit_duration;
    HistogramSlots store_duration;
};

class Tally {
public:
    Tally(std::span<std::uint64_t> block, TallySlots slots)
        : block_(block), slots_(std::move(slots)) {}

    const TallySlots& slots() const noexcept { return slots_; }

    void add(std::size_t slot, std::uint64_t count) { set(slot, word(slot) + count); }
    // Whoever reads this number also sees what was written before it.
    void set(std::size_t slot, std::uint64_t value) {
        std::atomic_ref(word(slot)).store(value, std::memory_order_release);
    }
    void observe(const HistogramSlots& histogram, std::uint64_t nanoseconds) {
        const double seconds = static_cast<double>(nanoseconds) * 1e-9;
        std::size_t bucket = 0;
        while (bucket < histogram.bounds.size() && histogram.bounds[bucket] < seconds) ++bucket;
        add(histogram.first + bucket, 1);
        add(histogram.first + histogram.bounds.size() + 1, nanoseconds);
    }

private:
    std::uint64_t& word(std::size_t slot) {
        SCAI_ASSERT(slot < block_.size());
        return block_[slot];
    }

    std::span<std::uint64_t> block_;
    TallySlots slots_;
};

}  // namespace scai
