// Slots and the committer. The order of durability (engine/README.md) is the order of the lines in
// commit().
#include "spool.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "checksum.hpp"
#include "clock.hpp"
#include "thread.hpp"

namespace scai {

namespace {

constexpr std::size_t group_max = 64;  // limits.journal_group_max

}  // namespace

Spool::Spool(SpoolSettings settings)
    : settings_(std::move(settings)),
      wanted_(settings_.wanted_tags),
      incoming_(::open(settings_.incoming_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
      journal_(settings_.journal),
      names_(incoming_.get(), realtime_ns(), settings_.journal.durable),
      dropped_(64u << 10) {
    if (!incoming_) fail("opening " + settings_.incoming_directory);
    durable_sequence_.store(journal_.last_sequence(), std::memory_order_release);
    recovery_ = {journal_.records_found(), journal_.torn_found(), 0};
    sweep_incoming();
    for (std::size_t number = 0; number < settings_.slots; ++number) {
        auto slot = std::make_unique<Slot>(settings_.ring_descriptor, number, settings_.ring_bytes);
        FileWriter::Callbacks callbacks{
            [this, number](SealedFile file) {
                if (file.code != 0) {
                    completions_.push({CompletionKind::failed, number, file.code, file.bytes, 0});
                } else {
                    submit({number, std::move(file)});
                }
            },
            [this, number] {
                completions_.push({CompletionKind::free, number, 0, 0, 0});
            },
            [this, number] {
                completions_.push({CompletionKind::space, number, 0, 0, 0});
            },
        };
        slot->writer = std::make_unique<FileWriter>(
            slot->ring, incoming_.get(), settings_.journal.durable,
            "scai-write-" + std::to_string(number), std::move(callbacks));
        slots_.push_back(std::move(slot));
    }
    committer_ = start_thread("scai-commit", [this] { commit_forever(); });
}

Spool::~Spool() {
    close();
}

void Spool::close() {
    if (!committer_.joinable()) return;
    flush();
    // The writers first: what they seal is still committed.
    for (auto& slot : slots_) slot->writer.reset();
    names_.close();
    {
        const std::lock_guard guard(mutex_);
        leaving_ = true;
    }
    changed_.notify_one();
    committer_.join();
    journal_.close();
}

// Files under incoming/ that no record names belong to instances that were never acknowledged.
void Spool::sweep_incoming() {
    const auto& named = journal_.names_found();
    const std::unordered_set<std::string> wanted(named.begin(), named.end());
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(
        ::opendir(settings_.incoming_directory.c_str()), ::closedir);
    if (!entries) fail("opening " + settings_.incoming_directory);
    while (const dirent* entry = ::readdir(entries.get())) {
        const std::string name = entry->d_name;
        if (!name.ends_with(".part") || wanted.contains(name)) continue;
        struct stat status {};
        const bool begun =
            ::fstatat(incoming_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            status.st_size > 0;
        if (::unlinkat(incoming_.get(), name.c_str(), 0) != 0) fail("removing " + name);
        if (begun) ++recovery_.removed;
    }
}

Spool::Slot& Spool::at(std::size_t slot) {
    if (slot >= slots_.size()) throw SystemFailure(EINVAL, "no such slot");
    return *slots_[slot];
}

void Spool::begin(std::size_t number, std::string_view head, std::string prologue,
                  bool explicit_vr) {
    Slot& slot = at(number);
    SCAI_ASSERT(slot.mode == Mode::idle);
    SCAI_ASSERT(head.size() <= slot.ring.bytes() / 2);
    slot.ring.reset();
    slot.prologue = std::move(prologue);
    slot.scanner.start(&wanted_, explicit_vr, settings_.attribute_bytes_max,
                       settings_.attributes_bytes_max);
    std::memcpy(slot.ring.room().data(), head.data(), head.size());
    slot.ring.produce(head.size());
    slot.mode = Mode::inlined;
}

void Spool::discard(std::size_t number) {
    Slot& slot = at(number);
    SCAI_ASSERT(slot.mode == Mode::idle);
    slot.mode = Mode::discarding;
}

std::span<std::byte> Spool::room(std::size_t number) {
    Slot& slot = *slots_[number];
    if (slot.mode == Mode::discarding) return dropped_;
    std::span<std::byte> room = slot.ring.room();
    if (room.empty() && !slot.writer->want_space()) room = slot.ring.room();
    return room;
}

void Spool::land(std::size_t number, std::size_t count) {
    Slot& slot = *slots_[number];
    if (slot.mode == Mode::discarding) return;
    const auto bytes = slot.ring.room().first(count);
    if (slot.scanner.outcome() == TagScanner::Outcome::more) slot.scanner.feed(bytes);
    slot.ring.produce(count);
    if (slot.mode == Mode::streamed) {
        slot.writer->wake();
    } else if (slot.ring.produced() > settings_.inline_bytes_max) {
        slot.mode = Mode::streamed;
        NameStock::Name name = names_.take();
        slot.writer->start(std::move(name.text), name.made);
    }
}

void Spool::end(std::size_t number) {
    Slot& slot = *slots_[number];
    if (slot.mode == Mode::discarding) {
        slot.mode = Mode::idle;
        return;
    }
    slot.scanner.finish();
    const bool streamed = slot.mode == Mode::streamed;
    slot.mode = Mode::committing;
    if (streamed) {
        slot.writer->finish();
    } else {
        ended_.push_back(number);
    }
}

void Spool::flush() {
    if (ended_.empty()) return;
    {
        const std::lock_guard guard(mutex_);
        for (const std::size_t number : ended_) waiting_.push_back({number, {}});
    }
    ended_.clear();
    changed_.notify_one();
}

bool Spool::cancel(std::size_t number) {
    Slot& slot = at(number);
    switch (slot.mode) {
        case Mode::streamed:
            slot.mode = Mode::leaving;
            slot.writer->abandon();
            return false;
        case Mode::committing:
            flush();
            return false;
        case Mode::leaving:
            return false;
        default:
            slot.mode = Mode::idle;
            return true;
    }
}

std::vector<Completion> Spool::completions() {
    auto taken = completions_.take();
    for (const auto& completion : taken) {
        if (completion.kind != CompletionKind::space) slots_[completion.slot]->mode = Mode::idle;
    }
    return taken;
}

void Spool::submit(Waiting waiting) {
    {
        const std::lock_guard guard(mutex_);
        waiting_.push_back(std::move(waiting));
    }
    changed_.notify_one();
}

void Spool::commit_forever() {
    std::vector<Waiting> group;
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return !waiting_.empty() || leaving_; });
            if (waiting_.empty()) return;
            const auto count = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), group_max));
            group.assign(std::make_move_iterator(waiting_.begin()),
                         std::make_move_iterator(waiting_.begin() + count));
            waiting_.erase(waiting_.begin(), waiting_.begin() + count);
        }
        commit(group);
    }
}

