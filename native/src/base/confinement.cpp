// See confinement.hpp. Landlock's constants stand here because the headers of long-lived
// distributions are older than the kernels they meet (Documentation/userspace-api/landlock.rst).
#include "base/confinement.hpp"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/base.hpp"

namespace scai {

namespace {

#if defined(__x86_64__)
constexpr std::uint32_t architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t architecture = AUDIT_ARCH_AARCH64;
#else
constexpr std::uint32_t architecture = 0;
#endif

// The numbers of calls that came after the common table are the same everywhere.
constexpr long landlock_create_ruleset_call = 444;
constexpr long landlock_add_rule_call = 445;
constexpr long landlock_restrict_self_call = 446;
constexpr std::uint32_t landlock_version_flag = 1;
constexpr int landlock_path_beneath = 1;

// LANDLOCK_ACCESS_FS_*.
constexpr std::uint64_t execute = 1U << 0;
constexpr std::uint64_t read_file = 1U << 2;
constexpr std::uint64_t read_directory = 1U << 3;
constexpr std::uint64_t first_version = (1U << 13) - 1;
constexpr std::uint64_t refer = 1U << 13;     // version 2: renaming between directories
constexpr std::uint64_t truncate = 1U << 14;  // version 3
constexpr std::uint64_t for_files = (1U << 0) | (1U << 1) | (1U << 2) | truncate;

struct Ruleset {
    std::uint64_t handled_files;
};

struct [[gnu::packed]] PathBeneath {
    std::uint64_t allowed;
    std::int32_t parent;
};

std::uint64_t handled_by(int version) {
    std::uint64_t handled = first_version;
    if (version >= 2) handled |= refer;
    if (version >= 3) handled |= truncate;
    return handled;
}

void allow(int ruleset, const std::string& path, std::uint64_t access) {
    const Descriptor opened(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (opened.get() < 0) {
        if (errno == ENOENT || errno == ENOTDIR || errno == EACCES) return;
        fail("open " + path);
    }
    struct stat found {};
    if (::fstat(opened.get(), &found) != 0) fail("fstat " + path);
    if (!S_ISDIR(found.st_mode)) access &= for_files;
    const PathBeneath rule{access, opened.get()};
    if (::syscall(landlock_add_rule_call, ruleset, landlock_path_beneath, &rule, 0) != 0) {
        fail("landlock_add_rule " + path);
    }
}

void forbid_new_privileges() {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("PR_SET_NO_NEW_PRIVS");
}

constexpr std::array kernel_calls{
    __NR_ptrace,          __NR_process_vm_readv, __NR_process_vm_writev, __NR_kexec_load,
    __NR_init_module,     __NR_finit_module,     __NR_delete_module,     __NR_mount,
    __NR_umount2,         __NR_pivot_root,       __NR_chroot,            __NR_swapon,
    __NR_swapoff,         __NR_reboot,           __NR_bpf,               __NR_perf_event_open,
    __NR_userfaultfd,     __NR_unshare,          __NR_setns,             __NR_keyctl,
    __NR_add_key,         __NR_request_key,      __NR_acct,              __NR_settimeofday,
    __NR_clock_settime,   __NR_adjtimex,         __NR_sethostname,       __NR_setdomainname,
    __NR_open_by_handle_at, __NR_personality,    __NR_syslog,            __NR_quotactl,
    __NR_setuid,          __NR_setgid,           __NR_setreuid,          __NR_setregid,
    __NR_setresuid,       __NR_setresgid,        __NR_setgroups,         __NR_io_uring_setup,
};

// Not listen: it is of use with a bound socket alone, and those are inherited. Nor socketpair: its
// two ends lead to each other, and the event loop makes one each time it begins to run.
constexpr std::array outside_calls{
    __NR_execve, __NR_execveat, __NR_socket,  __NR_connect, __NR_bind,
#if defined(__x86_64__)
    __NR_fork,   __NR_vfork,
#endif
};

sock_filter statement(std::uint16_t code, std::uint32_t value) {
    return {code, 0, 0, value};
}

// If the accumulator is `value` the next instruction is done, otherwise the one behind it.
sock_filter unless_equal_skip(std::uint32_t value) {
    return {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, value};
}

constexpr std::uint32_t refused(int error) {
    return SECCOMP_RET_ERRNO | (static_cast<std::uint32_t>(error) & SECCOMP_RET_DATA);
}

std::vector<sock_filter> program(Denied denied) {
    std::vector<sock_filter> made{
        statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, architecture},
        // Another processor's calling convention has other numbers: nothing of ours uses it.
        statement(BPF_RET | BPF_K, refused(EPERM)),
        statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
    };
#if defined(__x86_64__)
    // The x32 convention shares the architecture and has this bit in its numbers.
    made.push_back({BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000});
    made.push_back(statement(BPF_RET | BPF_K, refused(EPERM)));
#endif
    for (const int call : kernel_calls) {
        made.push_back(unless_equal_skip(static_cast<std::uint32_t>(call)));
        made.push_back(statement(BPF_RET | BPF_K, refused(EPERM)));
    }
    if (denied == Denied::outside) {
        for (const int call : outside_calls) {
            made.push_back(unless_equal_skip(static_cast<std::uint32_t>(call)));
            made.push_back(statement(BPF_RET | BPF_K, refused(EPERM)));
        }
        // Its flags lie in memory, where a filter cannot look; without it the C library uses clone.
        made.push_back(unless_equal_skip(__NR_clone3));
        made.push_back(statement(BPF_RET | BPF_K, refused(ENOSYS)));
        // A thread is no new process.
        made.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 3, __NR_clone});
        made.push_back(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)));
        made.push_back({BPF_JMP | BPF_JSET | BPF_K, 1, 0, CLONE_THREAD});
        made.push_back(statement(BPF_RET | BPF_K, refused(EPERM)));
    }
    made.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    return made;
}

}  // namespace

