// What the measurements of candidates share: clocks, and variants in turn within each round.
//
// Promises: each round runs every variant once, each round in another order, so that whatever
// slows the machine slows all of them; round 0 warms up and is not to be counted. A line on the
// standard output is a figure: variant, round, nanoseconds of wall clock and of processor for one
// unit; or `variant, skip, reason`.
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace candidates {

inline constexpr std::size_t page_bytes = 4096;

[[noreturn]] inline void fail(const std::string& what) {
    std::fprintf(stderr, "%s: %s\n", what.c_str(), std::strerror(errno));
    std::exit(1);
}

inline double nanoseconds(clockid_t clock) {
    timespec time{};
    if (::clock_gettime(clock, &time) != 0) fail("clock_gettime");
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

inline std::size_t whole_pages(std::size_t bytes) {
    return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

// Touched, page-aligned, filled with something; never given back before the end.
inline std::byte* memory(std::size_t bytes) {
    void* got = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (got == MAP_FAILED) fail("mmap");
    std::memset(got, 0x5A, bytes);
    return static_cast<std::byte*>(got);
}

inline void write_all(int file, const std::byte* from, std::size_t bytes, std::size_t offset = 0) {
    while (bytes > 0) {
        const ssize_t put = ::pwrite(file, from, bytes, static_cast<off_t>(offset));
        if (put <= 0) fail("pwrite");
        from += put;
        offset += static_cast<std::size_t>(put);
        bytes -= static_cast<std::size_t>(put);
    }
}

inline int open_directory(const std::string& path) {
    const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) fail("opening " + path);
    return directory;
}

// The core number `wanted`, counted among those this process may use; false when there are fewer.
inline bool sit_on_core(int wanted) {
    static const cpu_set_t allowed = [] {
        cpu_set_t cores;
        if (::sched_getaffinity(0, sizeof cores, &cores) != 0) fail("sched_getaffinity");
        return cores;
    }();
    for (int core = 0; core < CPU_SETSIZE; ++core) {
        if (!CPU_ISSET(core, &allowed) || wanted-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        return ::pthread_setaffinity_np(::pthread_self(), sizeof one, &one) == 0;
    }
    return false;
}

struct Cost {
    double wall_ns;
    double cpu_ns;
};

struct Variant {
    std::string name;
    std::function<Cost()> run;  // the cost of one unit
};

// The cost of `work`, which does `units` of them, by the clocks of the whole process.
inline Cost cost_of(std::size_t units, const std::function<void()>& work) {
    const double wall = nanoseconds(CLOCK_MONOTONIC);
    const double cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
    work();
    const auto count = static_cast<double>(units);
    return {(nanoseconds(CLOCK_MONOTONIC) - wall) / count,
            (nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / count};
}

inline void skip(const std::string& variant, const std::string& reason) {
    std::printf("%s\tskip\t%s\n", variant.c_str(), reason.c_str());
}

// `before` is run ahead of each variant, outside its time.
inline void take_turns(const std::vector<Variant>& variants, std::size_t rounds,
                       const std::function<void()>& before) {
    for (std::size_t round = 0; round <= rounds; ++round) {
        for (std::size_t turn = 0; turn < variants.size(); ++turn) {
            const std::size_t back = variants.size() - 1 - turn;
            const std::size_t place = (round % 2 == 0 ? turn : back) + round / 2;
            const Variant& variant = variants[place % variants.size()];
            before();
            const Cost cost = variant.run();
            std::printf("%s\t%zu\t%.0f\t%.0f\n", variant.name.c_str(), round, cost.wall_ns,
                        cost.cpu_ns);
        }
    }
}

struct Arguments {
    std::string directory;
    std::size_t rounds;
    std::size_t units;  // of each variant in each round
};

inline Arguments arguments_of(int count, char** texts) {
    if (count != 4) {
        std::fprintf(stderr, "usage: %s DIRECTORY ROUNDS UNITS\n", texts[0]);
        std::exit(2);
    }
    return {texts[1], std::strtoul(texts[2], nullptr, 10), std::strtoul(texts[3], nullptr, 10)};
}

}  // namespace candidates
