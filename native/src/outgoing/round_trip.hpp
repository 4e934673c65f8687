// A few bytes to a peer and its answer, in one call: each of the system calls that make it up would
// be a turn of the interpreter's lock of its own. Called by whoever asks for associations.
//
// Contract: only what goes well is done here. What is not sent at once, an error, the end of the
// stream and a time-out are left for the caller to meet again.
#pragma once

#include <cstddef>
#include <span>

namespace scai {

struct RoundTrip {
    std::size_t sent = 0;
    std::size_t received = 0;
};

// Sends `request`, which may be empty, and if all of it went, reads once into `answer` when there
// is something within `timeout_ms`.
RoundTrip round_trip(int socket, std::span<const std::byte> request, std::span<std::byte> answer,
                   int timeout_ms) noexcept;

}  // namespace scai
