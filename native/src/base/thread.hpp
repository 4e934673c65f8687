// How the native layer starts a thread: named, and deaf to signals, which belong to the Python
// thread.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <functional>
#include <string>
#include <thread>
#include <utility>

namespace scai {

inline std::thread start_thread(const std::string& name, std::function<void()> work) {
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before);  // inherited by the new thread
    std::thread thread(std::move(work));
    // The kernel keeps fifteen characters.
    ::pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
}

}  // namespace scai
