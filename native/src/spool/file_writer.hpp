// One slot's writer thread: streams a large instance from its ring into a file while it arrives.
//
// Contract, in the order of calls:
// - start() once an instance has outgrown the journal; wake() when more lies in the ring.
// - finish() with what its seal shall say. Then `sealed` is called on the thread with the file's
//   name, length, checksum and errno. 0: it is written and, if durable, synced with its seal behind
//   it. Otherwise the file, if there is one, is the caller's to remove.
// - abandon() instead of finish(): the file is removed and `abandoned` is called.
//
// After an error the ring goes on being emptied, so that the peer's data set is read to its end and
// can be answered. Writes are direct (O_DIRECT) where the file system has them. The page cache
// would be touched once and never again, and its allocation and copying is what bounds every other
// receiver.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "base/base.hpp"
#include "spool/ring.hpp"
#include "spool/seal.hpp"

namespace scai {

struct SealedFile {
    std::string name;
    bool name_durable = false;
    std::uint64_t bytes = 0;
    std::uint32_t crc = 0;
    bool seal = false;  // it says itself what it is: see seal.hpp
    int code = 0;
};

class FileWriter {
public:
    struct Callbacks {
        std::function<void(SealedFile)> sealed;
        std::function<void()> abandoned;
        std::function<void()> space;  // a full ring has room again
    };

    FileWriter(Ring& ring, int directory, std::size_t write_bytes, bool durable,
               std::string thread_name, Callbacks callbacks);
    ~FileWriter();
    FileWriter(const FileWriter&) = delete;
    FileWriter& operator=(const FileWriter&) = delete;

    // `made`: the file is there already, empty, its name durable.
    void start(std::string name, bool made);
    void wake() noexcept;
    // The text stays as it is until `sealed` is called.
    void finish(const SealText& text);
    void abandon();

    // Asks for one call of `space`; false if there is room already.
    bool want_space() noexcept;

private:
    enum class Order : std::uint8_t { none, write, finish, abandon, leave };

    void run();
    void write_instance();
    Order wait_for_work();
    void write_available(Order order, SealedFile& file, Descriptor& descriptor);
    int write_last(int descriptor, std::span<const std::byte> chunk, SealedFile& file);
    int write_parts(int descriptor, std::span<const std::byte> first,
                    std::span<const std::byte> second, std::uint64_t offset);
    int open_file(const SealedFile& file, Descriptor& descriptor);
    void tell_space();

    Ring& ring_;
    const int directory_;
    const bool durable_;
    const std::size_t piece_bytes_;
    const Callbacks callbacks_;
    bool direct_;
    PageBuffer tail_;  // the thread's

    std::mutex mutex_;
    std::condition_variable changed_;
    Order order_ = Order::none;
    std::string name_;
    bool made_ = false;
    SealText seal_text_;
    std::atomic<bool> space_wanted_{false};
    std::thread thread_;
};

}  // namespace scai
