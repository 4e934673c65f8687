// See jpeg/entropy.hpp. The window is cut into as many pieces as there are lanes. The first lane
// begins where decoding stands, the others somewhere in the middle of a symbol; but Huffman streams
// fall into step by themselves, mostly within some tens of symbols. So each lane notes where its
// first groups began. Then the true decoder, coming from the left, steps symbol by symbol until it
// stands where the lane stood once; from there on the lane's differences are the true ones. Where
// they never meet, the piece is decoded again from its true beginning: at worst everything is done
// twice.
#include "jpeg/entropy.hpp"

#include <algorithm>
#include <string>

namespace scai::jpeg {
namespace {

// Behind the last group begun, this much must be in the window: a group of slow symbols.
constexpr std::uint64_t margin_bits = group_max * symbol_bits_max + 64;
// Shorter pieces than this spend too much of themselves on falling into step.
constexpr std::uint64_t piece_bits_min = 128 * 8;

using Kernel = void (*)(const LaneTables&, Lane* const*, std::size_t);
struct Kernels {
    std::array<Kernel, lanes_max> plain;  // by the number of lanes, less one
    Kernel recording;                     // for all lanes
};

#if defined(__x86_64__)
// The same code with shifts and bit extraction that leave the flags alone: a third fewer
// instructions.
#define SCAI_JPEG_FAST_TARGET [[gnu::target("arch=x86-64-v3")]]
template <unsigned Lanes, unsigned Group, bool Uniform, bool Record>
SCAI_JPEG_FAST_TARGET void run_v3(const LaneTables& shared, Lane* const* lanes,
                                  std::size_t rounds) {
    run_groups<Lanes, Group, Uniform, Record>(shared, lanes, rounds);
}
#endif
template <unsigned Lanes, unsigned Group, bool Uniform, bool Record>
void run_any(const LaneTables& shared, Lane* const* lanes, std::size_t rounds) {
    run_groups<Lanes, Group, Uniform, Record>(shared, lanes, rounds);
}

template <unsigned Group, bool Uniform>
Kernels choose() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) {
        return {{run_v3<1, Group, Uniform, false>, run_v3<2, Group, Uniform, false>,
                 run_v3<3, Group, Uniform, false>, run_v3<4, Group, Uniform, false>},
                run_v3<lanes_max, Group, Uniform, true>};
    }
#endif
    return {{run_any<1, Group, Uniform, false>, run_any<2, Group, Uniform, false>,
             run_any<3, Group, Uniform, false>, run_any<4, Group, Uniform, false>},
            run_any<lanes_max, Group, Uniform, true>};
}

const Kernels& kernels(unsigned group, bool uniform) {
    static const std::array<Kernels, 3> same{choose<2, true>(), choose<3, true>(),
                                             choose<4, true>()};
    static const std::array<Kernels, 3> several{choose<2, false>(), choose<3, false>(),
                                                choose<4, false>()};
    return (uniform ? same : several)[group - 2];
}

bool all_equal(std::span<HuffmanTable* const> tables) {
    return std::all_of(tables.begin(), tables.end(), [&](const HuffmanTable* table) {
        return table == tables[0] || *table == *tables[0];
    });
}

// More symbols in one peek are cheaper, as long as few are too long for their share of its bits:
// one in five hundred costs as much as a smaller group.
unsigned choose_group(const HuffmanTable& table) {
    constexpr std::uint32_t share_max = 65536 / 500;
    if (table.slow_share(peek_bits / 4) <= share_max) return 4;
    return table.slow_share(peek_bits / 3) <= share_max ? 3 : 2;
}

}  // namespace

EntropyDecoder::EntropyDecoder(Workspace& workspace, std::span<HuffmanTable* const> tables)
    : space_(workspace), period_(all_equal(tables) ? 1 : static_cast<unsigned>(tables.size())),
      group_(period_ == 1 ? choose_group(*tables[0]) : period_) {
    for (unsigned index = 0; index < group_; ++index) {
        HuffmanTable* const table = tables[period_ == 1 ? 0 : index];
        table->prepare(peek_bits / group_);
        shared_.tables[index] = table;
    }
    shared_.bytes = space_.window.data();
}

std::size_t EntropyDecoder::decode_interval(SegmentReader& reader, std::uint64_t count,
                                            RowBuilder& rows) {
    position_ = 0;
    length_ = 0;
    remaining_ = count;
    phase_ = 0;
    rows_ = &rows;
    rows.begin_interval();
    while (remaining_ > 0) {
        refill(reader);
        const std::uint64_t bits = std::uint64_t{length_} * 8;
        if (bits > position_ + margin_bits) {
            run_batch(bits - margin_bits);
        } else {
            // The window is far larger than the margin, so this is the segment's end.
            finish_by_symbol();
        }
    }
    return length_ - static_cast<std::size_t>((position_ + 7) / 8) + reader.skip();
}

void EntropyDecoder::refill(SegmentReader& reader) {
    const auto done = static_cast<std::size_t>(position_ / 8);
    std::uint8_t* const window = space_.window.data();
    std::copy(window + done, window + length_, window);
    length_ -= done;
    position_ %= 8;
    length_ += reader.fill(window + length_, Workspace::window_bytes - length_);
    std::fill_n(window + length_, Workspace::padding_bytes, std::uint8_t{0});
}

