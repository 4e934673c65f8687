// The writer thread's duty: wait for half a megabyte or the end, write it, give the ring space
// back.
#include "file_writer.hpp"

#include <fcntl.h>
#include <algorithm>
#include <cstring>

#include "checksum.hpp"
#include "thread.hpp"

namespace scai {

namespace {

// While an instance arrives it is written in pieces of this size, limits.write_bytes (a test holds
// the two together), or a quarter of a small ring. What is left at its end goes in one write: a CT
// image is one write in all, and a second one would cost it another turn of the disk.
constexpr std::size_t write_bytes = 1u << 20;

}  // namespace

FileWriter::FileWriter(Ring& ring, int directory, bool durable, std::string thread_name,
                       Callbacks callbacks)
    : ring_(ring),
      directory_(directory),
      durable_(durable),
      piece_bytes_(std::min(write_bytes, ring.bytes() / 4 / page_bytes * page_bytes)),
      callbacks_(std::move(callbacks)),
      direct_(durable) {
    thread_ = start_thread(thread_name, [this] { run(); });
}

FileWriter::~FileWriter() {
    {
        const std::lock_guard guard(mutex_);
        order_ = Order::leave;
    }
    changed_.notify_one();
    thread_.join();
}

void FileWriter::start(std::string name, bool made) {
    {
        const std::lock_guard guard(mutex_);
        SCAI_ASSERT(order_ == Order::none);
        name_ = std::move(name);
        made_ = made;
        order_ = Order::write;
    }
    changed_.notify_one();
}

void FileWriter::wake() noexcept {
    if (ring_.produced() - ring_.consumed() < piece_bytes_) return;
    // Taken and given back, so that the thread is either before its look at the ring or waiting.
    { const std::lock_guard guard(mutex_); }
    changed_.notify_one();
}

void FileWriter::finish() {
    {
        const std::lock_guard guard(mutex_);
        SCAI_ASSERT(order_ == Order::write);
        order_ = Order::finish;
    }
    changed_.notify_one();
}

void FileWriter::abandon() {
    {
        const std::lock_guard guard(mutex_);
        SCAI_ASSERT(order_ == Order::write);
        order_ = Order::abandon;
    }
    changed_.notify_one();
}

bool FileWriter::want_space() noexcept {
    space_wanted_.store(true, std::memory_order_seq_cst);
    // Looked at again after the flag: the thread clears the flag after it gave space, never before.
    if (ring_.room().empty()) return true;
    return !space_wanted_.exchange(false, std::memory_order_seq_cst);
}

void FileWriter::tell_space() {
    if (space_wanted_.exchange(false, std::memory_order_seq_cst)) callbacks_.space();
}

void FileWriter::run() {
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return order_ != Order::none; });
            if (order_ == Order::leave) return;
        }
        write_instance();
    }
}

FileWriter::Order FileWriter::wait_for_work() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock,
                  [this] { return order_ != Order::write || ring_.available() >= piece_bytes_; });
    return order_;
}

void FileWriter::write_instance() {
    SealedFile file;
    {
        const std::lock_guard guard(mutex_);
        file.name = name_;
        file.name_durable = made_;
    }
    padded_ = false;
    Descriptor descriptor;
    file.code = open_file(file, descriptor);
    const bool created = file.code == 0 || file.name_durable;
    Order order = Order::write;
    while (order == Order::write) {
        order = wait_for_work();
        if (order == Order::leave || order == Order::abandon) break;
        write_available(order, file, descriptor);
        tell_space();
    }
    if (order == Order::finish && file.code == 0 && durable_ &&
        ::fdatasync(descriptor.get()) != 0) {
        file.code = errno;
    }
    const bool padded = padded_ && order == Order::finish && file.code == 0;
    if (!padded) {
        if (const int closing = descriptor.reset(); file.code == 0) file.code = closing;
    }
    if (created && (file.code != 0 || order != Order::finish)) {
        // Best effort: what cannot be removed now is swept at the next start.
        static_cast<void>(::unlinkat(directory_, file.name.c_str(), 0));
    }
    if (order == Order::leave) return;
    {
        const std::lock_guard guard(mutex_);
        if (order_ != Order::leave) order_ = Order::none;
    }
    if (order == Order::finish) {
        const std::uint64_t length = file.bytes;
        callbacks_.sealed(std::move(file));
        // Nobody waits for it: whoever places the file cuts it as well, if this did not come so
        // far.
        if (padded) {
            static_cast<void>(::ftruncate(descriptor.get(), static_cast<off_t>(length)));
        }
    } else {
        callbacks_.abandoned();
    }
}

// All whole chunks; at the end the rest as well. After an error the bytes are dropped.
void FileWriter::write_available(Order order, SealedFile& file, Descriptor& descriptor) {
    std::uint64_t available = ring_.available();
    // Room to fill up the last page must be left in the ring behind the data.
    const std::uint64_t last_max = ring_.bytes() - page_bytes;
    while (available >= piece_bytes_ || (order == Order::finish && available > 0)) {
        const bool all = order == Order::finish && available <= last_max;
        const auto count = static_cast<std::size_t>(all ? available : piece_bytes_);
        const bool last = order == Order::finish && count == available;
        if (file.code == 0) {
            file.crc = crc32c(ring_.peek(count), file.crc);
            file.code = write_chunk(descriptor.get(), count, file.bytes, last);
        }
        file.bytes += count;
        ring_.consume(count);
        available -= count;
        if (space_wanted_.load(std::memory_order_relaxed)) tell_space();
    }
}

int FileWriter::write_chunk(int descriptor, std::size_t count, std::uint64_t offset, bool last) {
    std::span<std::byte> chunk = ring_.peek(count);
    std::size_t padded = count;
    if (last && direct_) {
        // Direct writes come in whole pages: the last one is filled up with zeros, which lie in the
        // ring behind the data, and cut off again when the peer has its answer (cutting waits for
        // the file system's journal, 0.6 ms under load). The ring is larger than two writes, so the
        // room is there.
        padded = align_up(count, page_bytes);
        std::memset(chunk.data() + count, 0, padded - count);
    }
    const std::byte* from = chunk.data();
    std::uint64_t at = offset;
    std::size_t left = padded;
    while (left > 0) {
        const ssize_t put = ::pwrite(descriptor, from, left, static_cast<off_t>(at));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && errno == EINVAL && direct_) {
            // The file system opened the file but does not take direct writes.
            direct_ = false;
            if (::fcntl(descriptor, F_SETFL, 0) != 0) return errno;
            continue;
        }
        if (put < 0) return errno;
        if (put == 0) return ENOSPC;
        from += put;
        at += static_cast<std::uint64_t>(put);
        left -= static_cast<std::size_t>(put);
        if (left > 0 && direct_ && static_cast<std::size_t>(put) % page_bytes != 0) {
            // A short write that stops inside a page cannot be continued directly.
            if (::fcntl(descriptor, F_SETFL, 0) != 0) return errno;
        }
    }
    padded_ = padded != count;
    return 0;
}

int FileWriter::open_file(const SealedFile& file, Descriptor& descriptor) {
    const int flags = O_WRONLY | O_CLOEXEC | (file.name_durable ? 0 : O_CREAT | O_EXCL);
    if (direct_) {
        descriptor = Descriptor(::openat(directory_, file.name.c_str(), flags | O_DIRECT, 0600));
        if (descriptor || errno != EINVAL) return descriptor ? 0 : errno;
        direct_ = false;
    }
    descriptor = Descriptor(::openat(directory_, file.name.c_str(), flags, 0600));
    return descriptor ? 0 : errno;
}

}  // namespace scai
