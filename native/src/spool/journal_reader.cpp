// Reading and recycling segments; placing inline instances. See journal_format.hpp for the format.
#include "spool/journal_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <charconv>
#include <cstring>
#include <tuple>

#include "base/checksum.hpp"
#include "base/directory_names.hpp"
#include "base/exact_read.hpp"

namespace scai {

namespace {

// Records of one read() share a buffer; a batch ends when it is this full.
constexpr std::uint64_t batch_bytes = 8u << 20;

std::string hexadecimal(std::uint64_t value) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
    return text;
}

constexpr const char* reading = "reading the journal";

void write_exact(int descriptor, const std::byte* from, std::size_t count,
                 const std::string& path) {
    while (count > 0) {
        const ssize_t put = ::write(descriptor, from, count);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) fail("writing " + path);
        if (put == 0) throw SystemFailure(ENOSPC, "writing " + path);
        from += put;
        count -= static_cast<std::size_t>(put);
    }
}

}  // namespace

std::string segment_name(std::uint64_t first_sequence) {
    return hexadecimal(first_sequence) + ".wal";
}

std::string free_segment_name(std::uint64_t first_sequence) {
    return "free-" + hexadecimal(first_sequence) + ".wal";
}

std::vector<SegmentName> list_segments(const std::string& directory,
                                       std::vector<std::string>* free) {
    std::vector<SegmentName> segments;
    for (const std::string& name : names_in(directory)) {
        if (!name.ends_with(".wal")) continue;
        if (name.starts_with("free-")) {
            if (free != nullptr) free->emplace_back(name);
            continue;
        }
        std::uint64_t first = 0;
        const auto [end, error] =
            std::from_chars(name.data(), name.data() + name.size(), first, 16);
        if (error == std::errc{} && end == name.data() + 16 && name.size() == 20) {
            segments.push_back({first, name});
        }
    }
    std::sort(segments.begin(), segments.end(),
              [](const auto& a, const auto& b) { return a.first_sequence < b.first_sequence; });
    return segments;
}

std::uint32_t checksum_of(const SegmentHeader& header) {
    const auto all = std::as_bytes(std::span(&header, 1));
    return crc32c(all.subspan(offsetof(SegmentHeader, first_sequence)));
}

bool holds(const SegmentHeader& header, std::uint64_t first_sequence) {
    return header.magic == segment_magic && header.layout == journal_layout &&
           header.crc == checksum_of(header) && header.first_sequence == first_sequence;
}

std::uint32_t checksum_of(const RecordHead& head, std::span<const std::byte> text) {
    const auto all = std::as_bytes(std::span(&head, 1));
    return crc32c(text, crc32c(all.subspan(offsetof(RecordHead, chain))));
}

JournalReader::JournalReader(std::string directory, std::uint64_t next_sequence)
    : directory_(std::move(directory)) {
    const auto segments = list_segments(directory_, nullptr);
    // The newest segment that begins at or before the wanted record; one whose header is not whole
    // was being made when the power went and holds nothing.
    bool opened = false;
    if (next_sequence == 0) {
        for (const auto& segment : segments) {
            opened = open_segment(segment.first_sequence, segment.name);
            if (opened) break;
        }
    } else {
        for (auto segment = segments.rbegin(); segment != segments.rend() && !opened; ++segment) {
            if (segment->first_sequence <= next_sequence) {
                opened = open_segment(segment->first_sequence, segment->name);
            }
        }
    }
    if (!opened) {
        next_sequence_ = std::max<std::uint64_t>(next_sequence, 1);
        return;
    }
    refresh();
    if (next_sequence != 0) seek(next_sequence);
}

// A gap that has the wanted number inside is read as a whole.
void JournalReader::seek(std::uint64_t sequence) {
    while (next_sequence_ < sequence) {
        const auto before = std::tuple(next_sequence_, offset_, chain_);
        if (!enter_next_segment() && !read_record(nullptr)) break;
        used_ = 0;
        if (next_sequence_ > sequence) {
            std::tie(next_sequence_, offset_, chain_) = before;
            break;
        }
    }
}

void JournalReader::refresh() {
    starts_.clear();
    for (const auto& segment : list_segments(directory_, nullptr))
        starts_.push_back(segment.first_sequence);
}

bool JournalReader::open_segment(std::uint64_t first_sequence, const std::string& name) {
    const std::string path = directory_ + "/" + name;
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        if (errno == ENOENT) return false;
        fail("opening " + path);
    }
    SegmentHeader header{};
    if (!read_exact(file.get(), std::as_writable_bytes(std::span(&header, 1)), 0, reading))
        return false;
    if (!holds(header, first_sequence)) return false;
    segment_ = std::move(file);
    segment_first_ = first_sequence;
    segment_bytes_ = header.segment_bytes;
    next_sequence_ = first_sequence;
    chain_ = header.chain;
    offset_ = page_bytes;
    return true;
}

