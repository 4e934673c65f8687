// Any bytes as JPEG Lossless frames that lie in a file in any number of fragments, sent one after
// the other through the same rooms, broken ones among them: of a whole frame the samples that the
// decoder makes of it in one piece are sent, of a broken one nothing. Input: {u8 how the frames are
// cut up, u8 which is broken and how wide a sample is, stream}.
#include <sys/mman.h>
#include <sys/socket.h>
#include <optional>

#include "outgoing/frame_sender.hpp"
#include "fuzzing.hpp"
#include "jpeg/header.hpp"

namespace {

using namespace scai;
using Bytes = std::vector<std::uint8_t>;
using Spans = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

constexpr std::size_t image_bytes_max = 48 * 1024;  // what a socket takes before anybody reads
constexpr std::size_t pdu_bytes_max = 4096;
constexpr std::byte command[2]{};

// What the data set would say, if the stream tells the truth; `wide`: 16 bits even for few.
std::optional<jpeg::Expected> expectation(const Bytes& stream, bool wide) {
    try {
        jpeg::HeaderReader header(stream);
        header.read_frame();
        const jpeg::Frame& frame = header.frame();
        return jpeg::Expected{frame.rows, frame.columns, frame.components,
                              frame.precision <= 8 && !wide ? 8u : 16u};
    } catch (const jpeg::JpegError&) {
        return std::nullopt;
    }
}

// The samples; nothing of a stream that is broken.
std::optional<Bytes> samples_of(const Bytes& stream, const jpeg::Expected& expected) {
    try {
        jpeg::check_header(stream, expected);
        Bytes image(jpeg::frame_bytes(expected));
        jpeg::decode(stream, expected, image);
        return image;
    } catch (const jpeg::JpegError&) {
        return std::nullopt;
    }
}

// Into the file from `at` on, in fragments with gaps between them.
Spans lay(int file, const Bytes& stream, fuzzing::Random& random, std::uint64_t& at) {
    Spans spans;
    for (std::size_t done = 0; done < stream.size();) {
        const std::size_t count = std::min<std::size_t>(random.below(700), stream.size() - done);
        FUZZ_CLAIM(::pwrite(file, stream.data() + done, count, static_cast<off_t>(at)) ==
                   static_cast<ssize_t>(count));
        spans.emplace_back(at, at + count);
        done += count;
        at += count + random.below(9);
    }
    return spans;
}

// The data set behind a command of one PDU.
Bytes arrived(int socket, std::size_t command_pdu) {
    std::vector<std::byte> taken;
    fuzzing::take_over(socket, taken);
    const auto* const stream = reinterpret_cast<const std::uint8_t*>(taken.data());
    Bytes data;
    for (std::size_t at = command_pdu; at < taken.size();) {
        FUZZ_CLAIM(at + 12 <= taken.size() && stream[at] == 4);
        const std::size_t length = stream[at + 4] << 8 | stream[at + 5];
        FUZZ_CLAIM(length >= 6 && length <= pdu_bytes_max && at + 6 + length <= taken.size());
        data.insert(data.end(), stream + at + 12, stream + at + 6 + length);
        at += 6 + length;
    }
    return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 2) return 0;
    const Bytes stream(input + 2, input + size);
    const auto expected = expectation(stream, (input[1] & 1) != 0);
    if (!expected || jpeg::frame_bytes(*expected) > image_bytes_max) return 0;
    const Bytes half(stream.begin(), stream.begin() + static_cast<long>(stream.size() / 2));
    const Descriptor file(::memfd_create("frames", MFD_CLOEXEC));
    fuzzing::Random random(input[0]);
    FrameSender frames(image_bytes_max);
    std::uint64_t at = 3;
    for (unsigned number = 0; number < 3; ++number) {
        const Bytes& frame = (input[1] >> (number + 1) & 1) != 0 ? half : stream;
        const Spans spans = lay(file.get(), frame, random, at);
        const auto samples = samples_of(frame, *expected);
        int pair[2];
        FUZZ_CLAIM(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        const Descriptor ours(pair[0]), theirs(pair[1]);
        const DataSetSender::Way way{ours.get(), -1, 1000};
        DataSetSender sender(3 * pdu_bytes_max);
        sender.begin(7, pdu_bytes_max, command);
        bool sent = true;
        try {
            const auto outcome = frames.send(sender, file.get(), spans, *expected, way);
            FUZZ_CLAIM(outcome == DataSetSender::Sending::sent);
        } catch (const jpeg::JpegError&) {
            sent = false;
        }
        FUZZ_CLAIM(sent == samples.has_value());
        if (sent) FUZZ_CLAIM(sender.complete(way) == DataSetSender::Sending::sent);
        const Bytes data = arrived(theirs.get(), 12 + sizeof command);
        FUZZ_CLAIM(data == samples.value_or(Bytes()));
    }
    // A file that has become shorter is told, and nothing of it is sent.
    DataSetSender sender(3 * pdu_bytes_max);
    sender.begin(7, pdu_bytes_max, command);
    const Spans beyond{{at, at + stream.size() + 1}};
    try {
        frames.send(sender, file.get(), beyond, *expected, {-1, -1, 0});
        FUZZ_CLAIM(!"a place behind the end of the file was read");
    } catch (const SystemFailure&) {
        FUZZ_CLAIM(sender.sent_bytes() == 0);
    }
    return 0;
}
