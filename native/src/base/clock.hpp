// The two clocks of the native layer, in nanoseconds.
#pragma once

#include <time.h>
#include <cstdint>

namespace scai {

inline std::uint64_t clock_ns(clockid_t clock) noexcept {
    timespec time{};
    ::clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

// For durations; Python's time.monotonic_ns().
inline std::uint64_t monotonic_ns() noexcept {
    return clock_ns(CLOCK_MONOTONIC);
}

// For moments; Unix time.
inline std::uint64_t realtime_ns() noexcept {
    return clock_ns(CLOCK_REALTIME);
}

}  // namespace scai
