// What a process gives up for good before it looks at a peer's first byte.
//
// Each function binds the calling process, its later threads and its children; none can be undone.
// Threads that run already are not bound by drop_privileges() and restrict_files(): both are to be
// called while there is only one. SystemFailure: the kernel knows the call and refused it.
#pragma once

#include <span>
#include <string>

namespace scai {

// Programs that we start from now on have no capability by inheritance; what we have stays ours.
void hand_on_no_capability();

// No capability is left, none can be gained by exec, no core is dumped, and nobody without
// privileges can look into our memory (PR_SET_DUMPABLE 0 forbids ptrace and /proc/PID/mem).
void drop_privileges();

// Landlock: from now on files are opened only beneath these paths, for reading or for both. A path
// that is not there is left out. The version of the kernel's Landlock; 0: it has none, or it is
// switched off, and nothing has changed.
int restrict_files(std::span<const std::string> readable, std::span<const std::string> writable);

// What a role never does.
enum class Denied {
    kernel,   // loading modules, mounting, tracing others, namespaces, keys, rebooting ...
    outside,  // and starting programs or processes, making sockets
};

// seccomp: these calls fail with EPERM from now on, whoever makes them. False: the kernel has no
// filters, or this is a processor whose calls are not listed, and nothing has changed.
bool deny_calls(Denied denied);

}  // namespace scai
