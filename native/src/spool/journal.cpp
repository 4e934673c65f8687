// Writing, rotating and recovering a journal. See journal_format.hpp for the format.
#include "spool/journal.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <deque>

#include "base/checksum.hpp"
#include "base/clock.hpp"
#include "base/exact_read.hpp"
#include "spool/journal_reader.hpp"
#include "spool/journal_repair.hpp"

namespace scai {

namespace {

constexpr std::uint64_t poll_ms = 10;
constexpr std::uint64_t prepared_at = 4;  // the next segment is made when this part of one is full
constexpr std::array<std::byte, page_bytes> zeros{};

void sleep_ms(std::uint64_t milliseconds) {
    const timespec wait{static_cast<time_t>(milliseconds / 1000),
                        static_cast<long>(milliseconds % 1000 * 1'000'000)};
    ::nanosleep(&wait, nullptr);
}

void append_bytes(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

int pwritev_exact(int descriptor, std::vector<iovec>& parts, std::uint64_t offset) {
    std::size_t first = 0;
    while (first < parts.size()) {
        const auto count = static_cast<int>(std::min<std::size_t>(parts.size() - first, IOV_MAX));
        ssize_t put =
            ::pwritev(descriptor, parts.data() + first, count, static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno;
        if (put == 0) return ENOSPC;
        offset += static_cast<std::uint64_t>(put);
        while (first < parts.size() && static_cast<std::size_t>(put) >= parts[first].iov_len) {
            put -= static_cast<ssize_t>(parts[first].iov_len);
            ++first;
        }
        if (put > 0) {
            parts[first].iov_base = static_cast<std::byte*>(parts[first].iov_base) + put;
            parts[first].iov_len -= static_cast<std::size_t>(put);
        }
    }
    return 0;
}

}  // namespace

Journal::Journal(JournalSettings settings)
    : settings_(std::move(settings)),
      maker_(settings_.directory, settings_.segment_bytes, settings_.durable) {
    SCAI_ASSERT(settings_.segment_bytes % page_bytes == 0 && settings_.group_max > 0);
    directory_ =
        Descriptor(::open(settings_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory_) fail("opening " + settings_.directory);
    const std::string lock_path = settings_.directory + "/lock";
    lock_ = Descriptor(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock_) fail("opening " + lock_path);
    std::uint64_t waited_ms = 0;
    while (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || waited_ms >= settings_.lock_wait_ms) {
            fail("locking " + lock_path);
        }
        sleep_ms(poll_ms);
        waited_ms += poll_ms;
    }
    maker_.sweep();
    recover();
    note_.emplace(settings_.directory);
    note_->write({next_sequence_ - 1, chain_});
}

// Reads all there is, and once more after each segment that had to be mended.
void Journal::recover() {
    const JournalRepair repair(settings_.directory, settings_.segment_bytes);
    for (;;) {
        JournalReader reader(settings_.directory, 0);
        const std::uint64_t last_group = read_through(reader);
        const Diagnosis diagnosis = repair.diagnose(reader);
        damaged_ = damaged_ || diagnosis.is_damage();
        if (repair.mend(diagnosis)) continue;
        torn_found_ = reader.torn() ? 1 : 0;
        next_sequence_ = std::max(reader.next_sequence(), repair.reached().sequence + 1);
        chain_ = reader.chain();
        offset_ = reader.offset();
        if (reader.segment_first() == 0) break;
        write_again(settings_.directory + "/" + segment_name(reader.segment_first()), last_group);
        if (settings_.durable && ::fsync(directory_.get()) != 0) fail("fsync of the journal");
        break;
    }
    if (segment_) return;
    if (const int code = rotate(); code != 0) {
        throw SystemFailure(code, "making the first journal segment in " + settings_.directory);
    }
}

// Where the last records begin that may have been under one sync, all in the last segment.
std::uint64_t Journal::read_through(JournalReader& reader) {
    std::deque<std::uint64_t> last_group;
    std::uint64_t read_in = 0;
    records_found_ = 0;
    names_found_.clear();
    for (;;) {
        const auto records = reader.read(UINT64_MAX, 1024);
        if (records.empty()) break;
        records_found_ += records.size();
        for (const auto& record : records) {
            if (!record.name.empty()) names_found_.push_back(record.name);
            if (record.segment_first != read_in) last_group.clear();
            read_in = record.segment_first;
            last_group.push_back(record.offset);
            if (last_group.size() > settings_.group_max) last_group.pop_front();
        }
    }
    return read_in != reader.segment_first() || last_group.empty() ? 0 : last_group.front();
}

// Opens the segment to go on in. What a predecessor wrote last may stand in the page cache alone:
// its sync may have failed, which the kernel tells once and then takes the pages for clean. So it
// is written again before anything is promised that stands behind it.
void Journal::write_again(const std::string& path, std::uint64_t begin) {
    segment_ = Descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!segment_) fail("opening " + path);
    if (!settings_.durable) return;
    std::vector<std::byte> block(std::size_t{1} << 20);
    for (std::uint64_t at = begin / page_bytes * page_bytes; at < offset_; at += block.size()) {
        const auto part =
            std::span(block).first(std::min<std::uint64_t>(block.size(), offset_ - at));
        if (!read_exact(segment_.get(), part, at, "reading the journal's end")) break;
        std::vector<iovec> parts{{part.data(), part.size()}};
        const int code = pwritev_exact(segment_.get(), parts, at);
        if (code != 0) throw SystemFailure(code, "writing the journal's end again");
    }
    if (::fdatasync(segment_.get()) != 0) fail("fdatasync of the journal");
}

std::uint64_t Journal::record_bytes(const JournalEntry& entry) const {
    RecordHead head{};
    head.inlined = entry.name.empty() ? 1 : 0;
    head.file_bytes = entry.file_bytes;
    head.prologue_bytes = static_cast<std::uint32_t>(entry.prologue.size());
    head.attributes_bytes = static_cast<std::uint32_t>(entry.attributes.size());
    head.name_bytes = static_cast<std::uint32_t>(entry.name.size());
    return head.expected_bytes();
}

Journal::Appended Journal::append(std::span<JournalEntry> entries) {
    // As many at once as the segment has room for; usually all.
    std::size_t first = 0;
    while (first < entries.size()) {
        std::uint64_t room = segment_ ? settings_.segment_bytes - offset_ : 0;
        std::size_t last = first;
        while (last < entries.size() && record_bytes(entries[last]) <= room) {
            room -= record_bytes(entries[last]);
            ++last;
        }
        if (last == first) {
            if (record_bytes(entries[first]) > settings_.segment_bytes - page_bytes) {
                return {first, EFBIG};
            }
            if (const int code = rotate(); code != 0) return {first, code};
            continue;
        }
        if (const int code = write_group(entries.subspan(first, last - first)); code != 0) {
            return {first, code};
        }
        first = last;
    }
    return {first, 0};
}

int Journal::write_group(std::span<JournalEntry> entries) {
    text_.clear();
    std::vector<std::pair<std::size_t, std::size_t>> texts;
    std::uint32_t chain = chain_;
    std::uint64_t sequence = next_sequence_;
    std::uint64_t total = 0;
    for (JournalEntry& entry : entries) {
        RecordHead head{};
        head.magic = record_magic;
        head.chain = chain;
        head.inlined = entry.name.empty() ? 1 : 0;
        head.sequence = sequence;
        head.file_bytes = entry.file_bytes;
        head.file_crc = entry.file_crc;
        head.prologue_bytes = static_cast<std::uint32_t>(entry.prologue.size());
        head.attributes_bytes = static_cast<std::uint32_t>(entry.attributes.size());
        head.name_bytes = static_cast<std::uint32_t>(entry.name.size());
        head.record_bytes = head.expected_bytes();
        head.durable_before = next_sequence_;
        const std::size_t begin = text_.size();
        text_.resize(begin + sizeof head);
        append_bytes(text_, std::as_bytes(std::span(entry.prologue)));
        append_bytes(text_, entry.attributes);
        append_bytes(text_, std::as_bytes(std::span(entry.name)));
        head.crc = checksum_of(head, std::span(text_).subspan(begin + sizeof head));
        std::memcpy(text_.data() + begin, &head, sizeof head);
        text_.resize(begin + head.text_bytes());
        texts.emplace_back(begin, head.text_bytes());
        chain = head.crc;
        entry.sequence = sequence++;
        total += head.record_bytes;
    }
    // The addresses are taken only now that text_ grows no more.
    std::vector<iovec> parts;
    for (std::size_t index = 0; index < entries.size(); ++index) {
        std::uint64_t written = texts[index].second;
        parts.push_back({text_.data() + texts[index].first, texts[index].second});
        if (entries[index].name.empty()) {
            const auto bytes = entries[index].bytes;
            // iovec has no const form; pwritev does not write to it.
            parts.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});
            written += bytes.size();
        }
        const std::uint64_t padding = align_up(written, record_alignment) - written;
        if (padding > 0) parts.push_back({const_cast<std::byte*>(zeros.data()), padding});
    }
    // Whole pages: what is not in the page cache need not be read to be written into. The next
    // group is written over these zeros.
    const std::uint64_t end = offset_ + total;
    if (const std::uint64_t rest = align_up(end, page_bytes) - end; rest > 0) {
        parts.push_back({const_cast<std::byte*>(zeros.data()), rest});
    }
    // From here on a restart may find it, whatever becomes of it; until something durable stands
    // in its place.
    refused_ = true;
    if (const int code = pwritev_exact(segment_.get(), parts, offset_); code != 0) return code;
    if (settings_.durable && ::fdatasync(segment_.get()) != 0) return errno;
    refused_ = false;
    offset_ += total;
    next_sequence_ = sequence;
    chain_ = chain;
    note_->write({next_sequence_ - 1, chain_});
    return 0;
}

