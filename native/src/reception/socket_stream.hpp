// A plain socket as a stream of bytes. The descriptor stays its owner's.
#pragma once

#include <sys/socket.h>

#include "base/base.hpp"
#include "base/byte_stream.hpp"

namespace scai {

class SocketStream final : public ByteStream {
public:
    explicit SocketStream(int descriptor) noexcept : descriptor_(descriptor) {}

    void begin_turn(std::size_t) override {}
    int descriptor() const noexcept override { return descriptor_; }

    // All parts at once, so that the kernel itself puts each fragment into its place. Whatever
    // comes behind a short read, bytes or the end, makes the socket readable again.
    Reading read(std::span<const iovec> parts) override {
        std::size_t room = 0;
        for (const iovec& part : parts) room += part.iov_len;
        msghdr message{};
        message.msg_iov = const_cast<iovec*>(parts.data());
        message.msg_iovlen = parts.size();
        while (true) {
            const ssize_t got = ::recvmsg(descriptor_, &message, MSG_DONTWAIT);
            if (got == 0) return {Reading::Kind::end};
            if (got > 0) {
                const auto count = static_cast<std::size_t>(got);
                return {Reading::Kind::bytes, count, count < room};
            }
            if (errno == EINTR) continue;
            if (errno != EAGAIN) judge_failure(errno, "receiving");
            return {Reading::Kind::none};
        }
    }

    std::size_t send(std::span<const std::byte> data) override {
        while (true) {
            const ssize_t put =
                ::send(descriptor_, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (put >= 0) return static_cast<std::size_t>(put);
            if (errno == EINTR) continue;
            if (errno != EAGAIN) judge_failure(errno, "sending");
            return 0;
        }
    }

private:
    int descriptor_;
};

}  // namespace scai