// The segment that begins with the wanted record, if there is one: its predecessor ends here,
// whatever lies behind. Looked up in the list made by refresh(), not on the disk: this runs once a
// record.
bool JournalReader::enter_next_segment() {
    if (segment_) {
        if (next_sequence_ == segment_first_) return false;
        if (!std::binary_search(starts_.begin(), starts_.end(), next_sequence_)) return false;
        return open_segment(next_sequence_, segment_name(next_sequence_));
    }
    for (const std::uint64_t first : starts_) {
        if (open_segment(first, segment_name(first))) return true;
    }
    return false;
}

bool JournalReader::read_record(std::vector<JournalRecord>* into) {
    torn_ = false;
    RecordHead head{};
    if (!segment_ || offset_ + sizeof head > segment_bytes_ ||
        !read_exact(segment_.get(), std::as_writable_bytes(std::span(&head, 1)), offset_,
                    reading)) {
        return false;
    }
    if (head.magic != record_magic || head.sequence != next_sequence_ || head.chain != chain_)
        return false;
    torn_ = true;
    if (head.text_bytes() > record_text_bytes_max || head.file_bytes > (std::uint64_t{1} << 62) ||
        head.record_bytes != head.expected_bytes() ||
        head.record_bytes > segment_bytes_ - offset_ ||
        (head.is_gap() && (head.file_bytes == 0 || head.file_bytes > gap_max))) {
        return false;
    }
    const std::uint64_t begin = used_;
    bytes_.resize(std::max<std::size_t>(bytes_.size(), begin + head.record_bytes));
    std::byte* const record = bytes_.data() + begin;
    if (!read_exact(segment_.get(), {record, head.record_bytes}, offset_, reading)) return false;
    const std::uint64_t text =
        std::uint64_t{head.prologue_bytes} + head.attributes_bytes + head.name_bytes;
    if (head.crc != checksum_of(head, {record + sizeof head, text})) return false;
    const std::uint64_t inline_at = begin + head.text_bytes();
    if (head.inlined != 0 && head.file_crc != crc32c({bytes_.data() + inline_at, head.file_bytes}))
        return false;
    torn_ = false;
    if (into != nullptr) {
        const char* at = reinterpret_cast<const char*>(record) + sizeof head;
        JournalRecord out{head.last_sequence(),
                          {},
                          {},
                          {},
                          head.file_bytes,
                          head.file_crc,
                          inline_at,
                          segment_first_,
                          offset_,
                          head.is_gap() ? head.file_bytes : 0};
        out.prologue.assign(at, head.prologue_bytes);
        out.attributes.assign(at + head.prologue_bytes, head.attributes_bytes);
        out.name.assign(at + head.prologue_bytes + head.attributes_bytes, head.name_bytes);
        into->push_back(std::move(out));
    }
    used_ += head.record_bytes;
    offset_ += head.record_bytes;
    chain_ = head.crc;
    next_sequence_ = head.last_sequence() + 1;
    return true;
}

std::vector<JournalRecord> JournalReader::read(std::uint64_t last_sequence, std::size_t count) {
    std::vector<JournalRecord> records;
    used_ = 0;
    if (next_sequence_ > last_sequence) return records;
    refresh();
    while (records.size() < count && next_sequence_ <= last_sequence && used_ < batch_bytes) {
        if (enter_next_segment()) continue;
        if (!read_record(&records)) break;
    }
    return records;
}

void JournalReader::place_inline(std::uint64_t offset, std::uint64_t count, const std::string& path,
                                 bool durable) {
    if (count > bytes_.size() || offset > bytes_.size() - count) {
        throw SystemFailure(EINVAL, "inline instance is not in the batch read last");
    }
    // A file that is new needs no second name: nobody knows of it before the index does, and a
    // crash in the middle is mended from the journal. One that replaces another must do it in one
    // step.
    constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    std::string target = path;
    Descriptor file(::open(target.c_str(), flags, 0600));
    if (!file && errno == EEXIST) {
        target = path + ".new";
        ::unlink(target.c_str());
        file = Descriptor(::open(target.c_str(), flags, 0600));
    }
    if (!file) fail("creating " + target);
    try {
        write_exact(file.get(), bytes_.data() + offset, count, target);
        if (durable && ::fdatasync(file.get()) != 0) fail("fdatasync of " + target);
        if (const int code = file.reset(); code != 0)
            throw SystemFailure(code, "closing " + target);
        if (target != path && ::rename(target.c_str(), path.c_str()) != 0)
            fail("renaming " + target);
    } catch (const SystemFailure&) {
        ::unlink(target.c_str());
        throw;
    }
}

std::size_t JournalReader::release(std::uint64_t before_sequence) {
    const auto segments = list_segments(directory_, nullptr);
    std::size_t released = 0;
    for (std::size_t index = 0; index + 1 < segments.size(); ++index) {
        if (segments[index + 1].first_sequence > before_sequence) break;
        if (segments[index].first_sequence == segment_first_ &&
            next_sequence_ < segments[index + 1].first_sequence)
            break;
        const std::string from = directory_ + "/" + segments[index].name;
        const std::string to = directory_ + "/" + free_segment_name(segments[index].first_sequence);
        if (::rename(from.c_str(), to.c_str()) != 0) fail("releasing " + from);
        ++released;
    }
    return released;
}

}  // namespace scai
