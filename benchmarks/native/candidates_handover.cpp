// Ways to hand 525,400 bytes of a shared ring to whoever writes them, and to hear that it is done.
//
// Promises: whoever gets them touches one byte of each page and answers through an eventfd, as the
// product's threads do; processor time is that of both sides. The first is the product's way: a
// thread of the same process, woken by a condition variable, on the process's one core
// (native/src/spool/file_writer.cpp).
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>
#include <thread>

#include "candidates.hpp"

namespace candidates {

constexpr std::size_t instance_bytes = 525'400;

void touch(std::byte* ring) {
    for (std::size_t at = 0; at < instance_bytes; at += page_bytes) ring[at] = ~ring[at];
}

int new_event() {
    const int event = ::eventfd(0, EFD_CLOEXEC);
    if (event < 0) fail("eventfd");
    return event;
}

void ring_bell(int event) {
    const std::uint64_t one = 1;
    if (::write(event, &one, sizeof one) != sizeof one) fail("writing an eventfd");
}

// False: interrupted, or told of nothing.
bool hear_bell(int event) {
    std::uint64_t count = 0;
    return ::read(event, &count, sizeof count) == sizeof count && count > 0;
}

std::byte* map_shared(int file) {
    void* got = ::mmap(nullptr, whole_pages(instance_bytes), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_POPULATE, file, 0);
    if (got == MAP_FAILED) fail("mmap");
    return static_cast<std::byte*>(got);
}

class Taker {
public:
    virtual ~Taker() = default;
    virtual void hand() = 0;
    virtual double cpu_ns() { return nanoseconds(CLOCK_PROCESS_CPUTIME_ID); }

    int done = new_event();
};

class ByCondition : public Taker {
public:
    ByCondition(std::byte* ring, int core)
        : thread_([this, ring, core] {
              if (!sit_on_core(core)) fail("sitting on a core");
              std::unique_lock lock(mutex_);
              for (;;) {
                  changed_.wait(lock, [this] { return handed_ || leaving_; });
                  if (leaving_) return;
                  handed_ = false;
                  lock.unlock();
                  touch(ring);
                  ring_bell(done);
                  lock.lock();
              }
          }) {}
    ~ByCondition() override {
        {
            const std::lock_guard guard(mutex_);
            leaving_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }
    void hand() override {
        {
            const std::lock_guard guard(mutex_);
            handed_ = true;
        }
        changed_.notify_one();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool handed_ = false;
    bool leaving_ = false;
    std::thread thread_;
};

class ByEvent : public Taker {
public:
    ByEvent(std::byte* ring, int core)
        : thread_([this, ring, core] {
              if (!sit_on_core(core)) fail("sitting on a core");
              while (hear_bell(handed_) && !leaving_) {
                  touch(ring);
                  ring_bell(done);
              }
          }) {}
    ~ByEvent() override {
        leaving_ = true;
        ring_bell(handed_);
        thread_.join();
    }
    void hand() override { ring_bell(handed_); }

private:
    int handed_ = new_event();
    std::atomic<bool> leaving_{false};
    std::thread thread_;
};

// Forked while this process has one thread; it ends with its parent.
class ByProcess : public Taker {
public:
    ByProcess(int file, int core) : child_(::fork()) {
        if (child_ < 0) fail("fork");
        if (child_ > 0) return;
        if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl");
        if (!sit_on_core(core)) fail("sitting on a core");
        std::byte* ring = map_shared(file);
        while (hear_bell(handed_)) {
            touch(ring);
            ring_bell(done);
        }
        std::_Exit(0);
    }
    ~ByProcess() override {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    void hand() override { ring_bell(handed_); }
    double cpu_ns() override {
        clockid_t clock;
        if (::clock_getcpuclockid(child_, &clock) != 0) fail("the writer process is gone");
        return Taker::cpu_ns() + nanoseconds(clock);
    }

private:
    int handed_ = new_event();
    pid_t child_;
};

Cost run(Taker& taker, std::size_t units) {
    const double wall = nanoseconds(CLOCK_MONOTONIC);
    const double cpu = taker.cpu_ns();
    for (std::size_t unit = 0; unit < units; ++unit) {
        taker.hand();
        if (!hear_bell(taker.done)) fail("waiting for the answer");
    }
    const auto count = static_cast<double>(units);
    return {(nanoseconds(CLOCK_MONOTONIC) - wall) / count, (taker.cpu_ns() - cpu) / count};
}

}  // namespace candidates

int main(int count, char** texts) {
    using namespace candidates;
    const Arguments arguments = arguments_of(count, texts);
    const int file = ::memfd_create("ring", MFD_CLOEXEC);
    if (file < 0 || ::ftruncate(file, whole_pages(instance_bytes)) != 0) fail("memfd");
    if (!sit_on_core(0)) fail("sitting on a core");
    const bool two_cores = sit_on_core(1);
    if (!sit_on_core(0)) fail("sitting on a core");
    std::byte* ring = map_shared(file);

    std::vector<std::pair<std::string, std::unique_ptr<Taker>>> takers;
    const std::string process = "process, eventfd, ";
    const std::string elsewhere = "another core";
    takers.emplace_back(process + "same core", std::make_unique<ByProcess>(file, 0));
    if (two_cores) takers.emplace_back(process + elsewhere, std::make_unique<ByProcess>(file, 1));
    const std::string thread = "thread, condition variable, ";
    takers.emplace(takers.begin(), thread + "same core", std::make_unique<ByCondition>(ring, 0));
    if (two_cores) {
        takers.emplace_back(thread + elsewhere, std::make_unique<ByCondition>(ring, 1));
    } else {
        skip(elsewhere, "this process may use one core only");
    }
    takers.emplace_back("thread, eventfd, same core", std::make_unique<ByEvent>(ring, 0));

    std::vector<Variant> variants;
    for (auto& [name, taker] : takers) {
        variants.push_back({name, [&] { return run(*taker, arguments.units); }});
    }
    take_turns(variants, arguments.rounds, [] {});
    return 0;
}
