// The native threads under load, for the thread and the address sanitizer: instances of all sizes
// through several slots, some given up in the middle, while a reader follows the journal as the
// indexer does. Every instance acknowledged is found, once, whole and in order, every byte right.
// Arguments: seconds, seed. Ends with 0, or with the claim that failed.
#include <fcntl.h>
#include <atomic>
#include <ctime>
#include <map>
#include <set>
#include <thread>

#include "base/checksum.hpp"
#include "scratch.hpp"

namespace {

constexpr std::size_t slots = 4;
constexpr std::size_t inline_bytes_max = 64u << 10;
const scratch::Sizes sizes{slots, 1u << 20, inline_bytes_max, 2u << 20, true};

// Bytes that differ by instance and by place.
std::byte byte_at(std::uint64_t instance, std::uint64_t at) {
    return static_cast<std::byte>(instance * 131 + at * 7 + (at >> 9));
}

std::vector<std::byte> instance_bytes(std::uint64_t instance, std::uint64_t count) {
    std::vector<std::byte> bytes(count);
    for (std::uint64_t at = 0; at < count; ++at) bytes[at] = byte_at(instance, at);
    return bytes;
}

struct Way {
    bool busy = false;
    bool waiting_for_space = false;
    bool waiting_for_end = false;
    std::uint64_t instance = 0;
    std::uint64_t bytes = 0;
    std::uint64_t landed = 0;
    std::uint64_t give_up_at = 0;
};

// What the indexer does, on a thread of its own.
class Follower {
public:
    Follower(scratch::Store& store) : store_(store), thread_([this] { follow(); }) {}
    ~Follower() { stop(); }

    // Instance number by sequence, for all that was read.
    std::map<std::uint64_t, std::uint64_t> stop() {
        if (thread_.joinable()) {
            leaving_.store(true);
            thread_.join();
        }
        return std::move(found_);
    }

private:
    void follow() {
        scai::JournalReader reader(store_.directory().journal(), 1);
        for (bool last = false;;) {
            last = leaving_.load();
            const auto records = reader.read(store_.spool().durable_sequence(), 16);
            for (const auto& record : records) take(reader, record);
            reader.release(reader.next_sequence());
            if (records.empty() && last) return;
            if (records.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }

    void take(scai::JournalReader& reader, const scai::JournalRecord& record) {
        const std::uint64_t instance = std::stoull(record.prologue);
        FUZZ_CLAIM(found_.emplace(record.sequence, instance).second);
        std::string path = store_.directory().incoming() + "/" + record.name;
        if (record.name.empty()) {
            path = store_.directory().incoming() + "/placed";
            reader.place_inline(record.inline_offset, record.file_bytes, path, false);
        }
        const scai::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        FUZZ_CLAIM(file);
        // Its seal may lie behind it.
        std::vector<std::byte> bytes(record.file_bytes + 2 * scai::page_bytes);
        const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), 0);
        FUZZ_CLAIM(got >= static_cast<ssize_t>(record.file_bytes) &&
                   got < static_cast<ssize_t>(bytes.size()));
        bytes.resize(record.file_bytes);
        FUZZ_CLAIM(scai::crc32c(bytes) == record.file_crc);
        FUZZ_CLAIM(bytes == instance_bytes(instance, record.file_bytes));
        std::filesystem::remove(path);
    }

    scratch::Store& store_;
    std::map<std::uint64_t, std::uint64_t> found_;
    std::atomic<bool> leaving_{false};
    std::thread thread_;
};

// The event loop's side: one thread, all slots.
class Loop {
public:
    Loop(scratch::Store& store, std::uint32_t seed) : store_(store), random_(seed) {}

    void run(std::time_t until) {
        while (std::time(nullptr) < until) turn(true);
        while (std::any_of(ways_.begin(), ways_.end(), [](const Way& way) { return way.busy; })) {
            turn(false);
        }
    }

    const std::set<std::uint64_t>& acknowledged() const { return acknowledged_; }
    std::uint64_t sealed() const { return sealed_; }
    std::uint64_t given_up() const { return given_up_; }

private:
    void turn(bool more) {
        bool moved = false;
        for (std::size_t slot = 0; slot < slots; ++slot) {
            Way& way = ways_[slot];
            if (!way.busy && more) begin(slot, way);
            if (way.busy && !way.waiting_for_space && !way.waiting_for_end) {
                advance(slot, way);
                moved = true;
            }
        }
        store_.spool().flush();
        if (random_.below(50) == 0) store_.spool().settle();
        if (!moved && busy()) answer(store_.wait());
        if (moved) answer(store_.spool().completions());
    }

