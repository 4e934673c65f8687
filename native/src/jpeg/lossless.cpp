// See jpeg/lossless.hpp: walks the scans and their restart intervals.
#include "jpeg/lossless.hpp"

#include "jpeg/entropy.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace scai::jpeg {
namespace {

// Data behind the last sample of an interval that a check lets pass: encoders that round up.
constexpr std::size_t left_over_bytes_max = 8;

// Kept by each thread that ever decoded: fresh pages for every frame would cost a twentieth of it.
Workspace& workspace() {
    static thread_local const std::unique_ptr<Workspace> space{new Workspace};
    return *space;
}

void check_agreement(const Frame& frame, const Expected& expected, std::size_t stream_bytes) {
    const auto differ = [](const char* what, unsigned is, unsigned should) {
        throw JpegError(std::string(what) + " of the stream is " + std::to_string(is) +
                        ", of the data set " + std::to_string(should));
    };
    if (frame.rows != expected.rows) differ("number of rows", frame.rows, expected.rows);
    if (frame.columns != expected.columns) {
        differ("number of columns", frame.columns, expected.columns);
    }
    if (frame.components != expected.samples) {
        differ("number of components", frame.components, expected.samples);
    }
    if (frame.precision > expected.bits_allocated) {
        differ("precision", frame.precision, expected.bits_allocated);
    }
    if (frame.samples() / 8 > stream_bytes) {
        throw JpegError(std::to_string(stream_bytes) + " bytes cannot hold " +
                        std::to_string(frame.samples()) + " samples");
    }
}

class StreamDecoder {
public:
    StreamDecoder(std::span<const std::uint8_t> stream, Image image)
        : stream_(stream), image_(image), header_(stream) {
        header_.read_frame();
    }

    const Frame& frame() const { return header_.frame(); }

    Validation run(bool strict) {
        unsigned missing = (1u << frame().components) - 1;
        report_.frame = frame();
        while (missing != 0) {
            if (!header_.read_scan()) {
                throw JpegError("the stream ends before the last scan (byte " +
                                std::to_string(header_.position()) + " of " +
                                std::to_string(stream_.size()) + ")");
            }
            const Scan& scan = header_.scan();
            for (unsigned index = 0; index < scan.components; ++index) {
                const unsigned bit = 1u << scan.component[index];
                if ((missing & bit) == 0) throw JpegError("a component in two scans");
                missing &= ~bit;
            }
            run_scan(scan, strict);
        }
        return report_;
    }

private:
    void run_scan(const Scan& scan, bool strict) {
        std::array<HuffmanTable*, components_max> tables{};
        for (unsigned index = 0; index < scan.components; ++index) {
            tables[index] = &header_.table(scan.table[index]);
        }
        EntropyDecoder decoder(workspace(), {tables.data(), scan.components});
        RowBuilder rows(frame(), scan, image_);
        SegmentReader reader(stream_, header_.position());
        const unsigned interval = rows_per_interval();
        for (unsigned row = 0; row < frame().rows; row += interval) {
            if (row > 0 && !reader.pass_restart((row / interval - 1) % 8)) {
                fail(rows, reader, "restart marker is missing or out of order");
            }
            run_interval(decoder, reader, rows, std::min(interval, frame().rows - row), strict);
        }
        header_.seek(reader.position());
        report_.predictor = scan.predictor;
        report_.point_transform = scan.point_transform;
        report_.samples_out_of_range += rows.out_of_range();
    }

    void run_interval(EntropyDecoder& decoder, SegmentReader& reader, RowBuilder& rows,
                      unsigned row_count, bool strict) {
        const std::uint64_t count =
            std::uint64_t{row_count} * frame().columns * header_.scan().components;
        std::size_t left_over = 0;
        try {
            left_over = decoder.decode_interval(reader, count, rows);
        } catch (const JpegError& error) {
            fail(rows, reader, error.what());
        }
        ++report_.intervals;
        // What stands before the stream's end, and not before a marker, is padding.
        const bool before_marker = reader.position() < stream_.size();
        if (strict && before_marker && left_over > left_over_bytes_max) {
            fail(rows, reader, std::to_string(left_over) + " bytes of data are left over");
        }
    }

