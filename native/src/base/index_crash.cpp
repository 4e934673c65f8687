// See index_crash.hpp. All of it runs in a signal handler: no allocation, plain system calls only.
#include "base/index_crash.hpp"

#include <fcntl.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/base.hpp"

namespace scai {
namespace {

struct Told {
    std::string file;
    std::string words;
    int status;
};

// What the handler reads, which may allocate nothing. It lives as long as the process, since a
// signal may come at any moment.
const Told* told = nullptr;

// How far up the stack a caller within LMDB is looked for: the C library's own frames between it
// and an abort, or a comparison, take some hundred bytes.
constexpr std::size_t stack_bytes = 4096;

struct Range {
    std::uintptr_t start;
    std::uintptr_t end;
    bool contains(std::uintptr_t address) const { return start <= address && address < end; }
};

std::uintptr_t hexadecimal(std::string_view text) {
    std::uintptr_t value = 0;
    for (const char digit : text) {
        if (digit >= '0' && digit <= '9') {
            value = value * 16 + static_cast<std::uintptr_t>(digit - '0');
        } else if (digit >= 'a' && digit <= 'f') {
            value = value * 16 + static_cast<std::uintptr_t>(digit - 'a' + 10);
        } else {
            break;
        }
    }
    return value;
}

// proc(5), maps: "start-end perms offset dev inode path". The path is that of the file when it was
// mapped, with " (deleted)" behind it if it has none any more.
struct Mapping {
    explicit Mapping(std::string_view line) : text(line) {
        const std::size_t dash = text.find('-');
        const std::size_t space = text.find(' ');
        if (dash == std::string_view::npos || space == std::string_view::npos) return;
        range = {hexadecimal(text), hexadecimal(text.substr(dash + 1))};
        executable = text.substr(space).starts_with(" r-x");
        constexpr std::string_view gone = " (deleted)";
        if (text.ends_with(gone)) text.remove_suffix(gone.size());
    }

    // Python's module with LMDB in it, or the system's library.
    bool is_lmdb() const {
        return executable && (text.find("/lmdb/cpython.") != std::string_view::npos ||
                              text.find("/liblmdb.") != std::string_view::npos);
    }

    std::string_view text;
    Range range{0, 0};
    bool executable = false;
};

// What of the process's memory a crash is judged by.
struct Around {
    bool in_file = false;            // the address that could not be reached
    std::array<Range, 4> lmdb{};     // where LMDB's instructions are
    std::size_t lmdb_count = 0;
    Range stack{0, 0};               // that holds the stack pointer

    bool is_lmdb(std::uintptr_t address) const {
        return std::any_of(lmdb.begin(), lmdb.begin() + lmdb_count,
                           [&](const Range& range) { return range.contains(address); });
    }

    void take(const Mapping& mapping, std::uintptr_t address, std::uintptr_t stack_pointer) {
        if (mapping.range.contains(address) && mapping.text.ends_with(told->file)) in_file = true;
        if (mapping.range.contains(stack_pointer)) stack = mapping.range;
        if (mapping.is_lmdb() && lmdb_count < lmdb.size()) lmdb[lmdb_count++] = mapping.range;
    }
};

// Line by line, in a buffer of its own: a signal handler may only make plain system calls.
Around look_around(std::uintptr_t address, std::uintptr_t stack_pointer) {
    Around around;
    const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0) return around;
    static std::array<char, 8192> buffer;
    std::size_t filled = 0;
    while (true) {
        const ssize_t got = ::read(maps, buffer.data() + filled, buffer.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        filled += static_cast<std::size_t>(got);
        std::string_view rest(buffer.data(), filled);
        for (std::size_t end = rest.find('\n'); end != std::string_view::npos;
             end = rest.find('\n')) {
            around.take(Mapping(rest.substr(0, end)), address, stack_pointer);
            rest.remove_prefix(end + 1);
        }
        if (rest.size() == buffer.size()) break;  // no line is so long
        std::memmove(buffer.data(), rest.data(), rest.size());
        filled = rest.size();
    }
    ::close(maps);
    return around;
}

struct Registers {
    std::uintptr_t instruction;
    std::uintptr_t stack_pointer;
};

Registers registers_of(const void* context) {
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
    return {static_cast<std::uintptr_t>(machine.gregs[REG_RIP]),
            static_cast<std::uintptr_t>(machine.gregs[REG_RSP])};
#elif defined(__aarch64__)
    return {static_cast<std::uintptr_t>(machine.pc), static_cast<std::uintptr_t>(machine.sp)};
#else
    static_cast<void>(machine);
    return {0, 0};
#endif
}

// Whether the crash is LMDB's, or of what it called: a caller's address is on the stack.
bool is_within_lmdb(const Around& around, const Registers& registers) {
    if (around.is_lmdb(registers.instruction)) return true;
    const std::uintptr_t end =
        std::min(registers.stack_pointer + stack_bytes, around.stack.end);
    for (std::uintptr_t at = registers.stack_pointer; at + sizeof(at) <= end; at += sizeof(at)) {
        std::uintptr_t word = 0;
        std::memcpy(&word, reinterpret_cast<const void*>(at), sizeof(word));
        if (around.is_lmdb(word)) return true;
    }
    return false;
}

void on_crash(int signal, siginfo_t* info, void* context) {
    const Told& what = *told;
    const Registers registers = registers_of(context);
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    const Around around =
        look_around(signal == SIGBUS ? address : 0, registers.stack_pointer);
    if (around.in_file || is_within_lmdb(around, registers)) {
        std::string_view words = what.words;
        while (!words.empty()) {
            const ssize_t written = ::write(STDERR_FILENO, words.data(), words.size());
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) break;
            words.remove_prefix(static_cast<std::size_t>(written));
        }
        ::_exit(what.status);
    }
    // The instruction is tried again, or the abort goes on, and ends as it would have without us.
    ::signal(signal, SIG_DFL);
    if (info->si_code <= 0) ::raise(signal);  // sent by kill(2) or abort(3): nothing is tried again
}

}  // namespace

void tell_index_crashes(std::string file, std::string words, int status) {
    told = new Told{std::move(file), std::move(words), status};
    struct sigaction action {};
    action.sa_sigaction = on_crash;
    action.sa_flags = SA_SIGINFO;
    ::sigemptyset(&action.sa_mask);
    for (const int signal : {SIGBUS, SIGSEGV, SIGFPE, SIGABRT}) {
        if (::sigaction(signal, &action, nullptr) != 0) fail("handling crashes of the index");
    }
}

}  // namespace scai