    bool busy() const {
        return std::any_of(ways_.begin(), ways_.end(), [](const Way& way) { return way.busy; });
    }

    void begin(std::size_t slot, Way& way) {
        way = {};
        way.busy = true;
        way.instance = next_instance_++;
        const std::uint32_t kind = random_.below(8);
        const std::uint32_t most = kind == 0 ? 3u << 20 : kind < 3 ? 2 * inline_bytes_max : 9000;
        way.bytes = 64 + random_.below(most);
        way.give_up_at = random_.below(10) == 0 ? random_.below(most) : UINT64_MAX;
        const auto head = instance_bytes(way.instance, 32);
        store_.spool().begin(slot, {reinterpret_cast<const char*>(head.data()), head.size()},
                             std::to_string(way.instance), way.instance % 2 == 0);
        way.landed = head.size();
    }

    void advance(std::size_t slot, Way& way) {
        if (way.landed >= way.give_up_at) {
            ++given_up_;
            way.waiting_for_end = !store_.spool().cancel(slot);
            way.busy = way.waiting_for_end;
            return;
        }
        const auto room = store_.spool().room(slot);
        if (room.empty()) {
            way.waiting_for_space = true;
            return;
        }
        const std::uint64_t left = std::min<std::uint64_t>(room.size(), way.bytes - way.landed);
        const std::uint64_t count = std::min<std::uint64_t>(left, 1 + random_.below(64u << 10));
        for (std::uint64_t at = 0; at < count; ++at) {
            room[at] = byte_at(way.instance, way.landed + at);
        }
        store_.spool().land(slot, count);
        way.landed += count;
        if (way.landed == way.bytes) {
            store_.spool().end(slot);
            way.waiting_for_end = true;
        }
    }

    void answer(const std::vector<scai::Completion>& completions) {
        for (const auto& completion : completions) {
            if (completion.kind == scai::CompletionKind::settled) {
                FUZZ_CLAIM(completion.code == 0);
                continue;
            }
            Way& way = ways_[completion.slot];
            way.waiting_for_space = false;
            if (completion.kind == scai::CompletionKind::space) continue;
            FUZZ_CLAIM(completion.kind != scai::CompletionKind::failed);
            FUZZ_CLAIM(way.busy && way.waiting_for_end);
            way.busy = false;
            if (completion.kind == scai::CompletionKind::stored) {
                FUZZ_CLAIM(completion.file_bytes == way.bytes);
                FUZZ_CLAIM(completion.sequence <= store_.spool().durable_sequence());
                FUZZ_CLAIM(acknowledged_.insert(way.instance).second);
                if (completion.sequence == 0) ++sealed_;
            }
        }
    }

    scratch::Store& store_;
    fuzzing::Random random_;
    std::array<Way, slots> ways_{};
    std::uint64_t next_instance_ = 1;
    std::uint64_t given_up_ = 0;
    std::set<std::uint64_t> acknowledged_;
    std::uint64_t sealed_ = 0;  // of these, before they had a record
};

}  // namespace

int main(int count, char** arguments) {
    const int seconds = count > 1 ? std::atoi(arguments[1]) : 5;
    const int seed = count > 2 ? std::atoi(arguments[2]) : 1;
    scratch::Store store(sizes);
    Loop loop(store, static_cast<std::uint32_t>(seed));
    Follower follower(store);
    loop.run(std::time(nullptr) + seconds);
    while (store.spool().settle()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto found = follower.stop();
    std::set<std::uint64_t> instances;
    for (const auto& [sequence, instance] : found) instances.insert(instance);
    FUZZ_CLAIM(instances == loop.acknowledged() && instances.size() == found.size());
    FUZZ_CLAIM(loop.sealed() > 0);
    FUZZ_CLAIM(!found.empty() && found.rbegin()->first == found.size());
    FUZZ_CLAIM(!store.directory().anything_incoming());
    store.restart();
    FUZZ_CLAIM(store.spool().durable_sequence() == found.size());
    std::printf("%zu stored, %llu of them sealed first, %llu given up\n", found.size(),
                static_cast<unsigned long long>(loop.sealed()),
                static_cast<unsigned long long>(loop.given_up()));
    return 0;
}
