// Frames of JPEG Lossless on their way out: read, decoded and sent as samples, one frame at a time,
// in rooms that are kept from frame to frame, since fresh pages would cost as much as sending.
//
// Contract: for a frame that is broken, of a kind that is not decoded, or not what it is expected
// to be, the decoder's exception comes out (jpeg/lossless.hpp). None of its samples are with the
// sender then.
// One thread's own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "outgoing/data_set_sender.hpp"
#include "jpeg/lossless.hpp"

namespace scai {

class FrameSender {
public:
    using Spans = std::span<const std::pair<std::uint64_t, std::uint64_t>>;

    explicit FrameSender(std::size_t frame_bytes_max) : frame_bytes_max_(frame_bytes_max) {}

    // Decodes the frame whose fragments lie there in the file, and sends it by `sender`, whose
    // outcome it is. How long fragments may be together is for the caller to bound.
    DataSetSender::Sending send(DataSetSender& sender, int descriptor, Spans fragments,
                                const jpeg::Expected& expected, const DataSetSender::Way& way);

private:
    // Bytes that are overwritten before they are read, and so never cleared.
    struct Room {
        std::unique_ptr<std::uint8_t[]> bytes;
        std::size_t size = 0;

        std::span<std::uint8_t> of(std::size_t wanted);
        void shrink();
    };
    static constexpr std::size_t kept_max = 8 * 1024 * 1024;  // of each room, between frames

    std::span<const std::uint8_t> read(int descriptor, Spans fragments);

    const std::size_t frame_bytes_max_;  // decoded
    Room compressed_;
    Room decoded_;
};

}  // namespace scai
