// Makes free journal segments: allocated and written once with zeros, so that syncing a record
// later moves data only, no metadata.
//
// It writes past the page cache where the file system allows it. 32 MiB of zeros that nobody reads
// cost the cache 80 ms of a core. When the committer still made segments itself, every peer waited
// for that. Promises: one segment at a time is made, by a thread of its own. It has its name only
// when it is whole and durable. What a crash left half made is removed by `sweep`.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

namespace scai {

class SegmentMaker {
public:
    SegmentMaker(std::string directory, std::uint64_t segment_bytes, bool durable);
    ~SegmentMaker();
    SegmentMaker(const SegmentMaker&) = delete;
    SegmentMaker& operator=(const SegmentMaker&) = delete;

    // Makes the free segment of this name now; errno.
    int make(const std::string& name);
    // The same beside the caller; nothing if one is under way. What fails is not told: whoever
    // needs the segment makes it himself, and is told then.
    void begin(std::string name);
    bool under_way() const noexcept { return busy_.load(std::memory_order_acquire); }
    // Waits for the one under way.
    void finish();
    // Removes what was under way when the process before us died.
    void sweep() const;

private:
    const std::string directory_;
    const std::uint64_t segment_bytes_;
    const bool durable_;
    std::atomic<bool> busy_ = false;
    std::thread thread_;
};

}  // namespace scai
