// Any stream, cut in any way: fed whole, byte by byte and in random pieces, or read from a socket
// with its planned reads, it gives the same events, and what is stored of it is the same.
// The input is a little program that writes the stream, so that few bytes make long ones.
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/checksum.hpp"
#include "reception/pdu_cutter.hpp"
#include "scratch.hpp"
#include "reception/socket_stream.hpp"

namespace {

constexpr std::size_t stream_bytes_max = 3u << 20;
constexpr std::size_t bytewise_max = 4096;
constexpr scai::CutterLimits limits{4096, 1024, 131072, 16378, 64};

// Reads the program; past its end everything is 0.
class Program {
public:
    explicit Program(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
    bool ended() const { return at_ >= bytes_.size(); }
    std::uint8_t next() { return ended() ? std::uint8_t{0} : bytes_[at_++]; }
    std::size_t next_u16() {
        const std::size_t high = next();
        return high << 8 | next();
    }

private:
    std::span<const std::uint8_t> bytes_;
    std::size_t at_ = 0;
};

using Stream = std::vector<std::uint8_t>;

void put_u32(Stream& to, std::size_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        to.push_back(static_cast<std::uint8_t>(value >> shift));
    }
}

void put_pdv(Stream& to, std::uint8_t context, std::uint8_t control, std::size_t size,
             std::uint8_t filler) {
    put_u32(to, size + 2);
    to.push_back(context);
    to.push_back(control);
    for (std::size_t at = 0; at < size; ++at) {
        to.push_back(static_cast<std::uint8_t>(filler + at * (at >> 7)));
    }
}

Stream pdu(std::uint8_t type, const Stream& body) {
    Stream whole{type, 0};
    put_u32(whole, body.size());
    whole.insert(whole.end(), body.begin(), body.end());
    return whole;
}

// One PDU of the program, or what only resembles one.
Stream instruction(Program& program, std::uint8_t operation) {
    Stream body;
    switch (operation % 8) {
        case 0:
            for (std::size_t left = program.next() % 32; left > 0; --left) {
                body.push_back(program.next());
            }
            return body;
        case 1:
            put_pdv(body, program.next() & 1, 3, program.next() % 64, program.next());
            return pdu(4, body);
        case 2:
            put_pdv(body, program.next() & 1, 0, program.next_u16() % 20'000, program.next());
            return pdu(4, body);
        case 3:
            put_pdv(body, program.next() & 1, 2, program.next_u16() % 20'000, program.next());
            return pdu(4, body);
        case 4:
            for (std::size_t left = program.next() % 5; left > 0; --left) {
                put_pdv(body, program.next() & 1, program.next() & 3, program.next(), 7);
            }
            return pdu(4, body);
        case 5:
            body.resize(program.next() % 128);
            return pdu(static_cast<std::uint8_t>(1 + program.next() % 3), body);
        case 6:
            body.resize(4);
            return pdu(static_cast<std::uint8_t>(5 + program.next() % 3), body);
        default:
            body = {program.next(), program.next()};
            for (int count = 0; count < 4; ++count) body.push_back(program.next());
            return body;
    }
}

Stream written_by(Program& program) {
    Stream stream;
    Stream last;
    while (!program.ended() && stream.size() < stream_bytes_max) {
        const std::uint8_t operation = program.next();
        if (operation % 16 == 14) {
            for (std::size_t left = program.next() % 160; left > 0; --left) {
                if (stream.size() >= stream_bytes_max) break;
                stream.insert(stream.end(), last.begin(), last.end());
            }
        } else if (operation % 16 == 15 && !stream.empty()) {
            stream[program.next_u16() % stream.size()] ^= program.next();
        } else {
            last = instruction(program, operation);
            stream.insert(stream.end(), last.begin(), last.end());
        }
    }
    return stream;
}

scratch::Store& store() {
    static scratch::Store only({1, 1u << 20, 8192, 1u << 20});
    return only;
}

std::string contents(const std::string& path) {
    const scai::Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    FUZZ_CLAIM(file);
    std::string text;
    char block[65536];
    for (ssize_t got; (got = ::read(file.get(), block, sizeof block)) > 0;) {
        text.append(block, static_cast<std::size_t>(got));
    }
    return text;
}

// One connection: a cutter, what happened to it, and the answers a worker would give.
class Connection {
public:
    explicit Connection(bool accepted) : cutter_(limits) {
        if (accepted) cutter_.attach(store().spool(), 0);
        accepted_ = accepted;
    }

    void feed(std::span<const std::byte> piece) {
        scai::Received state = cutter_.feed(piece);
        while (react(state)) state = cutter_.feed({});
    }

    // False when the socket says that the peer has gone.
    bool receive(scai::SocketStream& socket, std::size_t budget) {
        scai::Received state;
        do {
            state = cutter_.receive(socket, budget);
        } while (react(state) || state == scai::Received::budget);
        return state != scai::Received::end;
    }

    // The peer has gone: nothing of an unfinished instance may remain.
    std::vector<std::string> end(std::size_t stream_bytes) {
        FUZZ_CLAIM(cutter_.received_bytes() == stream_bytes);
        if (busy_ && !store().spool().cancel(0)) wait_for(scai::CompletionKind::free);
        note("oversized", cutter_.oversized_pdus());
        FUZZ_CLAIM(!store().directory().anything_incoming());
        return std::move(trace_);
    }

private:
    template <typename... Numbers>
    void note(std::string what, Numbers... numbers) {
        ((what += " " + std::to_string(numbers)), ...);
        trace_.push_back(std::move(what));
    }

    bool react(scai::Received state) {
        if (state == scai::Received::full) wait_for(scai::CompletionKind::space);
        if (state == scai::Received::event) {
            auto event = cutter_.next_event();
            FUZZ_CLAIM(event.has_value());
            std::visit([this](const auto& happened) { on(happened); }, *event);
            FUZZ_CLAIM(!cutter_.next_event());
        }
        return state == scai::Received::full || state == scai::Received::event;
    }

    void on(const scai::PduEvent& event) {
        note("pdu", event.type, event.body.size(), scai::crc32c(event.body));
        if (event.type == 1 && !accepted_) {
            cutter_.attach(store().spool(), 0);
            accepted_ = true;
        }
    }

    void on(const scai::CommandEvent& event) {
        FUZZ_CLAIM(event.command_set.size() <= limits.command_bytes_max);
        note("command", event.context, event.command_set.size(),
             scai::crc32c(event.command_set));
        const auto& set = event.command_set;
        const std::size_t kind = set.empty() ? 0 : std::to_integer<std::size_t>(set[0]) % 4;
        if (kind == 0) {
            cutter_.expect_command();
        } else if (kind == 1) {
            store().spool().discard(0);
            busy_ = true;
            cutter_.expect_data(event.context);
        } else {
            store().spool().begin(0, std::string(kind * 100, 'h'), "prologue", kind == 2);
            busy_ = storing_ = true;
            cutter_.expect_data(event.context);
        }
    }

    void on(const scai::DatasetEvent& event) {
        note("dataset", event.context, event.bytes);
        busy_ = false;
        if (storing_) {
            storing_ = false;
            if (event.bytes > 0) {
                stored(wait_for(scai::CompletionKind::stored));
            } else {  // no instance
                FUZZ_CLAIM(wait_for(scai::CompletionKind::failed).code == ENODATA);
            }
        }
        cutter_.expect_command();
    }

    void on(const scai::FaultEvent& event) {
        note("fault " + event.text, static_cast<int>(event.reason));
    }

    // What the indexer would do: read the record, take the file, give the segments back.
    void stored(const scai::Completion& completion) {
        static scai::JournalReader reader(store().directory().journal(), completion.sequence);
        const auto records = reader.read(store().spool().durable_sequence(), 100);
        FUZZ_CLAIM(records.size() == 1 && records[0].sequence == completion.sequence);
        const auto& record = records[0];
        FUZZ_CLAIM(record.file_bytes == completion.file_bytes && record.prologue == "prologue");
        if (!record.name.empty()) {
            const std::string path = store().directory().incoming() + "/" + record.name;
            std::string file = contents(path);
            // Its writer may not have cut it to its length yet.
            FUZZ_CLAIM(file.size() >= record.file_bytes &&
                       file.size() < record.file_bytes + scai::page_bytes);
            file.resize(record.file_bytes);
            FUZZ_CLAIM(scai::crc32c(std::as_bytes(std::span(file))) == record.file_crc);
            std::filesystem::remove(path);
        }
        note("stored " + record.attributes, record.file_bytes, record.file_crc);
        reader.release(reader.next_sequence());
    }

    scai::Completion wait_for(scai::CompletionKind kind) {
        store().spool().flush();
        for (;;) {
            for (const auto& completion : store().wait()) {
                if (completion.kind == kind) return completion;
                FUZZ_CLAIM(completion.kind != scai::CompletionKind::failed);
            }
        }
    }

    scai::PduCutter cutter_;
    bool accepted_ = false;
    bool busy_ = false;     // the slot has an instance under way
    bool storing_ = false;  // and keeps it
    std::vector<std::string> trace_;
};

std::vector<std::string> through_socket(std::span<const std::byte> stream, bool accepted,
                                        std::uint32_t seed) {
    int ends[2];
    FUZZ_CLAIM(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const scai::Descriptor ours(ends[0]);
    scai::Descriptor theirs(ends[1]);
    scai::SocketStream socket(ours.get());
    Connection connection(accepted);
    fuzzing::Sizes sizes(seed);
    fuzzing::in_pieces(stream, [&] { return (seed & 1 ? 61 : 7001) * sizes(); }, [&](auto piece) {
        while (!piece.empty()) {
            const ssize_t put = ::send(theirs.get(), piece.data(), piece.size(), MSG_DONTWAIT);
            FUZZ_CLAIM(put > 0);
            piece = piece.subspan(static_cast<std::size_t>(put));
            FUZZ_CLAIM(connection.receive(socket, 1 + sizes() * 997));
        }
    });
    theirs.reset();
    FUZZ_CLAIM(!connection.receive(socket, 1));
    return connection.end(stream.size());
}

// Says what differs before it ends the run.
void claim_same(const char* delivery, const std::vector<std::string>& found,
                const std::vector<std::string>& expected) {
    if (found == expected) return;
    for (std::size_t at = 0; at < std::max(found.size(), expected.size()); ++at) {
        const std::string ours = at < found.size() ? found[at] : "nothing";
        const std::string whole = at < expected.size() ? expected[at] : "nothing";
        if (ours == whole) continue;
        std::fprintf(stderr, "%s: [%s], whole: [%s]\n", delivery, ours.c_str(), whole.c_str());
        break;
    }
    FUZZ_CLAIM(found == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 3) return 0;
    const bool accepted = input[0] & 1;
    const std::uint32_t seed = input[1];
    Program program({input + 2, size - 2});
    const Stream stream = written_by(program);
    const auto bytes = std::as_bytes(std::span(stream));

    Connection whole(accepted);
    whole.feed(bytes);
    const auto expected = whole.end(bytes.size());

    Connection pieces(accepted);
    fuzzing::Sizes sizes(seed);
    const std::size_t scale = bytes.size() <= bytewise_max ? 0 : 1 + bytes.size() / 512;
    fuzzing::in_pieces(bytes, [&] { return scale == 0 ? 1 : scale * sizes(); },
                       [&](auto piece) { pieces.feed(piece); });
    claim_same("pieces", pieces.end(bytes.size()), expected);

    claim_same("socket", through_socket(bytes, accepted, seed), expected);
    return 0;
}
