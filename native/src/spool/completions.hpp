// What the native threads tell the event loop: a bounded-by-construction list and an eventfd that
// wakes it. A slot has at most one instance under way, so there are never more than a few entries a
// slot; `settled` comes once for many.
#pragma once

#include <sys/eventfd.h>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/base.hpp"

namespace scai {

enum class CompletionKind : int {
    stored = 0,
    failed = 1,
    space = 2,
    free = 3,
    settled = 4  // the journal caught up with what was acknowledged before it, or could not (code)
};

inline constexpr std::size_t no_slot = SIZE_MAX;

struct Completion {
    CompletionKind kind;
    std::size_t slot;  // no_slot: of none
    int code;          // errno of a failure
    std::uint64_t file_bytes;
    std::uint64_t sequence;
};

class Completions {
public:
    Completions() : event_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        if (!event_) fail("eventfd");
    }

    int descriptor() const noexcept { return event_.get(); }

    void push(const Completion& completion) {
        {
            const std::lock_guard guard(mutex_);
            pending_.push_back(completion);
        }
        ring();
    }

    void push(const std::vector<Completion>& completions) {
        if (completions.empty()) return;
        {
            const std::lock_guard guard(mutex_);
            pending_.insert(pending_.end(), completions.begin(), completions.end());
        }
        ring();
    }

    std::vector<Completion> take() {
        std::uint64_t count = 0;
        // The eventfd is emptied before the list: what comes in between rings again.
        static_cast<void>(::read(event_.get(), &count, sizeof count));
        std::vector<Completion> taken;
        const std::lock_guard guard(mutex_);
        taken.swap(pending_);
        return taken;
    }

private:
    void ring() noexcept {
        const std::uint64_t one = 1;
        // Can only fail when the counter is full, and then it is readable anyway.
        if (::write(event_.get(), &one, sizeof one) < 0) return;
    }

    Descriptor event_;
    std::mutex mutex_;
    std::vector<Completion> pending_;
};

}  // namespace scai
