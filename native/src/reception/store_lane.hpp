// The short way of a regular C-STORE-RQ: what the protocol core would decide anyway, decided here.
//
// Most of an association's life is one message over and over: a C-STORE-RQ of the SOP class its
// context was accepted for, with a well-formed instance UID. For each context the core hands down
// templates, made by its own codecs (engine/association/store_lane.py), into which only the UID,
// the message ID and the time have to be filled. A command set that deviates in any way is not for
// this lane and goes to the core as ever. Knows no I/O.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/base.hpp"

namespace scai {

// The pieces between which the variable parts go; all but the flags are bytes.
struct StoreTemplate {
    std::string sop_class;
    bool explicit_vr = false;
    // Part-10 head: before | group length u32 | between | length u16, UID | after
    std::string head_before;
    std::uint32_t head_group_length = 0;  // without the UID
    std::string head_between;
    std::string head_after;
    // Arrival, msgpack: before | UID | middle | received_ns, head_bytes | after
    std::string arrival_before;
    std::string arrival_middle;
    std::string arrival_after;
    // C-STORE-RSP: the element (0000,0002) as it is given back.
    std::string response_sop_class;
};

// A store that was begun here and is not answered yet.
struct StoreUnderWay {
    std::uint8_t context = 0;
    std::uint16_t message_id = 0;
    std::string sop_instance;  // without padding
    std::vector<std::byte> command_set;
    std::uint64_t dataset_bytes = 0;
    bool ended = false;
    std::uint64_t began_ns = 0;  // CLOCK_MONOTONIC
    std::uint64_t ended_ns = 0;
};

struct StoreFile {
    std::string head;
    std::string prologue;
};

class StoreLane {
public:
    void permit(std::uint8_t context, StoreTemplate pieces) {
        templates_.insert_or_assign(context, std::move(pieces));
    }
    const StoreTemplate* find(std::uint8_t context) const {
        const auto found = templates_.find(context);
        return found == templates_.end() ? nullptr : &found->second;
    }

    // The request's facts, if the command set is regular in every way.
    static std::optional<StoreUnderWay> match(const StoreTemplate& pieces, std::uint8_t context,
                                              std::span<const std::byte> command_set,
                                              std::size_t uid_characters_max);
    static StoreFile file_of(const StoreTemplate& pieces, const StoreUnderWay& store,
                             std::uint64_t received_ns);
    // The whole P-DATA-TF PDU of the response with status 0000.
    static std::string response(const StoreTemplate& pieces, const StoreUnderWay& store);

private:
    std::map<std::uint8_t, StoreTemplate> templates_;
};

}  // namespace scai
