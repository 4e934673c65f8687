// Any bytes as a JPEG Lossless stream: no read or write out of bounds. The decoder works at several
// positions at once. A literal one, which takes one symbol after the other and predicts one sample
// after the other, must give the same, and they must agree on what is broken. Input: {u8 threads,
// stream}.
#include "fuzzing.hpp"
#include "jpeg/entropy.hpp"
#include "jpeg/lossless.hpp"

namespace {

using namespace scai::jpeg;

constexpr std::size_t image_bytes_max = 1 << 20;

// The entropy-coded segment at `position`: its bytes without stuffing; `position` moves to its end.
std::vector<std::uint8_t> plain_segment(std::span<const std::uint8_t> stream,
                                        std::size_t& position) {
    std::vector<std::uint8_t> bytes;
    while (position < stream.size()) {
        if (stream[position] != 0xff) {
            bytes.push_back(stream[position++]);
            continue;
        }
        std::size_t after = position;
        while (after < stream.size() && stream[after] == 0xff) ++after;
        if (after == stream.size() || stream[after] != 0) break;
        bytes.push_back(0xff);
        position = after + 1;
    }
    return bytes;
}

int predict(unsigned predictor, int left, int above, int corner) {
    switch (predictor) {
        case 1: return left;
        case 2: return above;
        case 3: return corner;
        case 4: return left + above - corner;
        case 5: return left + ((above - corner) >> 1);
        case 6: return above + ((left - corner) >> 1);
        default: return (left + above) >> 1;
    }
}

// All of one frame, 16 bits a sample; false if it is broken. Literal, and slow.
class Literal {
public:
    explicit Literal(std::span<const std::uint8_t> stream) : stream_(stream), header_(stream) {}

    bool decode() {
        header_.read_frame();
        const Frame& frame = header_.frame();
        samples.assign(frame.samples(), 0);
        unsigned missing = (1u << frame.components) - 1;
        while (missing != 0) {
            if (!header_.read_scan()) return false;
            for (unsigned index = 0; index < header_.scan().components; ++index) {
                const unsigned bit = 1u << header_.scan().component[index];
                if ((missing & bit) == 0) return false;
                missing &= ~bit;
            }
            if (!decode_scan()) return false;
        }
        return true;
    }

    std::vector<std::uint16_t> samples;

private:
    bool decode_scan() {
        const Frame& frame = header_.frame();
        const Scan& scan = header_.scan();
        const unsigned interval = header_.restart_interval();
        if (interval % frame.columns != 0) return false;
        const unsigned step = interval == 0 ? frame.rows : interval / frame.columns;
        std::vector<std::uint16_t> plane(frame.samples());
        std::size_t position = header_.position();
        for (unsigned row = 0; row < frame.rows; row += step) {
            if (row > 0) {
                while (position < stream_.size() && stream_[position] == 0xff) ++position;
                if (position == stream_.size()) return false;
                if (stream_[position++] != 0xd0 + (row / step - 1) % 8) return false;
            }
            auto bytes = plain_segment(stream_, position);
            const std::size_t bits = bytes.size() * 8;
            bytes.resize(bytes.size() + 64);
            const unsigned last = std::min(row + step, frame.rows);
            if (!decode_rows(plane, bytes, bits, row, last)) return false;
        }
        header_.seek(position);
        for (std::size_t pixel = 0; pixel < std::size_t{frame.rows} * frame.columns; ++pixel) {
            for (unsigned index = 0; index < scan.components; ++index) {
                const std::size_t at = pixel * frame.components + scan.component[index];
                samples[at] = static_cast<std::uint16_t>(plane[at] << scan.point_transform);
            }
        }
        return true;
    }

    bool decode_rows(std::vector<std::uint16_t>& plane, const std::vector<std::uint8_t>& bytes,
                     std::size_t bits, unsigned first, unsigned last) {
        const Frame& frame = header_.frame();
        const Scan& scan = header_.scan();
        const std::size_t across = frame.components;
        const std::size_t down = across * frame.columns;
        std::size_t bit = 0;
        for (unsigned row = first; row < last; ++row) {
            for (unsigned column = 0; column < frame.columns; ++column) {
                for (unsigned index = 0; index < scan.components; ++index) {
                    const Symbol symbol =
                        header_.table(scan.table[index]).decode(peek(bytes.data(), bit));
                    bit += symbol.bits;
                    if (symbol.bits == 0 || bit > bits) return false;
                    const std::size_t at = row * down + column * across + scan.component[index];
                    int guess = 1 << (frame.precision - scan.point_transform - 1);
                    if (row == first) {
                        if (column > 0) guess = plane[at - across];
                    } else if (column == 0) {
                        guess = plane[at - down];
                    } else {
                        guess = predict(scan.predictor, plane[at - across], plane[at - down],
                                        plane[at - down - across]);
                    }
                    plane[at] = static_cast<std::uint16_t>(guess + symbol.difference);
                }
            }
        }
        return true;
    }

    std::span<const std::uint8_t> stream_;
    HeaderReader header_;
};

template <class Work>
bool throws_nothing(Work work) {
    try {
        return work();
    } catch (const JpegError&) {
        return false;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 1) return 0;
    // A block of exactly the stream's size: one byte too many is seen.
    const std::vector<std::uint8_t> stream(input + 1, input + size);
    Frame frame;
    if (!throws_nothing([&] {
            HeaderReader header(stream);
            header.read_frame();
            frame = header.frame();
            return true;
        })) {
        return 0;
    }
    const bool valid = throws_nothing([&] {
        const Validation report = validate(stream);
        return report.frame.rows == frame.rows;
    });
    const Expected expected{frame.rows, frame.columns, frame.components,
                            frame.precision <= 8 && (input[0] & 64) != 0 ? 8u : 16u};
    if (frame_bytes(expected) > image_bytes_max) return 0;
    std::vector<std::uint8_t> image(frame_bytes(expected));
    const bool decoded = throws_nothing([&] {
        check_header(stream, expected);
        decode(stream, expected, image);
        return true;
    });
    FUZZ_CLAIM(decoded || !valid);
    Literal literal(stream);
    const bool possible = frame.samples() / 8 <= stream.size();
    FUZZ_CLAIM((possible && throws_nothing([&] { return literal.decode(); })) == decoded);
    if (!decoded) return 0;
    for (std::size_t index = 0; index < literal.samples.size(); ++index) {
        const std::uint16_t sample = literal.samples[index];
        if (expected.bits_allocated == 8) {
            FUZZ_CLAIM(image[index] == static_cast<std::uint8_t>(sample));
        } else {
            FUZZ_CLAIM(image[index * 2] == (sample & 0xff) && image[index * 2 + 1] == sample >> 8);
        }
    }
    if ((input[0] & 63) != 1) return 0;  // threads are slow to start
    const std::vector<std::span<const std::uint8_t>> frames(3, stream);
    std::vector<std::uint8_t> images(image.size() * 3);
    decode_frames(frames, expected, images, 2);
    FUZZ_CLAIM(std::memcmp(images.data() + 2 * image.size(), image.data(), image.size()) == 0);
    return 0;
}