void hand_on_no_capability() {
    // Older kernels have no ambient set; then there is nothing to clear.
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL) {
        fail("PR_CAP_AMBIENT");
    }
}

void drop_privileges() {
    forbid_new_privileges();
    hand_on_no_capability();
    __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
    if (::syscall(SYS_capget, &head, sets.data()) != 0) fail("capget");
    const bool any = std::ranges::any_of(
        sets, [](const auto& set) { return (set.permitted | set.inheritable) != 0; });
    // Not asked for where there is nothing to drop: a service unit may forbid the call.
    sets = {};
    if (any && ::syscall(SYS_capset, &head, sets.data()) != 0) fail("capset");
    const rlimit no_core{0, 0};
    if (::setrlimit(RLIMIT_CORE, &no_core) != 0) fail("RLIMIT_CORE");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) fail("PR_SET_DUMPABLE");
}

int restrict_files(std::span<const std::string> readable, std::span<const std::string> writable) {
    const long version =
        ::syscall(landlock_create_ruleset_call, nullptr, std::size_t{0}, landlock_version_flag);
    if (version < 1) return 0;
    const Ruleset wanted{handled_by(static_cast<int>(version))};
    const Descriptor ruleset(static_cast<int>(
        ::syscall(landlock_create_ruleset_call, &wanted, sizeof wanted, std::uint32_t{0})));
    if (ruleset.get() < 0) fail("landlock_create_ruleset");
    for (const auto& path : readable) {
        allow(ruleset.get(), path, execute | read_file | read_directory);
    }
    for (const auto& path : writable) allow(ruleset.get(), path, wanted.handled_files & ~execute);
    forbid_new_privileges();
    if (::syscall(landlock_restrict_self_call, ruleset.get(), 0) != 0) {
        fail("landlock_restrict_self");
    }
    return static_cast<int>(version);
}

bool deny_calls(Denied denied) {
    if (architecture == 0) return false;
    auto filter = program(denied);
    const sock_fprog given{static_cast<unsigned short>(filter.size()), filter.data()};
    forbid_new_privileges();
    // For all threads there are, not only for this one.
    const long bound =
        ::syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &given);
    if (bound == 0) return true;
    if (bound < 0 && (errno == EINVAL || errno == ENOSYS)) return false;
    fail("seccomp");
}

}  // namespace scai