// Zeros where the first of them begins: the reader comes no further.
int Journal::void_refused() {
    if (!refused_) return 0;
    SCAI_ASSERT(segment_);
    const std::uint64_t count = align_up(offset_ + 1, page_bytes) - offset_;
    std::vector<iovec> parts{{const_cast<std::byte*>(zeros.data()), count}};
    if (const int code = pwritev_exact(segment_.get(), parts, offset_); code != 0) return code;
    if (settings_.durable && ::fdatasync(segment_.get()) != 0) return errno;
    refused_ = false;
    return 0;
}

// Goes on in a fresh segment: a recycled one, one made ahead, a new one while there may be more, or
// waits for the reader.
int Journal::rotate() try {
    // What was refused must not come to light at the end of a segment that is left for good.
    if (const int code = void_refused(); code != 0) return code;
    std::uint64_t waited_ms = 0;
    for (;;) {
        const bool making = maker_.under_way();  // asked first: it may be done before we look
        std::vector<std::string> free;
        const auto segments = list_segments(settings_.directory, &free);
        while (!free.empty() && !is_whole(free.back())) free.pop_back();
        if (!free.empty()) return adopt_free_segment(free.back());
        if (making) {
            maker_.finish();
            continue;
        }
        if (segments.size() < settings_.segments_max) {
            if (const int code = maker_.make(next_free_name()); code != 0) return code;
            continue;
        }
        if (waited_ms >= settings_.wait_ms_max) return EAGAIN;
        sleep_ms(poll_ms);
        waited_ms += poll_ms;
    }
} catch (const SystemFailure& failure) {  // the directory could not be looked at
    return failure.code();
}

