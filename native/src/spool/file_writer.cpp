// The writer thread's duty: wait for half a megabyte or the end, write it, give the ring space
// back.
#include "spool/file_writer.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <algorithm>
#include <array>

#include "base/checksum.hpp"
#include "base/direct_file.hpp"
#include "base/thread.hpp"

namespace scai {

// While an instance arrives it is written in pieces of `write_bytes`, or a quarter of a small ring.
// What is left at its end goes in one write: a CT image is one write in all, and a second one would
// cost it another turn of the disk.
FileWriter::FileWriter(Ring& ring, int directory, std::size_t write_bytes, bool durable,
                       std::string thread_name, Callbacks callbacks)
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

void FileWriter::finish(const SealText& text) {
    {
        const std::lock_guard guard(mutex_);
        SCAI_ASSERT(order_ == Order::write);
        seal_text_ = text;
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

// We set the flag, then look at the ring; the thread gives the ring space, then looks at the flag.
// That one of us sees the other's store takes all four to be sequentially consistent (C++20
// [atomics.order] 4): with a release and an acquire for the ring, a processor other than x86 may
// have both looks overtake both stores, and nobody would be told.
bool FileWriter::want_space() noexcept {
    space_wanted_.store(true, std::memory_order_seq_cst);
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
    if (const int closing = descriptor.reset(); file.code == 0) file.code = closing;
    if (created && order != Order::finish) {
        // Best effort: what cannot be removed now is swept at the next start.
        static_cast<void>(::unlinkat(directory_, file.name.c_str(), 0));
    }
    if (order == Order::leave) return;
    {
        const std::lock_guard guard(mutex_);
        if (order_ != Order::leave) order_ = Order::none;
    }
    if (order == Order::finish) {
        callbacks_.sealed(std::move(file));
    } else {
        callbacks_.abandoned();
    }
}

// All whole pieces, or at the end the rest. After an error the bytes are dropped.
void FileWriter::write_available(Order order, SealedFile& file, Descriptor& descriptor) {
    const bool last = order == Order::finish;
    while (last || ring_.available() >= piece_bytes_) {
        const auto count = last ? static_cast<std::size_t>(ring_.available()) : piece_bytes_;
        if (file.code == 0) {
            const std::span<const std::byte> chunk = ring_.peek(count);
            file.crc = crc32c(chunk, file.crc);
            file.code = last ? write_last(descriptor.get(), chunk, file)
                             : write_parts(descriptor.get(), chunk, {}, file.bytes);
        }
        file.bytes += count;
        ring_.consume(count);
        if (last) return;
        // Early, for who waits already; who is missed here is told behind the last piece.
        if (space_wanted_.load(std::memory_order_relaxed)) tell_space();
    }
}

// Direct writes come in whole pages: the bytes behind the last whole one go with the seal, which
// fills up the page.
int FileWriter::write_last(int descriptor, std::span<const std::byte> chunk, SealedFile& file) {
    if (!durable_) return write_parts(descriptor, chunk, {}, file.bytes);
    const auto pages = chunk.first(chunk.size() / page_bytes * page_bytes);
    const auto tail = sealed_tail(tail_, chunk.subspan(pages.size()), file.name,
                                  file.bytes + chunk.size(), file.crc, seal_text_);
    file.seal = true;
    return write_parts(descriptor, pages, tail, file.bytes);
}

int FileWriter::write_parts(int descriptor, std::span<const std::byte> first,
                            std::span<const std::byte> second, std::uint64_t offset) {
    while (!first.empty() || !second.empty()) {
        // iovec has no const form; pwritev does not write to it.
        const std::array<iovec, 2> parts{{{const_cast<std::byte*>(first.data()), first.size()},
                                          {const_cast<std::byte*>(second.data()), second.size()}}};
        const std::size_t skipped = first.empty() ? 1 : 0;
        const std::size_t used = second.empty() ? 1 : 2;
        const ssize_t put = ::pwritev(descriptor, parts.data() + skipped,
                                      static_cast<int>(used - skipped), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && errno == EINVAL && direct_) {
            // The file system opened the file but does not take direct writes, or not from inside
            // a page, where a short one stopped.
            direct_ = false;
            if (const int code = end_direct(descriptor); code != 0) return code;
            continue;
        }
        if (put < 0) return errno;
        if (put == 0) return ENOSPC;
        const auto written = static_cast<std::size_t>(put);
        const std::size_t of_first = std::min(written, first.size());
        first = first.subspan(of_first);
        second = second.subspan(written - of_first);
        offset += written;
    }
    return 0;
}

int FileWriter::open_file(const SealedFile& file, Descriptor& descriptor) {
    const int flags = O_WRONLY | O_CLOEXEC | (file.name_durable ? 0 : O_CREAT | O_EXCL);
    descriptor = open_direct(directory_, file.name, flags, direct_);
    return descriptor ? 0 : errno;
}

}  // namespace scai
