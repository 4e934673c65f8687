// A spool with its directories and rings, in memory and gone at the end: what the fuzz targets and
// the stress programs stand on.
#pragma once

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>

#include "fuzzing.hpp"
#include "spool/journal_reader.hpp"
#include "spool/spool.hpp"

namespace scratch {

// A directory on the memory file system where there is one; removed with its content.
class Directory {
public:
    Directory() {
        const bool in_memory = std::filesystem::is_directory("/dev/shm");
        std::string path = in_memory ? "/dev/shm/scai-XXXXXX" : "/tmp/scai-XXXXXX";
        FUZZ_CLAIM(::mkdtemp(path.data()) != nullptr);
        path_ = path;
        std::filesystem::create_directory(incoming());
        std::filesystem::create_directory(journal());
    }
    ~Directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    std::string incoming() const { return path_ + "/incoming"; }
    // Whether an instance left bytes there; empty files are the stock of names.
    bool anything_incoming() const {
        for (const auto& entry : std::filesystem::directory_iterator(incoming())) {
            std::error_code gone;
            const auto bytes = std::filesystem::file_size(entry.path(), gone);
            if (!gone && bytes > 0) return true;
        }
        return false;
    }
    std::string journal() const { return path_ + "/journal"; }

private:
    std::string path_;
};

struct Sizes {
    std::size_t slots;
    std::size_t ring_bytes;
    std::size_t inline_bytes_max;
    std::uint64_t segment_bytes;
    bool durable = false;
};

inline scai::SpoolSettings settings_of(const Directory& directory, int rings, const Sizes& sizes) {
    scai::SpoolSettings settings;
    settings.incoming_directory = directory.incoming();
    settings.ring_descriptor = rings;
    settings.slots = sizes.slots;
    settings.ring_bytes = sizes.ring_bytes;
    settings.inline_bytes_max = sizes.inline_bytes_max;
    settings.wanted_tags = {0x00080060, 0x00100010, 0x00100020, 0x0020000d};
    settings.attribute_bytes_max = 64;
    settings.attributes_bytes_max = 256;
    settings.sequence_depth_max = 1024;
    settings.write_bytes = 1u << 20;
    settings.sealed_max = 256;
    settings.sealed_bytes_max = 16u << 20;
    settings.refused_max = 4096;
    settings.journal.directory = directory.journal();
    settings.journal.segment_bytes = sizes.segment_bytes;
    settings.journal.segments_max = 4;
    settings.journal.group_max = 64;
    settings.journal.wait_ms_max = 5000;
    settings.journal.durable = sizes.durable;
    return settings;
}

class Store {
public:
    explicit Store(const Sizes& sizes)
        : rings_(::memfd_create("rings", MFD_CLOEXEC)), sizes_(sizes) {
        const auto bytes = scai::Ring::segment_bytes(sizes.slots, sizes.ring_bytes);
        FUZZ_CLAIM(rings_ && ::ftruncate(rings_.get(), static_cast<off_t>(bytes)) == 0);
        spool_ = std::make_unique<scai::Spool>(settings_of(directory_, rings_.get(), sizes));
    }

    scai::Spool& spool() { return *spool_; }
    const Directory& directory() const { return directory_; }

    // Closes and opens again, as a restart of the worker does.
    void restart() {
        spool_.reset();
        spool_ = std::make_unique<scai::Spool>(settings_of(directory_, rings_.get(), sizes_));
    }

    // The next completions; ends the program when none come.
    std::vector<scai::Completion> wait() {
        for (;;) {
            pollfd waiting{spool_->completion_descriptor(), POLLIN, 0};
            const int ready = ::poll(&waiting, 1, 60'000);
            if (ready < 0 && errno == EINTR) continue;  // libFuzzer's own alarm
            FUZZ_CLAIM(ready == 1);
            auto taken = spool_->completions();
            if (!taken.empty()) return taken;
        }
    }

private:
    Directory directory_;
    scai::Descriptor rings_;
    Sizes sizes_;
    std::unique_ptr<scai::Spool> spool_;
};

}  // namespace scratch
