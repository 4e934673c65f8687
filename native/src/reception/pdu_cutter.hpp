// One connection's inbound bytes: cuts PDUs (PS3.8 9.3) and PDVs (9.3.5), lands data-set fragments
// in a ring.
//
// The kernel writes each fragment straight to its final place. A read is planned as a row of
// destinations: the rest of this fragment, the next header, the fragment that will probably follow,
// and so on. That works since a peer's P-DATA-TF PDUs are all of one size but the last. Where the
// guess was wrong the bytes behind are set aside and copied once. So the data set lies contiguous
// behind its file head, aligned for direct writes, and no copy of it is made.
//
// Resumable at any byte: every cutting of the stream gives the same events. It stops at each event,
// so that the caller decides what comes next before another byte is looked at. Knows no state of
// the association beyond whether P-DATA-TF is legal and whether a command or a data set is due.
#pragma once

#include <sys/uio.h>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/base.hpp"
#include "base/byte_stream.hpp"
#include "spool/spool.hpp"
#include "reception/store_lane.hpp"

namespace scai {

enum class Received : int { event = 0, again = 1, budget = 2, full = 3, end = 4, broken = 5 };

// PS3.8 table 9-26: the reasons of a provider's abort that the stream itself can give.
enum class StreamReason : int {
    unrecognized_pdu = 1,
    unexpected_parameter = 5,
    invalid_parameter = 6
};

struct PduEvent {
    std::uint8_t type;
    std::vector<std::byte> body;
};
struct CommandEvent {
    std::uint8_t context;
    std::vector<std::byte> command_set;
};
struct DatasetEvent {
    std::uint8_t context;
    std::uint64_t bytes;
};
struct FaultEvent {
    StreamReason reason;
    std::string text;
};
using CutterEvent = std::variant<PduEvent, CommandEvent, DatasetEvent, FaultEvent>;

struct CutterLimits {
    std::uint32_t associate_bytes_max;
    std::uint32_t command_bytes_max;
    std::uint32_t pdata_bytes_max;
    std::uint32_t pdata_bytes_advertised;
    std::size_t uid_characters_max;
};

class PduCutter {
public:
    explicit PduCutter(CutterLimits limits) : limits_(limits) {}

    void attach(Spool& spool, std::size_t slot) noexcept {
        spool_ = &spool;
        slot_ = slot;
    }
    void expect_command() noexcept { data_context_.reset(); }
    void expect_data(std::uint8_t context) noexcept {
        data_context_ = context;
        dataset_bytes_ = 0;
    }

    // Regular C-STORE-RQs on this context are begun without an event; see store_lane.hpp.
    void permit_store(std::uint8_t context, StoreTemplate pieces) {
        lane_.permit(context, std::move(pieces));
    }
    // The store begun without an event becomes the caller's, as if its events had been told: the
    // command set, and the data set's end if it has come.
    std::optional<StoreUnderWay> reveal_store() { return std::exchange(store_, std::nullopt); }
    struct FinishedStore {
        StoreUnderWay store;
        std::string response;
    };
    // The store begun without an event is durable: what the peer is to be told.
    std::optional<FinishedStore> finish_store();

    Received receive(ByteStream& stream, std::size_t budget);
    Received feed(std::span<const std::byte> data);
    std::optional<CutterEvent> next_event();

    std::uint64_t received_bytes() const noexcept { return received_bytes_; }
    // Nothing of a message, or of another PDU, has come that has not ended.
    bool between_messages() const noexcept {
        return part_ == Part::pdu_header && header_held_ == 0 && command_.empty() &&
               !data_context_.has_value();
    }
    // Commands, data sets and other PDUs that came whole.
    std::uint64_t ended_parts() const noexcept { return ended_parts_; }
    // Of all data sets together, kept or dropped.
    std::uint64_t data_bytes() const noexcept { return data_bytes_; }
    // The peer waits for the disk, by a store begun without an event.
    bool committing() const noexcept { return store_ && store_->ended; }
    std::uint64_t oversized_pdus() const noexcept { return oversized_pdus_; }
    // Of data sets, because a guess was wrong: nothing for a peer whose PDUs are of one size.
    std::uint64_t copied_bytes() const noexcept { return copied_bytes_; }

private:
    // What the next byte is.
    enum class Part : std::uint8_t { pdu_header, pdv_header, body, command, data, dead };