    // T.81 H.1.1: a restart interval is a whole number of rows.
    unsigned rows_per_interval() const {
        const unsigned interval = header_.restart_interval();
        if (interval == 0) return frame().rows;
        if (interval % frame().columns != 0) {
            throw JpegUnsupported("restart interval " + std::to_string(interval) +
                            " is not a whole number of rows of " + std::to_string(frame().columns));
        }
        return interval / frame().columns;
    }

    [[noreturn]] void fail(const RowBuilder& rows, const SegmentReader& reader,
                           const std::string& what) const {
        const std::uint64_t pixel = rows.taken() / header_.scan().components;
        throw JpegError(what + " (row " + std::to_string(pixel / frame().columns) + ", column " +
                        std::to_string(pixel % frame().columns) + ", before byte " +
                        std::to_string(reader.position()) + " of " +
                        std::to_string(stream_.size()) + ")");
    }

    std::span<const std::uint8_t> stream_;
    Image image_;
    HeaderReader header_;
    Validation report_;
};

}  // namespace

std::size_t frame_bytes(const Expected& expected) {
    if (expected.bits_allocated != 8 && expected.bits_allocated != 16) {
        throw JpegError("bits allocated is " + std::to_string(expected.bits_allocated) +
                        "; 8 and 16 are decoded");
    }
    const auto fits = [](unsigned value, unsigned most) { return value >= 1 && value <= most; };
    if (!fits(expected.rows, 65535) || !fits(expected.columns, 65535) ||
        !fits(expected.samples, components_max)) {
        throw JpegError("rows and columns are 1 to 65535, samples per pixel 1 to 4");
    }
    return std::size_t{expected.rows} * expected.columns * expected.samples *
           (expected.bits_allocated / 8);
}

void check_header(std::span<const std::uint8_t> stream, const Expected& expected) {
    HeaderReader header(stream);
    header.read_frame();
    check_agreement(header.frame(), expected, stream.size());
}

void decode(std::span<const std::uint8_t> stream, const Expected& expected,
            std::span<std::uint8_t> image) {
    if (image.size() != frame_bytes(expected)) {
        throw JpegError("the room for the frame has a wrong size");
    }
    StreamDecoder decoder(stream, {image, expected.bits_allocated / 8});
    check_agreement(decoder.frame(), expected, stream.size());
    decoder.run(false);
}

void decode_frames(std::span<const std::span<const std::uint8_t>> streams, const Expected& expected,
                   std::span<std::uint8_t> images, unsigned threads) {
    const std::size_t bytes = frame_bytes(expected);
    if (images.size() / bytes != streams.size() || images.size() % bytes != 0) {
        throw JpegError("the room for the frames has a wrong size");
    }
    std::atomic<std::size_t> next{0};
    std::mutex guard;
    std::size_t failed = streams.size();
    std::exception_ptr error;
    const auto work = [&] {
        for (std::size_t index = next++; index < streams.size(); index = next++) {
            try {
                decode(streams[index], expected, images.subspan(index * bytes, bytes));
            } catch (...) {
                const std::lock_guard lock(guard);
                next = streams.size();
                if (index >= failed) continue;
                failed = index;
                error = std::current_exception();
            }
        }
    };
    {
        std::vector<std::jthread> others;
        const std::size_t most = std::min<std::size_t>(threads, streams.size());
        try {
            for (std::size_t number = 1; number < most; ++number) others.emplace_back(work);
        } catch (const std::system_error&) {
            // The system gives no more threads: those there are do all of it.
        }
        work();
    }
    if (!error) return;
    const std::string where = "frame " + std::to_string(failed + 1) + ": ";
    try {
        std::rethrow_exception(error);
    } catch (const JpegUnsupported& caught) {
        throw JpegUnsupported(where + caught.what());
    } catch (const JpegError& caught) {
        throw JpegError(where + caught.what());
    }
}

Validation validate(std::span<const std::uint8_t> stream) {
    StreamDecoder decoder(stream, {});
    const Frame& frame = decoder.frame();
    check_agreement(frame, {frame.rows, frame.columns, frame.components, 16}, stream.size());
    return decoder.run(true);
}

}  // namespace scai::jpeg
