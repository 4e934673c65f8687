// What every native file stands on: assertions that stay on, owned descriptors, system failures as
// values of one exception type that carries errno. Knows no Python.
#pragma once

#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

namespace scai {

// Checks us, never a peer, a disk or an operator; ends the process, which the supervisor replaces.
#define SCAI_ASSERT(condition)                                                            \
    do {                                                                                  \
        if (!(condition)) [[unlikely]] {                                                  \
            std::fprintf(stderr, "assertion failed: %s at %s:%d\n", #condition, __FILE__, \
                         __LINE__);                                                       \
            std::abort();                                                                 \
        }                                                                                 \
    } while (false)

inline constexpr std::size_t page_bytes = 4096;

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) {
    return (value + to - 1) / to * to;
}

// A failed system call: errno, and what was being done to what. Becomes OSError in Python.
class SystemFailure : public std::runtime_error {
public:
    SystemFailure(int code, const std::string& doing) : std::runtime_error(doing), code_(code) {}
    int code() const noexcept { return code_; }

private:
    int code_;
};

[[noreturn]] inline void fail(const std::string& doing) {
    throw SystemFailure(errno, doing);
}

// Sole owner of a file descriptor.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int value) noexcept : value_(value) {}
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        if (this != &other) {
            reset();
            value_ = std::exchange(other.value_, -1);
        }
        return *this;
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { reset(); }

    int get() const noexcept { return value_; }
    explicit operator bool() const noexcept { return value_ >= 0; }
    // Closes and tells errno (0 when well): a delayed write error may first show here.
    int reset() noexcept {
        if (value_ < 0) return 0;
        const int result = ::close(std::exchange(value_, -1));
        return result == 0 ? 0 : errno;
    }

private:
    int value_ = -1;
};

}  // namespace scai
