// The stock is filled by a thread of its own, from the first large instance on.
#include "spool/name_stock.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <cstdio>

#include "base/base.hpp"
#include "base/thread.hpp"

namespace scai {

namespace {

// One sync of the directory for so many instances: a fiftieth of its cost each, and a fraction of a
// second of CT at full speed, so that the thread is far ahead.
constexpr std::size_t stock_most = 64;
constexpr std::size_t stock_least = 32;

}  // namespace

NameStock::NameStock(int directory, std::uint64_t boot, bool ahead)
    : directory_(directory), boot_(boot), ahead_(ahead) {
    if (ahead_) thread_ = start_thread("scai-names", [this] { fill_forever(); });
}

NameStock::~NameStock() {
    close();
}

void NameStock::close() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard guard(mutex_);
        leaving_ = true;
    }
    changed_.notify_one();
    thread_.join();
    for (const std::string& name : names_) {
        // Best effort: an empty file without a record is swept at the next start.
        static_cast<void>(::unlinkat(directory_, name.c_str(), 0));
    }
    names_.clear();
}

NameStock::Name NameStock::take() {
    Name taken;
    bool ask = false;
    {
        const std::lock_guard guard(mutex_);
        if (names_.empty()) {
            taken.text = fresh();
        } else {
            taken = {std::move(names_.back()), true};
            names_.pop_back();
        }
        ask = ahead_ && names_.size() <= stock_least && !wanted_;
        wanted_ = wanted_ || ask;
    }
    if (ask) changed_.notify_one();
    return taken;
}

// Under the lock.
std::string NameStock::fresh() {
    char text[48];
    std::snprintf(text, sizeof text, "%016llx-%08llx.part", static_cast<unsigned long long>(boot_),
                  static_cast<unsigned long long>(numbers_++));
    return text;
}

void NameStock::fill_forever() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return wanted_ || leaving_; });
        if (leaving_) return;
        const std::size_t count = stock_most - names_.size();
        std::vector<std::string> made(count);
        for (std::string& name : made) name = fresh();
        lock.unlock();
        std::size_t done = 0;
        while (done < count) {
            constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
            if (!Descriptor(::openat(directory_, made[done].c_str(), flags, 0600))) break;
            ++done;
        }
        made.resize(done);
        if (::fsync(directory_) != 0) {
            for (const std::string& name : made) {
                static_cast<void>(::unlinkat(directory_, name.c_str(), 0));
            }
            made.clear();
        }
        lock.lock();
        for (std::string& name : made) names_.push_back(std::move(name));
        // After a failure it is tried again with the next instance, not in a loop.
        wanted_ = false;
    }
}

}  // namespace scai
