// See bus_error.hpp. All of it runs in a signal handler: no allocation, plain system calls only.
#include "base/bus_error.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
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
bool is_in_file(std::string_view line, std::uintptr_t address, std::string_view file) {
    const std::size_t dash = line.find('-');
    if (dash == std::string_view::npos) return false;
    const bool within =
        hexadecimal(line) <= address && address < hexadecimal(line.substr(dash + 1));
    constexpr std::string_view gone = " (deleted)";
    if (line.ends_with(gone)) line.remove_suffix(gone.size());
    return within && line.ends_with(file);
}

// Line by line, in a buffer of its own: a signal handler may only make plain system calls.
bool was_in_file(std::uintptr_t address, std::string_view file) {
    const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0) return false;
    static std::array<char, 8192> buffer;
    std::size_t filled = 0;
    bool found = false;
    while (!found) {
        const ssize_t got = ::read(maps, buffer.data() + filled, buffer.size() - filled);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        filled += static_cast<std::size_t>(got);
        std::string_view rest(buffer.data(), filled);
        for (std::size_t end = rest.find('\n'); end != std::string_view::npos && !found;
             end = rest.find('\n')) {
            found = is_in_file(rest.substr(0, end), address, file);
            rest.remove_prefix(end + 1);
        }
        if (rest.size() == buffer.size()) break;  // no line is so long
        rest.copy(buffer.data(), rest.size());
        filled = rest.size();
    }
    ::close(maps);
    return found;
}

void on_bus_error(int signal, siginfo_t* info, void*) {
    const Told& what = *told;
    if (was_in_file(reinterpret_cast<std::uintptr_t>(info->si_addr), what.file)) {
        std::string_view words = what.words;
        while (!words.empty()) {
            const ssize_t written = ::write(STDERR_FILENO, words.data(), words.size());
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) break;
            words.remove_prefix(static_cast<std::size_t>(written));
        }
        ::_exit(what.status);
    }
    // The instruction is tried again, and fails as it would have without us.
    ::signal(signal, SIG_DFL);
}

}  // namespace

void tell_bus_errors(std::string file, std::string words, int status) {
    told = new Told{std::move(file), std::move(words), status};
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    ::sigemptyset(&action.sa_mask);
    if (::sigaction(SIGBUS, &action, nullptr) != 0) fail("handling bus errors");
}

}  // namespace scai