    static constexpr std::size_t pdu_header_bytes = 6;
    static constexpr std::size_t pdv_header_bytes = 6;
    static constexpr std::size_t destinations_max = 64;
    static constexpr std::size_t scratch_bytes = 32u << 10;
    // Data sets up to this size are read together with their command, and copied: a page or two in
    // a core's own cache costs less than one more system call.
    static constexpr std::size_t copied_bytes_max = 16u << 10;

    struct Plan {
        std::array<iovec, destinations_max> parts;
        std::size_t count = 0;
        std::size_t bytes = 0;
        bool ring_first = true;  // of a row that alternates between the ring and headers
        void add(std::byte* to, std::size_t size) {
            parts[count++] = {to, size};
            bytes += size;
        }
    };

    Received progress();
    std::size_t following_header_bytes() const noexcept;
    Received run_dry(int descriptor) const noexcept;
    bool plan(Plan& plan, std::size_t budget);
    std::size_t message_ahead() const noexcept;
    void plan_data(Plan& plan, std::size_t budget);
    void plan_header_and_data(Plan& plan, std::size_t budget);
    void plan_following(Plan& plan, std::span<std::byte> room, std::size_t budget);
    void take(const Plan& plan, std::size_t got);
    bool lies_right(const Plan& plan, std::size_t index, std::span<const std::byte> piece);
    std::size_t consume(std::span<const std::byte> bytes);
    std::size_t consume_header(std::span<const std::byte> bytes);
    std::size_t consume_body(std::span<const std::byte> bytes);
    std::size_t consume_command(std::span<const std::byte> bytes);
    std::size_t consume_data(std::span<const std::byte> bytes);
    void begin_pdu();
    void begin_other_pdu(std::uint8_t type, std::uint32_t length);
    void begin_pdv();
    void end_fragment();
    bool begin_store();
    void end_dataset();
    void fault(StreamReason reason, std::string text);

    CutterLimits limits_;
    Spool* spool_ = nullptr;
    std::size_t slot_ = 0;

    Part part_ = Part::pdu_header;
    std::array<std::byte, 6> header_{};
    std::size_t header_held_ = 0;

    std::uint8_t pdu_type_ = 0;
    std::uint32_t pdu_left_ = 0;  // bytes of the P-DATA-TF behind the current PDV header
    std::vector<std::byte> body_;
    std::size_t body_bytes_ = 0;

    std::uint32_t fragment_left_ = 0;
    std::uint32_t fragment_bytes_ = 0;     // of the fragment under way
    std::uint32_t fragment_expected_ = 0;  // what the next one will probably have; 0: no guess
    std::uint32_t fragment_usual_ = 0;     // likewise, of the first of a data set
    bool fragment_last_ = false;
    std::uint8_t fragment_context_ = 0;

    std::vector<std::byte> command_;
    std::optional<std::uint8_t> command_context_;
    std::optional<std::uint8_t> data_context_;
    std::uint64_t dataset_bytes_ = 0;
    std::size_t command_bytes_ = 0;     // of the last command
    std::size_t message_expected_ = 0;  // what to read of the next message at first; 0: no guess

    StoreLane lane_;
    std::optional<StoreUnderWay> store_;

    std::optional<CutterEvent> event_;
    bool full_ = false;
    bool ended_ = false;  // the data set's last byte came, the spool has not been told

    // Bytes read but not yet cut: behind an event, or misplaced by a wrong guess.
    std::vector<std::byte> aside_;
    std::size_t aside_taken_ = 0;
    std::vector<std::byte> scratch_;
    std::array<std::array<std::byte, 12>, destinations_max> headers_{};

    std::uint64_t received_bytes_ = 0;
    std::uint64_t ended_parts_ = 0;
    std::uint64_t data_bytes_ = 0;
    std::uint64_t oversized_pdus_ = 0;
    std::uint64_t copied_bytes_ = 0;
};

}  // namespace scai
