// Telling the cases of journal_repair.hpp apart, and mending them.
#include "spool/journal_repair.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <cstring>
#include <span>

#include "base/exact_read.hpp"
#include "spool/journal_damage.hpp"
#include "spool/journal_rewriter.hpp"

namespace scai {

namespace {

std::optional<SegmentHeader> header_of(const std::string& directory, const SegmentName& segment) {
    const std::string path = directory + "/" + segment.name;
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) fail("opening " + path);
    SegmentHeader header{};
    if (!read_exact(file.get(), std::as_writable_bytes(std::span(&header, 1)), 0,
                    "reading a journal segment") ||
        !holds(header, segment.first_sequence)) {
        return std::nullopt;
    }
    return header;
}

bool is_cut(const std::string& path, std::uint64_t bytes) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) fail("looking at " + path);
    return static_cast<std::uint64_t>(status.st_size) < bytes;
}

// Which one of them reading could not get through, or has ended in.
std::size_t ended_in(const std::string& directory, const std::vector<SegmentName>& segments,
                     const JournalReader& reader) {
    if (!header_of(directory, segments.front())) return 0;  // reading began behind it
    const auto next = std::ranges::find_if(
        segments, [&](const auto& one) { return one.first_sequence > reader.segment_first(); });
    const auto number = static_cast<std::size_t>(next - segments.begin());
    const bool is_entered =
        next != segments.end() && next->first_sequence <= reader.next_sequence();
    return is_entered ? number : number - 1;
}

}  // namespace

const char* name_of(JournalCase found) {
    switch (found) {
        case JournalCase::end: return "end";
        case JournalCase::unused_cut: return "unused_cut";
        case JournalCase::unfinished_rotation: return "unfinished_rotation";
        case JournalCase::broken_inside: return "broken_inside";
        case JournalCase::behind_reached: return "behind_reached";
        case JournalCase::cut_short: return "cut_short";
        case JournalCase::short_of_next: return "short_of_next";
        case JournalCase::head_lost: return "head_lost";
        case JournalCase::all_missing: return "all_missing";
    }
    return "unknown";
}

Diagnosis JournalRepair::diagnose(const JournalReader& reader) const {
    const auto segments = list_segments(directory_, nullptr);
    Diagnosis diagnosis{};
    if (segments.empty()) {
        if (reached_.sequence == 0) return diagnosis;
        diagnosis.found = JournalCase::all_missing;
        diagnosis.lost.push_back({0, reached_.sequence, 0, 0});  // from which on, nobody can tell
        return diagnosis;
    }
    const std::size_t number = ended_in(directory_, segments, reader);
    diagnosis.segment = segments[number];
    const std::uint64_t first = diagnosis.segment.first_sequence;
    const bool is_read = first == reader.segment_first();
    diagnosis.byte = is_read ? reader.offset() : 0;
    diagnosis.found = is_read ? JournalCase::end : JournalCase::head_lost;
    if (number + 1 == segments.size()) {
        return of_last(std::move(diagnosis), reader, number > 0 || first == 1);
    }
    if (is_read) diagnosis.found = JournalCase::short_of_next;
    const SegmentName& next = segments[number + 1];
    diagnosis.limit = next.first_sequence;
    Reached known{};
    if (const auto header = header_of(directory_, next)) {
        known = {diagnosis.limit - 1, header->chain};
    }
    const std::uint64_t end = is_read ? reader.next_sequence() : first;
    const std::string path = directory_ + "/" + diagnosis.segment.name;
    const Survivors survivors(path, first, std::max(end, reached_.sequence), segment_bytes_);
    weigh(diagnosis, survivors, end, known);
    return diagnosis;
}

