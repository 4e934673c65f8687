// Any data set, appended or sent in any pieces, from memory or from a file, to a socket or lent:
// what arrives is the same as PS3.8 would have it written, for any length of PDU and of buffer. The
// input says how large PDU and buffer are, and then which piece comes from where.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "outgoing/data_set_sender.hpp"
#include "fuzzing.hpp"

namespace {

using Bytes = std::vector<std::byte>;

void put_u32(Bytes& to, std::size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        to.push_back(static_cast<std::byte>(value >> shift));
}

// One message part the slow way, a byte at a time.
void put_part(Bytes& to, std::span<const std::byte> part, std::size_t fragment_max, bool command) {
    do {
        const auto fragment = part.first(std::min(part.size(), fragment_max));
        part = part.subspan(fragment.size());
        to.insert(to.end(), {std::byte{4}, std::byte{0}});
        put_u32(to, fragment.size() + 6);
        put_u32(to, fragment.size() + 2);
        to.push_back(std::byte{7});
        to.push_back(static_cast<std::byte>((command ? 1 : 0) | (part.empty() ? 2 : 0)));
        to.insert(to.end(), fragment.begin(), fragment.end());
    } while (!part.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 4) return 0;
    const std::size_t pdu_bytes_max = 8 + data[0] * 3u;
    const std::size_t buffer_bytes = 64 + (data[1] | data[2] << 4) * 5u;
    const bool lent = (data[3] & 1) != 0;
    const Bytes command(1 + data[3] / 2, std::byte{0x55});
    int pair[2];
    FUZZ_CLAIM(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    const scai::Descriptor ours(pair[0]), theirs(pair[1]);
    const scai::DataSetSender::Way way{ours.get(), -1, 1000};
    const scai::Descriptor file(::memfd_create("data set", MFD_CLOEXEC));
    scai::DataSetSender sender(buffer_bytes);
    Bytes whole, arrived, expected;
    const auto flush = [&] {
        if (!lent) {
            FUZZ_CLAIM(sender.flush(way) == scai::DataSetSender::Sending::sent);
            fuzzing::take_over(theirs.get(), arrived);
            return;
        }
        const auto bytes = sender.staged();
        arrived.insert(arrived.end(), bytes.begin(), bytes.end());
        sender.drop_staged();
    };
    try {
        sender.begin(7, pdu_bytes_max, command);
    } catch (const std::invalid_argument&) {
        return 0;
    }
    for (std::size_t at = 4; at + 1 < size && whole.size() < 64 * 1024; at += 2) {
        Bytes piece((data[at] & 0x7f) * (1u + data[at + 1] % 16));
        for (auto& byte : piece) byte = static_cast<std::byte>(whole.size() * 7 + data[at + 1]);
        whole.insert(whole.end(), piece.begin(), piece.end());
        if ((data[at] & 0x80) != 0) {
            FUZZ_CLAIM(::pwrite(file.get(), piece.data(), piece.size(), 3) ==
                       static_cast<ssize_t>(piece.size()));
            for (std::size_t done = 0; done < piece.size();) {
                done += sender.append_file(file.get(), 3 + done, piece.size() - done);
                if (done < piece.size()) flush();
            }
            continue;
        }
        if (!lent && (data[at + 1] & 0x10) != 0) {
            const std::unique_ptr<std::byte[]> alone(new std::byte[piece.size()]);
            if (!piece.empty()) std::memcpy(alone.get(), piece.data(), piece.size());
            FUZZ_CLAIM(sender.send({alone.get(), piece.size()}, way) ==
                       scai::DataSetSender::Sending::sent);
            fuzzing::take_over(theirs.get(), arrived);
            continue;
        }
        for (std::span<const std::byte> left = piece; !left.empty();) {
            const std::unique_ptr<std::byte[]> alone(new std::byte[left.size()]);
            std::memcpy(alone.get(), left.data(), left.size());
            left = left.subspan(sender.append({alone.get(), left.size()}));
            if (!left.empty()) flush();
        }
    }
    if (lent) {
        sender.finish();
        flush();
    } else {
        FUZZ_CLAIM(sender.complete(way) == scai::DataSetSender::Sending::sent);
        fuzzing::take_over(theirs.get(), arrived);
    }
    put_part(expected, command, (pdu_bytes_max - 6) & ~std::size_t{1}, true);
    put_part(expected, whole, (pdu_bytes_max - 6) & ~std::size_t{1}, false);
    FUZZ_CLAIM(arrived == expected);
    FUZZ_CLAIM(sender.sent_bytes() == expected.size());
    return 0;
}
