// A reception under load, for the address and the thread sanitizer: peers that store instances of
// all sizes in pieces of any size, some that stop reading, some that vanish in the middle, some
// whose place is taken by the next within a turn. Every answer belongs to an instance that was
// stored, and nobody who waits is forgotten. Arguments: seconds, seed. Ends with 0, or with the
// claim that failed.
#include <poll.h>
#include <sys/socket.h>
#include <ctime>
#include <map>
#include <memory>

#include "reception/reception.hpp"
#include "scratch.hpp"
#include "reception/socket_stream.hpp"

namespace {

constexpr std::size_t slots = 4;
const scratch::Sizes sizes{slots, 1u << 20, 64u << 10, 2u << 20};
constexpr scai::CutterLimits limits{4096, 1024, 131072, 16378, 64};
constexpr std::uint8_t context = 3;

void put_little(std::string& to, std::uint64_t value, int bytes) {
    for (int at = 0; at < bytes; ++at) to.push_back(static_cast<char>(value >> (8 * at)));
}

void put_element(std::string& to, std::uint16_t element, std::string value) {
    if (value.size() % 2 == 1) value.push_back('\0');
    put_little(to, 0, 2);
    put_little(to, element, 2);
    put_little(to, value.size(), 4);
    to += value;
}

std::string two_bytes(unsigned value) {
    return {static_cast<char>(value & 0xFF), static_cast<char>(value >> 8)};
}

void put_pdu(std::string& to, char control, std::string_view data) {
    const auto big = [&to](std::size_t value) {
        for (int shift = 24; shift >= 0; shift -= 8)
            to.push_back(static_cast<char>(value >> shift));
    };
    to += std::string_view("\x04\x00", 2);
    big(data.size() + 6);
    big(data.size() + 2);
    to.push_back(static_cast<char>(context));
    to.push_back(control);
    to += data;
}

std::string store_of(const std::string& uid, std::size_t bytes) {
    std::string body;
    put_element(body, 0x0002, "1.2.3");
    put_element(body, 0x0100, two_bytes(1));
    put_element(body, 0x0110, two_bytes(7));
    put_element(body, 0x0800, two_bytes(0));
    put_element(body, 0x1000, uid);
    std::string command;
    put_element(command, 0x0000, std::string(4, '\0'));
    const auto size = static_cast<std::uint32_t>(body.size());
    std::memcpy(command.data() + 8, &size, sizeof size);
    std::string stream;
    put_pdu(stream, 3, command + body);
    const std::string data(bytes, 'd');
    std::string_view left = data;
    while (left.size() > 16372) {
        put_pdu(stream, 0, left.substr(0, 16372));
        left.remove_prefix(16372);
    }
    put_pdu(stream, 2, left);
    return stream;
}

scai::StoreTemplate pieces() {
    scai::StoreTemplate made;
    made.sop_class = "1.2.3";
    made.head_before = made.head_between = made.head_after = "head";
    put_element(made.response_sop_class, 0x0002, "1.2.3");
    return made;
}

// Both ends of a connection; the peer's is played by the same thread, between turns.
struct Caller {
    Caller(scai::Reception& reception, std::size_t to_slot, fuzzing::Random& random)
        : slot(to_slot) {
        int ends[2];
        FUZZ_CLAIM(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        ours = scai::Descriptor(ends[0]);
        theirs = scai::Descriptor(ends[1]);
        const int small = 4096;
        FUZZ_CLAIM(::setsockopt(ours.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        stream.emplace(ours.get());
        inlet.emplace(reception, reception.next_key(), cutter, *stream);
        inlet->attach(slot);
        inlet->log_as({"before", "after"});
        cutter.permit_store(context, pieces());
        reads = random.below(4) != 0;
        if (!reads) fill();
    }

    // The first answer finds no room.
    void fill() {
        const std::string block(1000, 'f');
        for (ssize_t put = 0; put >= 0;) {
            put = ::send(ours.get(), block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            if (put > 0) filling += static_cast<std::size_t>(put);
        }
    }

    scai::Descriptor ours;
    scai::Descriptor theirs;
    scai::PduCutter cutter{limits};
    std::optional<scai::SocketStream> stream;
    std::size_t slot;
    std::optional<scai::Inlet> inlet;
    std::string to_send;
    std::string unsent;
    std::size_t filling = 0;
    std::size_t answered_bytes = 0;
    std::uint64_t under_way = 0;
    bool reads = true;
    bool ended = false;
};

class Service {
public:
    Service(scratch::Store& store, std::vector<std::uint64_t>& block, std::uint32_t seed)
        : store_(store),
          random_(seed),
          reception_(store.spool(), tally(block), {1u << 20, 8192, 1'000'000 * (seed % 2), 65536}) {
        store.spool().admit(true);
        reception_.log(true);
        for (std::size_t slot = 0; slot < slots; ++slot) free_.push_back(slot);
    }

    void run(std::time_t until) {
        while (std::time(nullptr) < until) {
            if (!free_.empty() && random_.below(3) == 0) come();
            for (auto& [key, caller] : callers_) play(*caller);
            turn();
            if (random_.below(50) == 0 && !callers_.empty()) leave(callers_.begin()->first);
        }
        while (!callers_.empty()) leave(callers_.begin()->first);
        while (free_.size() < slots) turn();
    }

    std::uint64_t stored() const { return stored_; }
    std::uint64_t answered() const { return answered_; }
    std::uint64_t waited() const { return waited_; }

private:
    static scai::Tally tally(std::vector<std::uint64_t>& block) {
        return {block, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, {11, {0.001, 1}}, {20, {0.001, 1}}}};
    }

    void come() {
        auto caller = std::make_unique<Caller>(reception_, free_.back(), random_);
        free_.pop_back();
        const std::uint64_t key = caller->inlet->key();
        callers_.emplace(key, std::move(caller));
    }

    void leave(std::uint64_t key) {
        const auto found = callers_.find(key);
        found->second->inlet->leave();
        if (store_.spool().cancel(found->second->slot)) free_.push_back(found->second->slot);
        callers_.erase(found);
    }

    void play(Caller& caller) {
        if (caller.ended) return;
        if (caller.to_send.empty() && caller.under_way == 0) {
            const std::uint32_t kind = random_.below(16);
            const std::uint32_t most = kind == 0 ? 3u << 20 : kind < 4 ? 100'000 : 9000;
            const std::string uid = "1." + std::to_string(1 + ++instances_);
            caller.to_send = store_of(uid, 1 + random_.below(most));
            caller.under_way = 1;
        }
        const std::size_t piece = 1 + random_.below(random_.below(2) == 0 ? 200 : 300'000);
        const auto size = std::min(piece, caller.to_send.size());
        const ssize_t put =
            ::send(caller.theirs.get(), caller.to_send.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put > 0) caller.to_send.erase(0, static_cast<std::size_t>(put));
        if (random_.below(400) == 0) {
            caller.ended = true;
            caller.theirs.reset();
            return;
        }
        if (!caller.reads && random_.below(20) == 0) caller.reads = true;
        if (caller.reads) take_answers(caller);
        if (!caller.unsent.empty()) push(caller);
    }

    void take_answers(Caller& caller) {
        char block[4096];
        const std::size_t room =
            caller.filling > 0 ? std::min(caller.filling, sizeof block) : sizeof block;
        const ssize_t got = ::recv(caller.theirs.get(), block, room, MSG_DONTWAIT);
        if (got <= 0) return;
        if (caller.filling > 0) {
            caller.filling -= static_cast<std::size_t>(got);
            return;
        }
        FUZZ_CLAIM(caller.to_send.empty() && caller.under_way == 1);
        caller.answered_bytes += static_cast<std::size_t>(got);
        // 6 bytes of header, and what it says: one answer, no byte more.
        if (caller.answered_bytes == static_cast<std::size_t>(got)) {
            FUZZ_CLAIM(got >= 6 && block[0] == 4);
            expected_[&caller] = 6 + static_cast<std::size_t>(static_cast<unsigned char>(block[5]));
        }
        FUZZ_CLAIM(caller.answered_bytes <= expected_[&caller]);
        if (caller.answered_bytes < expected_[&caller]) return;
        caller.answered_bytes = 0;
        caller.under_way = 0;
        ++answered_;
        FUZZ_CLAIM(answered_ <= stored_);
    }

    void push(Caller& caller) {
        const ssize_t put = ::send(caller.ours.get(), caller.unsent.data(), caller.unsent.size(),
                                   MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put > 0) caller.unsent.erase(0, static_cast<std::size_t>(put));
        if (caller.unsent.empty()) caller.inlet->release();
    }

    void turn() {
        pollfd due{reception_.descriptor(), POLLIN, 0};
        if (::poll(&due, 1, 1) <= 0) return;
        const scai::Turn turn = reception_.turn();
        stored_ += turn.stored;
        reader_.release(reader_.next_sequence());
        while (!reader_.read(store_.spool().durable_sequence(), 100).empty()) {
        }
        for (const auto& notice : turn.notices) take(notice);
        if (store_.spool().unflushed()) store_.spool().flush();
    }

    void take(const scai::Notice& notice) {
        using Kind = scai::Notice::Kind;
        if (notice.kind == Kind::freed) {
            free_.push_back(notice.number);
            return;
        }
        const auto found = callers_.find(notice.key);
        if (found == callers_.end()) return;
        Caller& caller = *found->second;
        FUZZ_CLAIM(notice.kind != Kind::stored && notice.kind != Kind::failed);
        if (notice.kind == Kind::unsent) {
            ++waited_;
            caller.unsent += notice.rest;
            caller.inlet->hold();
            return;
        }
        FUZZ_CLAIM(caller.ended && notice.number == static_cast<int>(scai::Received::end));
        leave(notice.key);
        // Its descriptors and perhaps its slot have a new owner before the next notice is read.
        if (!free_.empty()) come();
        if (random_.below(2) == 0 && !callers_.empty()) leave(callers_.rbegin()->first);
    }

    scratch::Store& store_;
    fuzzing::Random random_;
    scai::Reception reception_;
    scai::JournalReader reader_{store_.directory().journal(), 1};
    std::vector<std::size_t> free_;
    std::map<std::uint64_t, std::unique_ptr<Caller>> callers_;
    std::map<const Caller*, std::size_t> expected_;
    std::uint64_t instances_ = 0;
    std::uint64_t stored_ = 0;
    std::uint64_t answered_ = 0;
    std::uint64_t waited_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
    const std::time_t seconds = count > 1 ? std::atoi(arguments[1]) : 3;
    const auto seed = static_cast<std::uint32_t>(count > 2 ? std::atoi(arguments[2]) : 1);
    scratch::Store store(sizes);
    std::vector<std::uint64_t> block(64);
    Service service(store, block, seed);
    service.run(std::time(nullptr) + seconds);
    FUZZ_CLAIM(block[2] == service.stored());
    FUZZ_CLAIM(block[9] == store.spool().durable_sequence());
    std::printf("%llu stored, %llu answered, %llu answers had to wait, %llu times no room\n",
                static_cast<unsigned long long>(service.stored()),
                static_cast<unsigned long long>(service.answered()),
                static_cast<unsigned long long>(service.waited()),
                static_cast<unsigned long long>(block[1]));
    return 0;
}
