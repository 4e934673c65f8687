// A C-STORE-RQ on its way out: command and data set laid into P-DATA-TF PDUs in one buffer, the
// file read straight between their headers, and written to a plain socket with as few calls as can
// be.
//
// Contract, in the order of calls:
// - begin() with the command set.
// - append() and append_file() take as much as there is room for and say how much. flush() writes
//   whole PDUs and makes room. send() writes what is in memory already straight from there.
// - finish() says that the data set is complete. A last flush() writes what is left.
// - Where a socket is not plain (TLS), staged() lends what is to be written, until drop_staged().
//
// A fragment is only sent once it is known whether it is the last one, and every other one has the
// full, even length. Reading is by preadv(2), not by mapping: a file that somebody truncates gives
// an error, never a signal.
#pragma once

#include <sys/uio.h>
#include <memory>
#include <span>
#include <vector>

#include "base/base.hpp"

namespace scai {

class DataSetSender {
public:
    enum class Sending : std::uint8_t {
        sent,    // all that was whole
        input,   // the peer says something, or has closed, in the middle
        woken,   // the wake descriptor became readable
        late,    // the peer took no byte for the whole time
        broken,  // the connection: socket_error() says how
    };

    // Where to write, what cuts the waiting short (-1: nothing), and how long the peer may take
    // nothing: neither from us nor, with a slow line between, out of the kernel's buffer.
    struct Way {
        int socket;
        int wake;
        int timeout_ms;
    };

    explicit DataSetSender(std::size_t buffer_bytes);

    // `pdu_bytes_max`: as the peer advertised it, without the six bytes of the PDU's own header.
    // std::invalid_argument where the buffer does not hold two such PDUs and the command.
    void begin(std::uint8_t context_id, std::size_t pdu_bytes_max,
               std::span<const std::byte> command_set);

    std::size_t append(std::span<const std::byte> data);
    std::uint64_t append_file(int descriptor, std::uint64_t offset, std::uint64_t length);
    void finish();

    Sending flush(const Way& way);
    Sending send_file(int descriptor, std::uint64_t offset, std::uint64_t length, const Way& way);
    // All of `data` but for a last fragment at most. After any outcome but `sent` the message is
    // over: how much of it is on its way is not known.
    Sending send(std::span<const std::byte> data, const Way& way);

    // finish(), a last flush(), and waiting until the peer has most of it or says something.
    Sending complete(const Way& way);

    // Waits while the kernel still holds much of what was sent, as on a slow line: only then a
    // response can be due. `heeds_input`: or until the peer says something.
    static Sending wait_until_taken(const Way& way, bool heeds_input);

    std::span<const std::byte> staged();
    void drop_staged();

    int socket_error() const noexcept { return socket_error_; }
    std::uint64_t sent_bytes() const noexcept { return sent_bytes_; }

private:
    static constexpr std::size_t header_bytes = 12;  // PDU and PDV header: PS3.8 9.3.5
    static constexpr std::size_t spans_max = 256;    // of one preadv(2) or sendmsg(2)

    std::size_t room() const noexcept;
    std::byte* place(std::uint64_t index) noexcept;
    void put_header(std::byte* at, std::size_t fragment, std::uint8_t control) noexcept;
    void seal(std::size_t known);
    Sending write(std::span<iovec> parts, const Way& way);
    static Sending wait_for_room(const Way& way);

    const std::size_t capacity_;
    const std::unique_ptr<std::byte[]> buffer_;
    std::vector<iovec> spans_;
    std::uint8_t context_id_ = 0;
    std::size_t fragment_max_ = 0;
    std::size_t front_ = 0;   // where the first data PDU begins: behind the command
    std::size_t laid_ = 0;    // payload bytes of the data set in the buffer
    std::size_t sealed_ = 0;  // payload bytes whose PDUs have their headers
    std::size_t ready_ = 0;   // bytes of the buffer that may be sent
    std::size_t gone_ = 0;    // of them, sent
    bool finished_ = false;
    int socket_error_ = 0;  // of the last call that answered `broken`
    std::uint64_t sent_bytes_ = 0;
};

}  // namespace scai
