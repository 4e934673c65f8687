// Any file is looked at for a seal, and a sealed file that was changed: only one that is as it was
// sealed is believed. Input: {u8 kind, u8 prologue, u8 attributes, u16 at, u8 change, bytes ...};
// kind even: the bytes are the file; odd: they are sealed, then one byte of the file is changed.
#include <fcntl.h>
#include <unistd.h>
#include <cstdlib>
#include <filesystem>

#include "base/checksum.hpp"
#include "fuzzing.hpp"
#include "spool/seal.hpp"

namespace {

struct Directory {
    Directory() {
        const bool in_memory = std::filesystem::is_directory("/dev/shm");
        path = in_memory ? "/dev/shm/scai-XXXXXX" : "/tmp/scai-XXXXXX";
        FUZZ_CLAIM(::mkdtemp(path.data()) != nullptr);
        descriptor = scai::Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    ~Directory() { std::filesystem::remove_all(path); }
    std::string path;
    scai::Descriptor descriptor;
};

void write_file(const Directory& directory, std::span<const std::byte> bytes) {
    constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    const scai::Descriptor file(::openat(directory.descriptor.get(), "file", flags, 0600));
    FUZZ_CLAIM(::write(file.get(), bytes.data(), bytes.size()) ==
               static_cast<ssize_t>(bytes.size()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    static const Directory directory;
    if (size < 6) return 0;
    const auto bytes = std::as_bytes(std::span(input + 6, size - 6));
    if (input[0] % 2 == 0) {
        write_file(directory, bytes);
        FUZZ_CLAIM(!scai::find_seal(directory.descriptor.get(), "file", 1u << 20, true));
        return 0;
    }
    const std::string prologue(input[1], 'p');
    const std::vector<std::byte> attributes(input[2] * 20u, std::byte{7});
    scai::PageBuffer buffer;
    const auto sealed = scai::sealed_tail(buffer, bytes, "file", bytes.size(), scai::crc32c(bytes),
                                          {42, prologue, attributes});
    std::vector<std::byte> file(sealed.begin(), sealed.end());
    const std::size_t at = (input[3] * 256u + input[4]) % file.size();
    // The zeros between the text and the foot are nobody's.
    const std::size_t text_end = bytes.size() + prologue.size() + attributes.size();
    const bool counts = at < text_end || at >= file.size() - sizeof(scai::SealFoot);
    file[at] ^= std::byte{input[5]};
    write_file(directory, file);
    const auto found = scai::find_seal(directory.descriptor.get(), "file", 1u << 20, true);
    FUZZ_CLAIM(found.has_value() == (input[5] == 0 || !counts));
    if (!found) return 0;
    FUZZ_CLAIM(found->number == 42 && found->file_bytes == bytes.size());
    FUZZ_CLAIM(found->prologue == prologue && found->attributes == attributes);
    return 0;
}
