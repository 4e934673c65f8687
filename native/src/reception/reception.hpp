// The event loop's turn for all connections of a receiver that have nothing out of the ordinary:
// answers what became durable, reads what came, hands ended instances to the committer.
//
// Watches the sockets and the spool's completions by an epoll descriptor of its own, which the
// event loop watches in their place. What only Python can decide comes back as a notice; a
// connection with a notice is not read again in that turn, so its notices are in the order in which
// things happened. One thread's. Knows no Python.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/base.hpp"
#include "base/byte_stream.hpp"
#include "base/clock.hpp"
#include "reception/pdu_cutter.hpp"
#include "reception/log_line.hpp"
#include "spool/spool.hpp"
#include "reception/tally.hpp"

namespace scai {

class Reception;

// One connection's place at a reception. Its cutter, its stream and the reception outlive it.
class Inlet {
public:
    Inlet(Reception& reception, std::uint64_t key, PduCutter& cutter, ByteStream& stream);
    ~Inlet();
    Inlet(const Inlet&) = delete;
    Inlet& operator=(const Inlet&) = delete;

    // Never given twice by a reception: what is told of one that left is told to nobody.
    std::uint64_t key() const noexcept { return key_; }
    // CLOCK_MONOTONIC, nanoseconds: since when it is the peer's turn. Its last byte came then,
    // or an answer went out here, or reading went on after a pause; now, while it is the disk
    // that is slow and not the peer.
    std::uint64_t quiet_since() const { return full_ ? monotonic_ns() : quiet_since_; }

    // What of a message, or of another PDU, is under way: since when (0: nothing), and its bytes,
    // with all that came in the same read as its first one.
    struct UnderWay {
        std::uint64_t since_ns;
        std::uint64_t bytes;
    };
    UnderWay message() const noexcept;
    // What the association is good for: when an instance became durable or enough of a data set
    // came (now, while the disk is waited for; 0: never), bytes of data sets, instances stored.
    struct Progress {
        std::uint64_t last_ns;
        std::uint64_t data_bytes;
        std::uint64_t stored;
    };
    Progress progress() const;

    // The association has this slot of the spool from now on.
    void attach(std::size_t slot);
    // What is logged of its instances.
    void log_as(LogPieces pieces) { log_pieces_ = std::move(pieces); }
    // Goes on reading, within what is left of the turn's budget.
    Received receive();
    // Nothing is read until release(), which sees to what was read before.
    void hold();
    void release();
    // Before the stream's descriptor is closed: nothing more is told of it.
    void leave() noexcept;

private:
    friend class Reception;

    Reception* reception_;  // null when it has left
    std::uint64_t key_;
    PduCutter& cutter_;
    ByteStream& stream_;
    std::size_t slot_ = SIZE_MAX;
    std::size_t budget_ = 0;
    std::uint64_t seen_in_ = 0;  // the last round in which it was read, or had a notice
    std::uint64_t quiet_since_ = 0;
    std::uint64_t message_since_ = 0;
    std::uint64_t message_at_ = 0;    // the cutter's received bytes when the message began
    std::uint64_t progress_ns_ = 0;   // of the last progress
    std::uint64_t progress_at_ = 0;   // the cutter's data bytes then
    std::uint64_t stored_ = 0;
    LogPieces log_pieces_;
    bool watched_ = false;
    bool held_ = false;  // by the caller
    bool full_ = false;  // the ring, until the spool tells of space
};

struct ReceptionLimits {
    std::size_t bytes;        // of one connection in one go, then the next one has its turn
    std::size_t event_bytes;  // what handling one event counts of that
    std::uint64_t turn_ns;    // a turn goes on for so long while there is something to do
    std::uint64_t progress_bytes;  // of data sets, so many more are progress
};

// What is left to the caller.
struct Notice {
    enum class Kind : int {
        received = 0,  // `number`: a Received other than `again`, `full` and `budget`
        stored = 1,    // `number`: the file's bytes; the caller knows the store
        failed = 2,    // `number`: errno
        unsent = 3,    // `rest` of an answer that the socket does not take
        freed = 4      // `number`: a slot whose association has ended
    };
    Kind kind;
    std::uint64_t key;  // of the inlet; 0: of none
    std::uint64_t number;
    std::string rest;
};

struct Turn {
    std::size_t stored = 0;  // instances, whoever answers them
    bool settled = false;    // the journal caught up: see Spool::settle()
    std::vector<Notice> notices;
    std::vector<std::string> lines;  // of the log, for those that were answered without a notice
};

class Reception {
public:
    Reception(Spool& spool, Tally tally, ReceptionLimits limits);
    Reception(const Reception&) = delete;
    Reception& operator=(const Reception&) = delete;

    // Readable when a turn is due.
    int descriptor() const noexcept { return poll_.get(); }
    std::uint64_t next_key() noexcept { return ++last_key_; }
    // Whether turns carry lines for the log.
    void log(bool any) noexcept { logging_ = any; }

    Turn turn();

private:
    friend class Inlet;

    bool round(Turn& turn);
    void watch(int descriptor, void* what);
    void watch_or_not(Inlet& inlet);
    void revisit(Inlet& inlet);
    void forget(Inlet& inlet) noexcept;
    Received receive(Inlet& inlet);
    void take_note(Inlet& inlet, std::uint64_t parts_before, std::uint64_t bytes_before);
    void read(Inlet& inlet, Turn& turn);
    void take_completions(Turn& turn);
    void take_stored(const Completion& completion, Turn& turn);
    void answer(Inlet& inlet, const PduCutter::FinishedStore& finished, std::uint64_t file_bytes,
                Turn& turn);
    void tell(Inlet& inlet, Notice notice, Turn& turn);

    Spool& spool_;
    Tally tally_;
    ReceptionLimits limits_;
    Descriptor poll_;
    Descriptor bell_;  // a turn is due though no socket has anything
    std::vector<Inlet*> by_slot_;
    std::vector<Inlet*> revisited_;  // their cutters or streams hold bytes that were read before
    std::uint64_t last_key_ = 0;
    std::uint64_t rounds_ = 0;
    std::uint64_t now_ = 0;
    bool logging_ = false;
    LogClock log_clock_;
};

}  // namespace scai
