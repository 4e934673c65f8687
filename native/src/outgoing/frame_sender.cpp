// See frame_sender.hpp.
#include "outgoing/frame_sender.hpp"

#include <string>

#include "base/exact_read.hpp"

namespace scai {

std::span<std::uint8_t> FrameSender::Room::of(std::size_t wanted) {
    if (wanted > size) {
        bytes.reset();
        size = 0;
        bytes.reset(new std::uint8_t[wanted]);
        size = wanted;
    }
    return {bytes.get(), wanted};
}

void FrameSender::Room::shrink() {
    if (size <= kept_max) return;
    bytes.reset();
    size = 0;
}

std::span<const std::uint8_t> FrameSender::read(int descriptor, Spans fragments) {
    std::uint64_t total = 0;
    for (const auto& [begin, end] : fragments) {
        SCAI_ASSERT(begin <= end);
        total += end - begin;
    }
    const auto room = compressed_.of(total);
    auto left = std::as_writable_bytes(room);
    for (const auto& [begin, end] : fragments) {
        const auto part = left.first(end - begin);
        if (!read_exact(descriptor, part, begin, "reading what is to be sent")) {
            throw SystemFailure(ENODATA, "the file is shorter than it was");
        }
        left = left.subspan(part.size());
    }
    return room;
}

DataSetSender::Sending FrameSender::send(DataSetSender& sender, int descriptor, Spans fragments,
                                         const jpeg::Expected& expected,
                                         const DataSetSender::Way& way) {
    const std::size_t frame_bytes = jpeg::frame_bytes(expected);
    if (frame_bytes > frame_bytes_max_) {
        throw jpeg::JpegError("a frame of " + std::to_string(frame_bytes) +
                              " bytes is too large decoded");
    }
    const auto stream = read(descriptor, fragments);
    // A bit holds one sample at most: a few bytes cannot ask for gigabytes.
    if (frame_bytes / 16 > stream.size()) jpeg::check_header(stream, expected);
    const auto samples = decoded_.of(frame_bytes);
    jpeg::decode(stream, expected, samples);
    const auto outcome = sender.send(std::as_bytes(samples), way);
    compressed_.shrink();
    decoded_.shrink();
    return outcome;
}

}  // namespace scai
