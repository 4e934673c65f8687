// One worker's way to the disk: slots (ring, writer thread, tag scanner) and the committer thread
// that owns the journal.
//
// The event loop's thread calls begin(), land() and end() for each instance; from then on the slot
// belongs to the native threads until a completion comes back. A small instance is durable with its
// journal record, a large one with its sealed file, whose record follows together with others'.
// Nothing here is ever dropped or grows: a slot carries one instance, a full ring is an answer, and
// only so many seals stand for a record.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/base.hpp"
#include "spool/completions.hpp"
#include "spool/file_writer.hpp"
#include "spool/incoming.hpp"
#include "spool/journal.hpp"
#include "spool/name_stock.hpp"
#include "spool/ring.hpp"
#include "spool/tag_scanner.hpp"

namespace scai {

struct SpoolSettings {
    std::string incoming_directory;
    int ring_descriptor = -1;
    std::size_t slots = 0;
    std::size_t ring_bytes = 0;
    std::size_t inline_bytes_max = 0;
    std::vector<std::uint32_t> wanted_tags;
    std::size_t attribute_bytes_max = 0;
    std::size_t attributes_bytes_max = 0;
    std::size_t sequence_depth_max = 0;
    std::size_t write_bytes = 0;  // of one write, while a large instance arrives
    // Acknowledged by their seals alone; beyond that a large instance waits for its record as well.
    std::size_t sealed_max = 0;
    std::uint64_t sealed_bytes_max = 0;  // of one of them: a restart reads it whole
    std::size_t refused_max = 0;         // names of files that the disk does not let go
    JournalSettings journal;
};

class Spool {
public:
    explicit Spool(SpoolSettings settings);
    ~Spool();
    Spool(const Spool&) = delete;
    Spool& operator=(const Spool&) = delete;

    std::size_t slots() const noexcept { return slots_.size(); }
    int completion_descriptor() const noexcept { return completions_.descriptor(); }
    // The last record that the journal has for good.
    std::uint64_t durable_sequence() const noexcept {
        return durable_sequence_.load(std::memory_order_acquire);
    }
    // The one that it has as soon as it has all that was acknowledged until now, or more.
    std::uint64_t acknowledged_sequence() const;

    // --- the event loop's thread
    void begin(std::size_t slot, std::string_view head, std::string prologue, bool explicit_vr);
    void discard(std::size_t slot);
    bool cancel(std::size_t slot);
    std::vector<Completion> completions();

    // Whether instances may begin without asking; false: each request is decided by the caller.
    void admit(bool any) noexcept { admitting_ = any; }
    bool admits(std::size_t slot) const { return admitting_ && slots_[slot]->mode == Mode::idle; }

    // Small instances that have ended are handed to the committer together, at the end of the event
    // loop's turn: one waking, one write and one sync for all of them.
    bool unflushed() const noexcept { return !ended_.empty(); }
    void flush();
    // Has the journal catch up with sealed files that were acknowledged before it named them;
    // `settled` is told then. False: there are none.
    bool settle();

    // Where the next bytes of the data set go; empty: the ring is full and `space` will be told,
    // or, after a second look, there is room after all.
    std::span<std::byte> room(std::size_t slot);
    void land(std::size_t slot, std::size_t count);
    void end(std::size_t slot);
    // Whether the bytes are kept, so that it pays to plan where they go.
    bool streams(std::size_t slot) const {
        return slots_[slot]->mode == Mode::inlined || slots_[slot]->mode == Mode::streamed;
    }

    struct Recovery {
        std::uint64_t records;
        std::uint64_t torn;
        std::uint64_t removed;
        std::uint64_t adopted;  // sealed files that the journal does not name yet
    };
    Recovery recovery() const noexcept { return recovery_; }

    void close();

private:
    enum class Mode : std::uint8_t { idle, inlined, streamed, discarding, committing, leaving };

    struct Slot {
        explicit Slot(int descriptor, std::size_t number, std::size_t bytes)
            : ring(descriptor, number, bytes) {}
        Ring ring;
        TagScanner scanner;
        Mode mode = Mode::idle;
        std::size_t head_bytes = 0;  // what stands ahead of the data set
        std::string prologue;
        std::unique_ptr<FileWriter> writer;  // last: its thread uses what stands above
    };

    // What is to have a record. It is acknowledged with that, or was before by its own seal: then
    // the slot has gone on, and what the record needs lies here.
    struct Waiting {
        std::size_t slot;
        SealedFile file;  // empty name: inline
        bool acknowledged = false;
        std::string prologue{};
        std::vector<std::byte> attributes{};
    };

    Slot& at(std::size_t slot);
    void adopt(LeftOver left);
    void take_sealed(std::size_t number, SealedFile file);
    void commit_forever();
    void commit(std::vector<Waiting>& group);
    void put_back(std::vector<Waiting> left, std::size_t caught_up);
    void refuse(const std::string& name, bool recorded);
    void remove_refused();
    JournalEntry entry_of(const Waiting& waiting);

    SpoolSettings settings_;
    WantedTags wanted_;
    Descriptor incoming_;
    Journal journal_;
    Recovery recovery_{};
    NameStock names_;
    std::atomic<std::uint64_t> durable_sequence_{0};
    std::uint64_t seals_ = 0;  // the number of the last one
    Completions completions_;
    std::vector<std::byte> dropped_;
    std::vector<std::size_t> ended_;
    bool admitting_ = false;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Waiting> waiting_;  // in the order of their records
    std::vector<std::string> refused_;
    bool record_refused_ = false;   // the journal may still show a record of one
    std::size_t in_hand_ = 0;       // of the committer
    std::size_t acknowledged_ = 0;  // of both, by their seals alone
    bool urgent_ = false;           // somebody waits for the journal
    bool leaving_ = false;
    std::vector<std::unique_ptr<Slot>> slots_;
    std::thread committer_;
};

}  // namespace scai
