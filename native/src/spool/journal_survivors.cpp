// Looking through a segment for records. See journal_survivors.hpp for which are believed.
#include "spool/journal_survivors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <algorithm>
#include <cstring>

#include "base/checksum.hpp"
#include "base/exact_read.hpp"

namespace scai {

namespace {

std::vector<std::byte> content_of(const std::string& path, std::uint64_t bytes_max) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0) fail("opening " + path);
    const auto length = static_cast<std::uint64_t>(status.st_size);
    const std::uint64_t bytes = std::min(length, bytes_max);
    std::vector<std::byte> content(static_cast<std::size_t>(bytes));
    if (!read_exact(file.get(), content, 0, "reading a damaged journal segment")) content.clear();
    return content;
}

}  // namespace

bool is_plain_name(std::string_view name) {
    return name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos &&
           !name.starts_with('.');
}

Survivors::Survivors(const std::string& path, std::uint64_t first, std::uint64_t reached,
                     std::uint64_t segment_bytes)
    : first_(first),
      limit_(std::max(first, reached) + numbers_in(segment_bytes)),
      content_(content_of(path, segment_bytes)) {
    SegmentHeader header{};
    if (content_.size() >= sizeof header) {
        std::memcpy(&header, content_.data(), sizeof header);
        has_header_ = holds(header, first);
        if (has_header_) header_chain_ = header.chain;
    }
    for (std::size_t at = page_bytes; at + sizeof(RecordHead) <= content_.size();) {
        Survivor found{};
        if (look_at(at, found)) {
            found_.emplace(found.head.sequence, found);
            if (found.head.is_gap()) limit_ += found.head.file_bytes;
            at = found.end();
        } else {
            at += record_alignment;
        }
    }
}

// What is left of the segment's earlier life has lower numbers than its name says.
bool Survivors::look_at(std::size_t begin, Survivor& found) const {
    std::memcpy(&found.head, content_.data() + begin, sizeof found.head);
    const RecordHead& head = found.head;
    if (head.magic != record_magic || head.sequence < first_ || head.sequence >= limit_ ||
        head.text_bytes() > record_text_bytes_max ||
        head.text_bytes() > content_.size() - begin ||
        head.file_bytes > gap_max || head.record_bytes != head.expected_bytes() ||
        (head.is_gap() && (head.file_bytes == 0 || head.file_bytes > gap_max / 16))) {
        return false;
    }
    const auto text = std::span(content_).subspan(
        begin + sizeof head,
        std::size_t{head.prologue_bytes} + head.attributes_bytes + head.name_bytes);
    if (head.crc != checksum_of(head, text)) return false;
    const auto name = text.last(head.name_bytes);
    if (!is_plain_name({reinterpret_cast<const char*>(name.data()), name.size()})) return false;
    found.begin = begin;
    found.whole = head.inlined == 0;
    if (head.inlined != 0 && head.record_bytes <= content_.size() - begin) {
        const auto bytes = std::span(content_).subspan(
            begin + static_cast<std::size_t>(head.text_bytes()),
            static_cast<std::size_t>(head.file_bytes));
        found.whole = head.file_crc == crc32c(bytes);
    }
    return true;
}

std::map<std::uint64_t, Survivor> Survivors::chosen(std::uint64_t limit,
                                                    const Reached& known) const {
    std::map<std::uint64_t, Survivor> chosen;
    const auto follow = [&](std::uint64_t number, auto is_next) -> const Survivor* {
        const auto [begin, end] = found_.equal_range(number);
        const auto next =
            std::find_if(begin, end, [&](const auto& one) { return is_next(one.second); });
        if (number >= limit || next == end) return nullptr;
        return &chosen.emplace(number, next->second).first->second;
    };
    if (has_header_) {  // forward, from the header on
        std::uint64_t number = first_;
        std::uint32_t chain = header_chain_;
        const auto chains = [&](const Survivor& one) { return one.head.chain == chain; };
        while (const Survivor* next = follow(number, chains)) {
            chain = next->head.crc;
            number = next->head.last_sequence() + 1;
        }
    }
    if (known.sequence != 0) {  // and back from the end
        std::uint64_t number = known.sequence;
        std::uint32_t chain = known.chain;
        const auto is_it = [&](const Survivor& one) { return one.head.crc == chain; };
        while (const Survivor* before = follow(number, is_it)) {
            chain = before->head.chain;
            if (--number < first_) break;
        }
    }
    std::map<std::uint64_t, Survivor> others;
    for (const auto& [number, one] : found_) {
        if (number >= limit || chosen.contains(number)) continue;
        const auto [other, is_new] = others.emplace(number, one);
        if (!is_new && one.head.durable_before > other->second.head.durable_before) {
            other->second = one;
        }
    }
    chosen.merge(others);
    return chosen;
}

// Records of release 0.2.0 and before say nothing of it: such a one is taken for promised itself.
std::uint64_t Survivors::durable_before(std::uint64_t end) const {
    std::uint64_t durable = 0;
    for (auto one = found_.lower_bound(end); one != found_.end(); ++one) {
        const RecordHead& head = one->second.head;
        durable = std::max(durable,
                           head.durable_before != 0 ? head.durable_before : head.sequence);
    }
    return durable;
}

}  // namespace scai
