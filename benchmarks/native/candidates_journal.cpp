// Ways to make a group of five small instances durable: 9.5 kB each, in one record group.
//
// Promises: each variant has a file of its own, and each group is durable before the next is
// begun. The first is the product's way (native/src/spool/journal.cpp).
#include <sys/uio.h>

#include <array>

#include "candidates.hpp"

namespace candidates {

constexpr std::size_t record_bytes = 9536;  // a multiple of 64, as records are
constexpr std::size_t record_count = 5;
constexpr std::size_t group_bytes = record_bytes * record_count;
constexpr std::size_t segment_bytes = 16u << 20;

// A segment is reserved as a whole and written once with zeros, if `written`.
int make_segment(const std::string& path, int flags, bool written) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) fail("creating " + path);
    if (::fallocate(file, 0, 0, segment_bytes) != 0) fail("fallocate");
    if (written) {
        const std::vector<std::byte> zeros(segment_bytes);
        write_all(file, zeros.data(), zeros.size());
    }
    if (::fsync(file) != 0) fail("fsync");
    ::close(file);
    const int segment = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags);
    if (segment < 0) fail("opening " + path);
    return segment;
}

class Bench {
public:
    explicit Bench(const Arguments& arguments)
        : root_(arguments.directory),
          directory_(open_directory(root_)),
          units_(arguments.units),
          bytes_(memory(2 * whole_pages(group_bytes))) {}

    // The records go as they lie, two pieces each.
    void add_gathered(const std::string& name, int flags, bool sync, bool read_back = false) {
        const std::string path = new_path();
        const int file = make_segment(path, 0, true);
        const int reader = read_back ? open_reader(path) : -1;
        variants.push_back({name, [=, this] {
                                return cost_of(units_, [&] { gather(file, flags, sync, reader); });
                            }});
    }

    // The records are copied behind each other, filled up to whole pages.
    void add_direct(const std::string& name, int flags, bool sync, bool read_back = false) {
        const std::string path = new_path();
        const int file = make_segment(path, O_DIRECT | flags, true);
        const int reader = read_back ? open_reader(path) : -1;
        variants.push_back({name, [=, this] {
                                return cost_of(units_, [&] { write_pages(file, sync, reader); });
                            }});
    }

    // A fresh segment for each round, made outside the time.
    void add_unwritten(const std::string& name) {
        variants.push_back({name, [=, this] {
                                const int file = make_segment(new_path(), 0, false);
                                const Cost cost =
                                    cost_of(units_, [&] { gather(file, 0, true, -1); });
                                ::close(file);
                                return cost;
                            }});
    }

    void add_files(const std::string& name) {
        variants.push_back({name, [this] { return cost_of(units_, [&] { write_files(); }); }});
    }

    std::vector<Variant> variants;

private:
    int open_reader(const std::string& path) {
        const int reader = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (reader < 0) fail("opening " + path);
        return reader;
    }

    // As the indexer does: through the page cache, once for each record.
    void read_back(int reader, std::size_t at) {
        if (reader < 0) return;
        if (::pread(reader, read_.data(), group_bytes, static_cast<off_t>(at)) !=
            static_cast<ssize_t>(group_bytes)) {
            fail("reading back");
        }
    }

    std::string new_path() { return root_ + "/segment-" + std::to_string(names_++); }

    void gather(int file, int flags, bool sync, int reader) {
        std::size_t at = page_bytes;
        for (std::size_t unit = 0; unit < units_; ++unit) {
            std::array<iovec, 2 * record_count> parts;
            for (std::size_t record = 0; record < record_count; ++record) {
                std::byte* from = bytes_ + record * record_bytes;
                parts[2 * record] = {from, 800};
                parts[2 * record + 1] = {from + 800, record_bytes - 800};
            }
            if (at + group_bytes > segment_bytes) at = page_bytes;
            const ssize_t put = ::pwritev2(file, parts.data(), static_cast<int>(parts.size()),
                                           static_cast<off_t>(at), flags);
            if (put != static_cast<ssize_t>(group_bytes)) fail("pwritev2");
            if (sync && ::fdatasync(file) != 0) fail("fdatasync");
            read_back(reader, at);
            at += group_bytes;
        }
    }

    void write_pages(int file, bool sync, int reader) {
        std::size_t at = page_bytes;
        std::byte* pages = bytes_ + whole_pages(group_bytes);
        for (std::size_t unit = 0; unit < units_; ++unit) {
            std::memcpy(pages, bytes_, group_bytes);
            if (at + whole_pages(group_bytes) > segment_bytes) at = page_bytes;
            write_all(file, pages, whole_pages(group_bytes), at);
            if (sync && ::fdatasync(file) != 0) fail("fdatasync");
            read_back(reader, at);
            at += whole_pages(group_bytes);
        }
    }

    void write_files() {
        for (std::size_t unit = 0; unit < units_; ++unit) {
            for (std::size_t record = 0; record < record_count; ++record) {
                const std::string name = "record-" + std::to_string(names_++);
                constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
                const int file = ::openat(directory_, name.c_str(), flags, 0600);
                if (file < 0) fail("creating " + name);
                write_all(file, bytes_, record_bytes);
                if (::fdatasync(file) != 0) fail("fdatasync");
                ::close(file);
            }
            if (::fsync(directory_) != 0) fail("fsync of a directory");
        }
    }

    std::string root_;
    int directory_;
    std::size_t units_;
    std::byte* bytes_;
    std::vector<std::byte> read_ = std::vector<std::byte>(group_bytes);
    std::size_t names_ = 0;
};

}  // namespace candidates

int main(int count, char** texts) {
    using namespace candidates;
    const Arguments arguments = arguments_of(count, texts);
    Bench bench(arguments);
    bench.add_gathered("buffered pwritev, fdatasync", 0, true);
    bench.add_gathered("pwritev2 with RWF_DSYNC", RWF_DSYNC, false);
    bench.add_direct("direct, O_DSYNC, whole pages", O_DSYNC, false);
    bench.add_direct("direct, fdatasync, whole pages", 0, true);
    bench.add_gathered("buffered, fdatasync; read back", 0, true, true);
    bench.add_direct("direct, O_DSYNC; read back", O_DSYNC, false, true);
    bench.add_unwritten("reserved, never written before");
    bench.add_files("no journal: a synced file for each");
    const int root = open_directory(arguments.directory);
    take_turns(bench.variants, arguments.rounds, [root] {
        if (::syncfs(root) != 0) fail("syncfs");
    });
    return 0;
}
