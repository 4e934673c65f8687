// See round_trip.hpp.
#include "outgoing/round_trip.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace scai {

RoundTrip round_trip(int socket, std::span<const std::byte> request, std::span<std::byte> answer,
                   int timeout_ms) noexcept {
    RoundTrip done;
    if (!request.empty()) {
        const ssize_t count =
            ::send(socket, request.data(), request.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0) return done;
        done.sent = static_cast<std::size_t>(count);
        if (done.sent < request.size()) return done;
    }
    // A peer with Nagle's algorithm that writes an answer in two pieces sends the second once we
    // acknowledge the first, which Linux would put off for 40 ms.
    const int yes = 1;
    ::setsockopt(socket, IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes);
    pollfd waiting{socket, POLLIN, 0};
    // An error beside what can be read would be taken away by reading.
    if (socket < 0 || ::poll(&waiting, 1, timeout_ms) != 1 || waiting.revents != POLLIN) {
        return done;
    }
    const ssize_t count = ::recv(socket, answer.data(), answer.size(), MSG_DONTWAIT);
    if (count > 0) done.received = static_cast<std::size_t>(count);
    return done;
}

}  // namespace scai