// Decodes from `position_` to `usable`, or a little beyond.
void EntropyDecoder::run_batch(std::uint64_t usable) {
    const std::uint64_t span = usable - position_;
    const unsigned count = span >= piece_bits_min * lanes_max ? lanes_max : 1;
    for (unsigned index = 0; index < count; ++index) {
        lanes_[index] = Lane{position_ + span * index / count,
                             position_ + span * (index + 1) / count,
                             space_.differences[index].data(), space_.records[index].data(), false};
    }
    const std::uint64_t from = position_;
    run_lanes(count);
    const Lane& first = lanes_[0];
    position_ = first.position;
    deliver(from, space_.differences[0].data(),
            static_cast<std::size_t>(first.out - space_.differences[0].data()));
    if (first.dead) step_to_invalid();
    for (unsigned index = 1; index < count && remaining_ > 0; ++index) follow(index, usable);
}

// All lanes to their ends. The number of rounds is such that none comes to its end before the last
// one, so that the loop has nothing to check; what is left halves from call to call.
void EntropyDecoder::run_lanes(unsigned count) {
    const Kernels& kernel = kernels(group_, period_ == 1);
    bool recording = count == lanes_max;
    for (;;) {
        std::array<Lane*, lanes_max> active;
        unsigned number = 0;
        std::uint64_t rounds = recording ? Workspace::records_max : no_position;
        for (unsigned index = 0; index < count; ++index) {
            Lane& lane = lanes_[index];
            if (lane.dead || lane.position >= lane.end) continue;
            active[number++] = &lane;
            const std::uint64_t bits = lane.end - lane.position;
            rounds = std::min(rounds, (bits + peek_bits - 1) / peek_bits);
        }
        if (number == 0) return;
        (recording ? kernel.recording : kernel.plain[number - 1])(shared_, active.data(), rounds);
        recording = false;
    }
}

// `position_` stands at or behind the beginning of this lane's piece: takes over what the lane has
// from where they meet, else decodes the piece again.
void EntropyDecoder::follow(unsigned index, std::uint64_t usable) {
    Lane& lane = lanes_[index];
    std::uint16_t* const differences = space_.differences[index].data();
    const auto records = static_cast<std::size_t>(lane.record - space_.records[index].data());
    const std::size_t met = step_until_met(index, records);
    if (remaining_ == 0) return;
    const std::uint64_t from = position_;
    const std::uint16_t* first = differences + met * group_;
    if (met == records) {
        lane = Lane{position_, std::min(lane.end, usable), differences, nullptr, false};
        first = differences;
        while (!lane.dead && lane.position < lane.end) {
            Lane* const only = &lane;
            const std::uint64_t rounds = (lane.end - lane.position + peek_bits - 1) / peek_bits;
            kernels(group_, period_ == 1).plain[0](shared_, &only, rounds);
        }
    }
    position_ = lane.position;
    deliver(from, first, static_cast<std::size_t>(lane.out - first));
    if (lane.dead) step_to_invalid();
}

// Which of the lane's recorded groups begins at `position_`, after as many steps as needed;
// `records` if none does.
std::size_t EntropyDecoder::step_until_met(unsigned index, std::size_t records) {
    const std::uint32_t* const record = space_.records[index].data();
    std::size_t at = 0;
    while (at < records && remaining_ > 0) {
        if (record[at] < position_) {
            ++at;
        } else if (record[at] == position_ && phase_ == 0) {
            return at;
        } else if (!step()) {
            fail_invalid();
        }
    }
    // Whoever decodes on from here does so in whole groups.
    while (phase_ != 0 && remaining_ > 0) {
        if (!step()) fail_invalid();
    }
    return records;
}

// One symbol, delivered; false: no code begins here.
bool EntropyDecoder::step() {
    const Symbol symbol = shared_.tables[phase_]->decode(peek(shared_.bytes, position_));
    if (symbol.bits == 0) return false;
    position_ += symbol.bits;
    phase_ = phase_ + 1 == period_ ? 0 : phase_ + 1;
    deliver(position_, &symbol.difference, 1);
    return true;
}

// In the group that begins here some bits are no code; the image may end before them.
void EntropyDecoder::step_to_invalid() {
    while (remaining_ > 0) {
        if (!step()) fail_invalid();
    }
}

// The last bytes of a segment, where a symbol might reach beyond the end.
void EntropyDecoder::finish_by_symbol() {
    while (remaining_ > 0) {
        const bool valid = step();
        if (position_ > std::uint64_t{length_} * 8 || (!valid && position_ + 16 > length_ * 8)) {
            throw JpegError("the data ends before the image does");
        }
        if (!valid) fail_invalid();
    }
}

// Hands differences on that were decoded from bit `from` to `position_`. If they are more than the
// image has, goes back to the end of the last one needed.
void EntropyDecoder::deliver(std::uint64_t from, const std::uint16_t* differences,
                             std::size_t count) {
    if (count > remaining_) {
        count = static_cast<std::size_t>(remaining_);
        position_ = from;
        for (std::size_t index = 0; index < count; ++index) {
            const HuffmanTable& table = *shared_.tables[index % group_];
            position_ += table.decode(peek(shared_.bytes, position_)).bits;
        }
    }
    rows_->take(differences, count);
    remaining_ -= count;
}

void EntropyDecoder::fail_invalid() const { throw JpegError("bits that are no Huffman code"); }

}  // namespace scai::jpeg
