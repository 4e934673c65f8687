// Reads marker segments; see jpeg/header.hpp. Tolerated because archives hold such streams: fill
// bytes before markers, padding after the last scan, a missing EOI, application data of any kind.
#include "jpeg/header.hpp"

#include <cstdio>

namespace scai::jpeg {
namespace {

constexpr unsigned end_of_stream = 0;
constexpr unsigned marker_sof0 = 0xc0;
constexpr unsigned marker_sof3 = 0xc3;
constexpr unsigned marker_dht = 0xc4;
constexpr unsigned marker_jpg = 0xc8;
constexpr unsigned marker_dac = 0xcc;
constexpr unsigned marker_sof15 = 0xcf;
constexpr unsigned marker_rst0 = 0xd0;
constexpr unsigned marker_rst7 = 0xd7;
constexpr unsigned marker_soi = 0xd8;
constexpr unsigned marker_eoi = 0xd9;
constexpr unsigned marker_sos = 0xda;
constexpr unsigned marker_dnl = 0xdc;
constexpr unsigned marker_dri = 0xdd;
constexpr unsigned marker_tem = 0x01;

unsigned u16(std::span<const std::uint8_t> bytes, std::size_t at) {
    return static_cast<unsigned>(bytes[at] << 8 | bytes[at + 1]);
}

std::string marker_name(unsigned marker) {
    char text[8];
    std::snprintf(text, sizeof text, "FF%02X", marker & 0xff);
    return text;
}

bool is_start_of_frame(unsigned marker) {
    return marker >= marker_sof0 && marker <= marker_sof15 && marker != marker_dht &&
           marker != marker_jpg && marker != marker_dac;
}

}  // namespace

std::string HeaderReader::here() const {
    return " (byte " + std::to_string(position_) + " of " + std::to_string(stream_.size()) + ")";
}

void HeaderReader::fail(const std::string& what) const { throw JpegError(what + here()); }

void HeaderReader::refuse(const std::string& what) const { throw JpegUnsupported(what + here()); }

unsigned HeaderReader::next_marker() {
    if (position_ >= stream_.size()) return end_of_stream;
    if (stream_[position_] != 0xff) fail("no marker where one must be");
    std::size_t at = position_;
    while (at < stream_.size() && stream_[at] == 0xff) ++at;
    if (at == stream_.size()) {
        position_ = at;
        return end_of_stream;
    }
    if (stream_[at] == 0) fail("no marker where one must be");
    position_ = at + 1;
    return stream_[at];
}

std::span<const std::uint8_t> HeaderReader::segment(const char* name) {
    if (stream_.size() - position_ < 2) fail(std::string("stream ends in ") + name);
    const std::size_t length = u16(stream_, position_);
    if (length < 2) fail(std::string("impossible length of ") + name);
    if (stream_.size() - position_ < length) fail(std::string("stream ends in ") + name);
    const auto body = stream_.subspan(position_ + 2, length - 2);
    position_ += length;
    return body;
}

// True when the marker was one that may stand before a frame or a scan.
bool HeaderReader::read_table_or_other(unsigned marker) {
    if (marker == marker_dht) {
        read_huffman_tables();
        return true;
    }
    if (marker == marker_dri) {
        read_restart_interval();
        return true;
    }
    if (marker == marker_tem || (marker >= marker_rst0 && marker <= marker_rst7)) return true;
    const bool has_segment = marker == 0xdb || marker == marker_dac || marker == marker_dnl ||
                             marker == 0xfe || (marker >= 0xe0 && marker <= 0xef);
    if (has_segment) segment("a marker segment");
    return has_segment;
}

void HeaderReader::read_frame() {
    if (next_marker() != marker_soi) {
        position_ = 0;
        fail("not a JPEG stream: it does not begin with FFD8");
    }
    for (;;) {
        const unsigned marker = next_marker();
        if (marker == marker_sof3) return read_start_of_frame();
        if (is_start_of_frame(marker)) {
            refuse("not JPEG Lossless with Huffman codes (SOF3) but " + marker_name(marker));
        }
        if (marker == end_of_stream) fail("stream ends before the frame header");
        if (!read_table_or_other(marker)) {
            fail("marker " + marker_name(marker) + " before the frame header");
        }
    }
}

bool HeaderReader::read_scan() {
    for (;;) {
        const unsigned marker = next_marker();
        if (marker == marker_sos) {
            read_start_of_scan();
            return true;
        }
        if (marker == end_of_stream || marker == marker_eoi) return false;
        if (is_start_of_frame(marker)) fail("a second frame header");
        if (!read_table_or_other(marker)) fail("unexpected marker " + marker_name(marker));
    }
}

void HeaderReader::read_start_of_frame() {
    const auto body = segment("the frame header");
    if (body.size() < 6) fail("frame header is too short");
    frame_.precision = body[0];
    frame_.rows = u16(body, 1);
    frame_.columns = u16(body, 3);
    frame_.components = body[5];
    if (frame_.precision < 2 || frame_.precision > 16) {
        fail("precision " + std::to_string(frame_.precision) + " is outside 2 to 16");
    }
    if (frame_.rows == 0) refuse("number of rows is left open (DNL)");
    if (frame_.columns == 0) fail("frame header without columns");
    if (frame_.components == 0 || frame_.components > components_max) {
        refuse(std::to_string(frame_.components) + " components; 1 to 4 are decoded");
    }
    if (body.size() != 6 + std::size_t{3} * frame_.components) {
        fail("frame header of a wrong length");
    }
    for (unsigned index = 0; index < frame_.components; ++index) {
        frame_.identifiers[index] = body[6 + std::size_t{3} * index];
        if (body[7 + std::size_t{3} * index] != 0x11) frame_.unit_sampling = false;
        for (unsigned other = 0; other < index; ++other) {
            if (frame_.identifiers[other] == frame_.identifiers[index]) {
                fail("component named twice");
            }
        }
    }
    // A single component's sampling factors change nothing (T.81 A.2.2).
    if (frame_.components > 1 && !frame_.unit_sampling) {
        refuse("subsampled components are not decoded");
    }
}

void HeaderReader::read_start_of_scan() {
    const auto body = segment("the scan header");
    if (body.empty()) fail("scan header is too short");
    scan_ = Scan{};
    scan_.components = body[0];
    if (scan_.components == 0 || scan_.components > frame_.components) {
        fail("scan of " + std::to_string(scan_.components) + " components in a frame of " +
             std::to_string(frame_.components));
    }
    if (body.size() != 4 + std::size_t{2} * scan_.components) fail("scan header of a wrong length");
    for (unsigned index = 0; index < scan_.components; ++index) {
        const unsigned identifier = body[1 + std::size_t{2} * index];
        unsigned component = 0;
        while (component < frame_.components && frame_.identifiers[component] != identifier) {
            ++component;
        }
        if (component == frame_.components) fail("scan of a component that the frame has not");
        for (unsigned other = 0; other < index; ++other) {
            if (scan_.component[other] == component) fail("component twice in a scan");
        }
        scan_.component[index] = static_cast<std::uint8_t>(component);
        const unsigned table = body[2 + std::size_t{2} * index] >> 4;
        if (table >= tables_.size() || !tables_[table].present()) {
            fail("scan without its Huffman table");
        }
        if (!tables_[table].lossless()) fail("Huffman table with categories above 16");
        scan_.table[index] = static_cast<std::uint8_t>(table);
    }
    const std::size_t tail = 1 + std::size_t{2} * scan_.components;
    scan_.predictor = body[tail];
    scan_.point_transform = body[tail + 2] & 0x0f;
    if (scan_.predictor < 1 || scan_.predictor > 7) {
        fail("predictor " + std::to_string(scan_.predictor) + " is outside 1 to 7");
    }
    if (scan_.point_transform >= frame_.precision) {
        fail("point transform is not below the precision");
    }
}

void HeaderReader::read_huffman_tables() {
    auto body = segment("a Huffman table");
    while (!body.empty()) {
        if (body.size() < 17) fail("Huffman table is too short");
        const unsigned kind = body[0] >> 4;
        const unsigned index = body[0] & 0x0f;
        const auto counts = body.subspan<1, 16>();
        std::size_t total = 0;
        for (const std::uint8_t count : counts) total += count;
        if (body.size() < 17 + total) fail("Huffman table is too short");
        // Class 1 belongs to the DCT processes; it can lie here unused.
        if (kind > 1 || index >= tables_.size()) {
            fail("Huffman table of an unknown class or number");
        }
        if (kind == 0) tables_[index].build(counts, body.subspan(17, total));
        body = body.subspan(17 + total);
    }
}

void HeaderReader::read_restart_interval() {
    const auto body = segment("the restart interval");
    if (body.size() != 2) fail("restart interval of a wrong length");
    restart_interval_ = u16(body, 0);
}

}  // namespace scai::jpeg