Diagnosis JournalRepair::of_last(Diagnosis diagnosis, const JournalReader& reader,
                                 bool begins_at_end) const {
    const std::uint64_t first = diagnosis.segment.first_sequence;
    const std::string path = directory_ + "/" + diagnosis.segment.name;
    const bool has_head = diagnosis.found == JournalCase::end;
    const std::uint64_t end = has_head ? reader.next_sequence() : first;
    const Survivors survivors(path, first, std::max(end, reached_.sequence), segment_bytes_);
    const std::uint64_t last = survivors.last_sequence();
    const bool behind = reached_.sequence >= end;
    const bool cut = has_head && is_cut(path, std::min(reader.segment_bytes(), segment_bytes_));
    diagnosis.limit = std::max(end, reached_.sequence + 1);
    if (!has_head) {
        if (last == 0 && !behind && begins_at_end && reader.next_sequence() >= first) {
            diagnosis.found = JournalCase::unfinished_rotation;
            return diagnosis;
        }
        diagnosis.limit = std::max(diagnosis.limit, last + 1);
    } else if (survivors.durable_before(end) > end) {
        diagnosis.found = JournalCase::broken_inside;
        diagnosis.limit = std::max(diagnosis.limit, last + 1);
    } else if (behind) {
        diagnosis.found = JournalCase::behind_reached;
    } else if (cut && reached_.sequence + 1 == end) {
        diagnosis.found = JournalCase::unused_cut;
        return diagnosis;
    } else if (cut) {  // as many as may have stood there
        diagnosis.found = JournalCase::cut_short;
        diagnosis.limit = end + numbers_in(reader.segment_bytes() - reader.offset()) + 1;
    } else {
        return diagnosis;
    }
    weigh(diagnosis, survivors, end, reached_);
    return diagnosis;
}

// What of the numbers below the limit is there, and what is lost.
void JournalRepair::weigh(Diagnosis& diagnosis, const Survivors& survivors, std::uint64_t end,
                          const Reached& known) const {
    const std::uint64_t first = diagnosis.segment.first_sequence;
    if (diagnosis.limit - first > gap_max) {
        throw SystemFailure(EUCLEAN, "the segments in " + directory_ +
                                         " do not belong together: move strange ones away");
    }
    diagnosis.header_chain = survivors.header_chain();
    diagnosis.content.assign(survivors.content().begin(), survivors.content().end());
    std::uint64_t number = first;
    std::uint64_t byte = page_bytes;
    for (const auto& [sequence, one] : survivors.chosen(diagnosis.limit, known)) {
        const std::uint64_t last = one.head.last_sequence();
        if (sequence < number || last >= diagnosis.limit) continue;
        if (sequence > number) diagnosis.lost.push_back({number, sequence - 1, byte, one.begin});
        if (!one.whole) diagnosis.lost.push_back({sequence, sequence, one.begin, one.end()});
        if (one.whole && sequence >= end) ++diagnosis.taken;
        diagnosis.kept.emplace(sequence, one);
        number = last + 1;
        byte = one.end();
    }
    if (number < diagnosis.limit) {
        const std::uint64_t to = std::max<std::uint64_t>(byte, segment_bytes_);
        diagnosis.lost.push_back({number, diagnosis.limit - 1, byte, to});
    }
}

bool JournalRepair::mend(const Diagnosis& diagnosis) const {
    const std::string path = directory_ + "/" + diagnosis.segment.name;
    switch (diagnosis.found) {
        case JournalCase::end: return false;
        case JournalCase::unused_cut: {
            const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
            if (!file) fail("opening " + path);
            const auto bytes = static_cast<off_t>(segment_bytes_);
            if (const int code = ::posix_fallocate(file.get(), 0, bytes); code != 0) {
                throw SystemFailure(code, "making " + path + " whole");
            }
            if (::fsync(file.get()) != 0) fail("fsync of " + path);
            return true;
        }
        case JournalCase::unfinished_rotation:
            if (::unlink(path.c_str()) != 0) fail("removing " + path);
            return true;
        case JournalCase::all_missing:
            note_damage(directory_, diagnosis);
            return false;
        default: break;
    }
    note_damage(directory_, diagnosis);
    set_damage_aside(directory_, diagnosis);
    JournalRewriter rewriter(directory_, segment_bytes_, diagnosis.segment.first_sequence,
                             diagnosis.header_chain);
    std::uint64_t number = diagnosis.segment.first_sequence;
    for (const auto& [sequence, one] : diagnosis.kept) {
        if (sequence > number) rewriter.add_gap(number, sequence - number);
        rewriter.add(one, diagnosis.content);
        number = one.head.last_sequence() + 1;
    }
    if (number < diagnosis.limit) rewriter.add_gap(number, diagnosis.limit - number);
    rewriter.put();
    return true;
}

std::optional<Diagnosis> examine_journal(const std::string& directory,
                                         std::uint64_t segment_bytes) {
    JournalReader reader(directory, 0);
    while (!reader.read(UINT64_MAX, 1024).empty()) {
    }
    Diagnosis diagnosis = JournalRepair(directory, segment_bytes).diagnose(reader);
    if (!diagnosis.is_damage()) return std::nullopt;
    return diagnosis;
}

}  // namespace scai
