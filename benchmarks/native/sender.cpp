// The load generator's hot loop: every association on one thread, one epoll set.
//
// usage: sender PLAN. Says `progress` lines while it runs and `failure`, `done` lines at its end;
// one record for each answered instance goes to the plan's file. Sends to the plan's targets only.
#include <csignal>
#include <cstdio>
#include <deque>

#include "link.hpp"

namespace load {
namespace {

constexpr uint64_t progress_ns = 200'000'000;
constexpr uint64_t grace_ns = 5'000'000'000;  // for releases, once nothing is under way

volatile std::sig_atomic_t stop_asked = 0;

void report(const Shared& shared, uint64_t now) {
    std::printf("progress %llu %llu %llu %.3f\n", static_cast<unsigned long long>(shared.answered),
                static_cast<unsigned long long>(shared.answered_bytes),
                static_cast<unsigned long long>(shared.refused),
                static_cast<double>(now - shared.begun_ns) / 1e9);
    std::fflush(stdout);
}

// How long the loop may sleep: until the next link is due, the clock ticks or progress is said.
timespec pause_until(const std::deque<Link>& links, uint64_t now) {
    uint64_t until = now + progress_ns;
    for (const Link& link : links)
        if (link.state() == State::idle || link.state() == State::ready)
            until = std::min(until, std::max(link.due_ns(), now));
    const uint64_t pause = until - now;
    return {static_cast<time_t>(pause / 1'000'000'000),
            static_cast<long>(pause % 1'000'000'000)};
}

// True when no link sends, waits for an answer or will begin again.
bool over(const std::deque<Link>& links, const Shared& shared, uint64_t now) {
    bool quiet = shared.exhausted(now) || stop_asked != 0;
    bool finished = true;
    for (const Link& link : links) {
        if (link.state() == State::sending || link.state() == State::awaiting) quiet = false;
        if (link.state() == State::releasing && now < shared.last_ns + grace_ns) quiet = false;
        if (link.state() == State::ready) quiet = false;
        if (link.state() != State::finished) finished = false;
    }
    return quiet || finished;
}

void run(Shared& shared) {
    std::deque<Link> links;
    for (std::size_t i = 0; i < shared.plan.associations.size(); ++i)
        links.emplace_back(shared, static_cast<uint16_t>(i));
    shared.begun_ns = now_ns();
    uint64_t reported = shared.begun_ns;
    epoll_event events[64];
    for (;;) {
        uint64_t now = now_ns();
        if (stop_asked != 0) shared.plan.seconds = 1e-9;  // no further instance is begun
        for (Link& link : links) link.tick(now);
        if (over(links, shared, now)) break;
        if (now >= reported + progress_ns) report(shared, reported = now);
        const timespec pause = pause_until(links, now);
        const int count = epoll_pwait2(shared.epoll, events, 64, &pause, nullptr);
        if (count < 0 && errno != EINTR) throw std::runtime_error(std::strerror(errno));
        for (int i = 0; i < count; ++i)
            links[events[i].data.u32].on_event(events[i].events, now_ns());
    }
    for (Link& link : links) link.close_now();
}

void conclude(const Shared& shared) {
    std::FILE* file = std::fopen(shared.plan.records_path.c_str(), "wb");
    if (file == nullptr) throw std::runtime_error("cannot write " + shared.plan.records_path);
    const std::size_t count = shared.records.size();
    const bool written = std::fwrite(shared.records.data(), sizeof(Record), count, file) == count;
    if (std::fclose(file) != 0 || !written)
        throw std::runtime_error("cannot write " + shared.plan.records_path);
    for (const auto& [reason, times] : shared.failures)
        std::printf("failure %llu %s\n", static_cast<unsigned long long>(times), reason.c_str());
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    std::printf("done %llu %llu %.9f %.6f\n", static_cast<unsigned long long>(shared.tickets),
                static_cast<unsigned long long>(shared.answered_bytes),
                static_cast<double>(shared.last_ns - shared.first_ns) / 1e9,
                static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9);
}

}  // namespace
}  // namespace load

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "usage: sender PLAN\n");
        return 2;
    }
    try {
        load::Shared shared;
        shared.plan = load::read_plan(arguments[1]);
        shared.records.reserve(1 << 20);
        shared.epoll = epoll_create1(EPOLL_CLOEXEC);
        std::signal(SIGINT, [](int) { load::stop_asked = 1; });
        std::signal(SIGTERM, [](int) { load::stop_asked = 1; });
        load::run(shared);
        load::conclude(shared);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "sender: %s\n", error.what());
        return 1;
    }
    return 0;
}