// One that was cut short is no segment any more.
bool Journal::is_whole(const std::string& free) const {
    const std::string path = settings_.directory + "/" + free;
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) fail("looking at " + path);
    if (static_cast<std::uint64_t>(status.st_size) == settings_.segment_bytes) return true;
    if (::unlink(path.c_str()) != 0) fail("removing " + path);
    return false;
}

// What fails here is met again, and answered, by the group that needs the segment.
void Journal::prepare() try {
    if (prepared_ || offset_ < settings_.segment_bytes / prepared_at) return;
    prepared_ = true;  // once a segment: looking costs as much as a record
    std::vector<std::string> free;
    const auto segments = list_segments(settings_.directory, &free);
    if (free.empty() && segments.size() < settings_.segments_max) maker_.begin(next_free_name());
} catch (const SystemFailure&) {
    prepared_ = false;
}

// Above every sequence in use, and never the name of another free one.
std::string Journal::next_free_name() {
    return free_segment_name((next_sequence_ << 8 | 0xFF) + created_++);
}

int Journal::adopt_free_segment(const std::string& name) {
    const std::string from = settings_.directory + "/" + name;
    const std::string to = settings_.directory + "/" + segment_name(next_sequence_);
    Descriptor file(::open(from.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file) return errno;
    SegmentHeader header{};
    header.magic = segment_magic;
    header.layout = journal_layout;
    header.first_sequence = next_sequence_;
    header.segment_bytes = settings_.segment_bytes;
    header.chain = chain_;
    header.crc = checksum_of(header);
    std::array<std::byte, page_bytes> page{};
    std::memcpy(page.data(), &header, sizeof header);
    std::vector<iovec> parts{{page.data(), page.size()}};
    if (const int code = pwritev_exact(file.get(), parts, 0); code != 0) return code;
    if (settings_.durable && ::fdatasync(file.get()) != 0) return errno;
    // If anything fails from here on the new segment may have its name: a reader goes on there, so
    // nothing may be written to the old one any more.
    segment_.reset();
    if (::rename(from.c_str(), to.c_str()) != 0) return errno;
    if (settings_.durable && ::fsync(directory_.get()) != 0) return errno;
    segment_ = std::move(file);
    offset_ = page_bytes;
    prepared_ = false;
    return 0;
}

}  // namespace scai