JournalEntry Spool::entry_of(const Waiting& waiting) {
    Slot& slot = *slots_[waiting.slot];
    JournalEntry entry;
    entry.prologue = slot.prologue;
    entry.attributes = slot.scanner.row();
    entry.name = waiting.file.name;
    if (entry.name.empty()) {
        entry.bytes = slot.ring.peek(slot.ring.available());
        entry.file_bytes = entry.bytes.size();
        entry.file_crc = crc32c(entry.bytes);
    } else {
        entry.file_bytes = waiting.file.bytes;
        entry.file_crc = waiting.file.crc;
    }
    return entry;
}

void Spool::commit(std::vector<Waiting>& group) {
    std::vector<JournalEntry> entries;
    bool fresh_names = false;
    for (const Waiting& waiting : group) {
        entries.push_back(entry_of(waiting));
        const SealedFile& file = waiting.file;
        fresh_names = fresh_names || (!file.name.empty() && !file.name_durable);
    }
    int code = 0;
    // 1. The large instances' data is synced by their writers; here those of their names that did
    // not come from the stock.
    if (fresh_names && settings_.journal.durable && ::fsync(incoming_.get()) != 0) code = errno;
    // 2. The records of all, under one sync.
    Journal::Appended appended{0, code};
    if (code == 0) appended = journal_.append(entries);
    durable_sequence_.store(journal_.last_sequence(), std::memory_order_release);
    // 3. Only now is anything told; the event loop answers the peers.
    std::vector<Completion> told;
    for (std::size_t index = 0; index < group.size(); ++index) {
        const auto bytes = entries[index].file_bytes;
        if (index < appended.durable) {
            told.push_back(
                {CompletionKind::stored, group[index].slot, 0, bytes, entries[index].sequence});
            continue;
        }
        if (!group[index].file.name.empty()) {
            static_cast<void>(::unlinkat(incoming_.get(), group[index].file.name.c_str(), 0));
        }
        told.push_back({CompletionKind::failed, group[index].slot, appended.code, bytes, 0});
    }
    completions_.push(told);
    journal_.prepare();
}

}  // namespace scai
