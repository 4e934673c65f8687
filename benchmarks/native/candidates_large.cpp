// Ways to make a CT image of 525,400 bytes durable as a file of its own: five threads, one image
// after the other each.
//
// Promises: every variant ends with fsync of the directory, and, unless its name says otherwise,
// with a file of the right length that would survive the power. The first is the product's way
// (native/src/spool/file_writer.cpp).
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include "candidates.hpp"
#include "uring.hpp"

namespace candidates {

constexpr std::size_t instance_bytes = 525'400;
constexpr std::size_t thread_count = 5;
constexpr int creating = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;

struct Place {
    int directory;
    std::string name;
    std::byte* bytes;
    Uring* uring;
    std::size_t thread;
};

using Store = std::function<void(const Place&)>;

int create(const Place& place, int flags) {
    const int file = ::openat(place.directory, place.name.c_str(), creating | flags, 0600);
    if (file < 0) fail("creating " + place.name);
    return file;
}

void cut(int file) {
    if (::ftruncate(file, static_cast<off_t>(instance_bytes)) != 0) fail("ftruncate");
}

void sync_data(int file) {
    if (::fdatasync(file) != 0) fail("fdatasync");
}

void leave(const Place& place, int file) {
    if (::close(file) != 0) fail("close");
    if (::fsync(place.directory) != 0) fail("fsync of a directory");
}

void store_now(const Place& place) {
    const int file = create(place, O_DIRECT);
    write_all(file, place.bytes, whole_pages(instance_bytes));
    cut(file);
    sync_data(file);
    leave(place, file);
}

void store_in_halves(const Place& place) {
    const int file = create(place, O_DIRECT);
    constexpr std::size_t half = 64 * page_bytes;
    write_all(file, place.bytes, half);
    write_all(file, place.bytes + half, whole_pages(instance_bytes) - half, half);
    cut(file);
    sync_data(file);
    leave(place, file);
}

void store_reserved(const Place& place) {
    const int file = create(place, O_DIRECT);
    const auto bytes = static_cast<off_t>(whole_pages(instance_bytes));
    if (::fallocate(file, FALLOC_FL_KEEP_SIZE, 0, bytes) != 0) fail("fallocate");
    write_all(file, place.bytes, whole_pages(instance_bytes));
    cut(file);
    sync_data(file);
    leave(place, file);
}

void store_sized(const Place& place) {
    const int file = create(place, O_DIRECT);
    if (::fallocate(file, 0, 0, static_cast<off_t>(instance_bytes)) != 0) fail("fallocate");
    constexpr std::size_t whole = instance_bytes / page_bytes * page_bytes;
    write_all(file, place.bytes, whole);
    if (::fcntl(file, F_SETFL, 0) != 0) fail("fcntl");
    write_all(file, place.bytes + whole, instance_bytes - whole, whole);
    sync_data(file);
    leave(place, file);
}

// The length is synced by nobody: after a power cut it would have to be taken from the journal.
void store_cut_afterwards(const Place& place, int flags) {
    const int file = create(place, O_DIRECT | flags);
    write_all(file, place.bytes, whole_pages(instance_bytes));
    if ((flags & O_DSYNC) == 0) sync_data(file);
    cut(file);
    leave(place, file);
}

void store_synchronous(const Place& place) {
    const int file = create(place, O_DIRECT | O_DSYNC);
    write_all(file, place.bytes, whole_pages(instance_bytes));
    cut(file);
    sync_data(file);
    leave(place, file);
}

void store_buffered(const Place& place) {
    const int file = create(place, 0);
    write_all(file, place.bytes, instance_bytes);
    sync_data(file);
    leave(place, file);
}

void store_buffered_early(const Place& place) {
    const int file = create(place, 0);
    constexpr std::size_t piece = 128u << 10;
    for (std::size_t at = 0; at < instance_bytes; at += piece) {
        const std::size_t count = std::min(piece, instance_bytes - at);
        write_all(file, place.bytes + at, count, at);
        if (::sync_file_range(file, static_cast<off_t>(at), static_cast<off_t>(count),
                              SYNC_FILE_RANGE_WRITE) != 0) {
            fail("sync_file_range");
        }
    }
    sync_data(file);
    leave(place, file);
}

// One old file for each thread, of which nothing but blocks and name is used again.
void store_recycled(const Place& place) {
    const std::string old = "recycled-" + std::to_string(place.thread);
    const int file = ::openat(place.directory, old.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (file < 0) fail("opening " + old);
    write_all(file, place.bytes, whole_pages(instance_bytes));
    cut(file);
    sync_data(file);
    if (::renameat(place.directory, old.c_str(), place.directory, place.name.c_str()) != 0) {
        fail("renaming " + old);
    }
    leave(place, file);
    // The next one's old file; a name alone, and not synced.
    if (::renameat(place.directory, place.name.c_str(), place.directory, old.c_str()) != 0) {
        fail("renaming " + place.name);
    }
}

bool store_by_uring(const Place& place, bool with_cut) {
    const int file = create(place, O_DIRECT);
    io_uring_sqe& write = place.uring->add(IORING_OP_WRITE, file);
    write.addr = reinterpret_cast<std::uint64_t>(place.bytes);
    write.len = static_cast<std::uint32_t>(whole_pages(instance_bytes));
    if (with_cut) place.uring->add(uring_ftruncate, file).off = instance_bytes;
    place.uring->add(IORING_OP_FSYNC, file).fsync_flags = IORING_FSYNC_DATASYNC;
    const std::vector<int> results = place.uring->submit();
    if (!with_cut) cut(file);
    leave(place, file);
    return results.front() == static_cast<int>(whole_pages(instance_bytes)) && results.back() == 0;
}

class Bench {
public:
    Bench(std::string root, std::size_t units) : root_(std::move(root)), units_(units) {
        for (auto& bytes : bytes_) bytes = memory(whole_pages(instance_bytes));
        for (auto& uring : urings_) uring = std::make_unique<Uring>(8);
    }

    void add(const std::string& name, Store store) {
        const std::string path = root_ + "/" + std::to_string(variants.size());
        if (::mkdir(path.c_str(), 0700) != 0) fail("mkdir " + path);
        const int directory = open_directory(path);
        for (std::size_t thread = 0; thread < thread_count; ++thread) {
            store_now(
                {directory, "recycled-" + std::to_string(thread), bytes_[thread], nullptr, thread});
        }
        variants.push_back({name, [this, directory, store] { return run(directory, store); }});
    }

    // Whether the kernel lets io_uring do it at all.
    bool uring_works(bool with_cut) {
        if (!urings_[0]->usable()) return false;
        const int directory = open_directory(root_);
        return store_by_uring(
            {directory, with_cut ? "probe-cut" : "probe", bytes_[0], urings_[0].get(), 0},
            with_cut);
    }

    std::vector<Variant> variants;

private:
    Cost run(int directory, const Store& store) {
        return cost_of(units_, [&] {
            std::atomic<std::size_t> tickets{0};
            std::vector<std::thread> threads;
            for (std::size_t thread = 0; thread < thread_count; ++thread) {
                threads.emplace_back([&, thread] {
                    while (tickets.fetch_add(1) < units_) {
                        store({directory, "instance-" + std::to_string(names_.fetch_add(1)),
                               bytes_[thread], urings_[thread].get(), thread});
                    }
                });
            }
            for (auto& thread : threads) thread.join();
        });
    }

    std::string root_;
    std::size_t units_;
    std::atomic<std::size_t> names_{0};
    std::array<std::byte*, thread_count> bytes_{};
    std::array<std::unique_ptr<Uring>, thread_count> urings_;
};

void add_uring(Bench& bench, const std::string& name, bool with_cut) {
    if (!bench.uring_works(with_cut)) {
        skip(name, "the kernel does not do it");
        return;
    }
    bench.add(name, [with_cut](const Place& place) {
        if (!store_by_uring(place, with_cut)) fail("io_uring");
    });
}

}  // namespace candidates

int main(int count, char** texts) {
    using namespace candidates;
    const Arguments arguments = arguments_of(count, texts);
    Bench bench(arguments.directory, arguments.units);
    bench.add("direct write, cut, fdatasync", store_now);
    bench.add("two direct writes of half", store_in_halves);
    bench.add("blocks reserved before (KEEP_SIZE)", store_reserved);
    bench.add("whole size reserved, tail buffered", store_sized);
    bench.add("direct with O_DSYNC, cut, fdatasync", store_synchronous);
    bench.add("length not synced: fdatasync, then cut",
              [](const Place& place) { store_cut_afterwards(place, 0); });
    bench.add("length not synced: O_DSYNC, then cut",
              [](const Place& place) { store_cut_afterwards(place, O_DSYNC); });
    bench.add("buffered, fdatasync", store_buffered);
    bench.add("buffered, sync_file_range early", store_buffered_early);
    bench.add("recycled file, renamed", store_recycled);
    add_uring(bench, "io_uring: write, cut, fsync linked", true);
    add_uring(bench, "length not synced: io_uring", false);
    const int root = open_directory(arguments.directory);
    take_turns(bench.variants, arguments.rounds, [root] {
        if (::syncfs(root) != 0) fail("syncfs");
    });
    return 0;
}
