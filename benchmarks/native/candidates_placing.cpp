// Ways to give a small instance (8.7 kB), durable in the journal already, its file in the tree.
//
// Promises: every variant makes new files of the same bytes; what is not synced here is synced
// outside the time. The first is the product's way (engine/intake/intake.py).
#include "candidates.hpp"

namespace candidates {

constexpr std::size_t instance_bytes = 8702;
constexpr std::size_t series_files = 100;

enum class Form { tree, flat, renamed, synced };

class Placing {
public:
    Placing(const std::string& root, Form form, std::size_t units)
        : form_(form), units_(units), bytes_(memory(whole_pages(instance_bytes))), path_(root) {
        if (::mkdir(path_.c_str(), 0700) != 0) fail("mkdir " + path_);
        directory_ = open_directory(path_);
    }

    Cost run() {
        return cost_of(units_, [this] {
            for (std::size_t unit = 0; unit < units_; ++unit) place(placed_++);
        });
    }

private:
    void place(std::size_t number) {
        std::string name = "instance-" + std::to_string(number) + ".dcm";
        if (form_ != Form::flat) {
            const std::string series = std::to_string(number / series_files);
            if (number % series_files == 0 && ::mkdirat(directory_, series.c_str(), 0700) != 0) {
                fail("mkdir " + series);
            }
            name = series + "/" + name;
        }
        const std::string first = form_ == Form::renamed ? name + ".new" : name;
        constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
        const int file = ::openat(directory_, first.c_str(), flags, 0600);
        if (file < 0) fail("creating " + first);
        write_all(file, bytes_, instance_bytes);
        if (form_ == Form::synced && ::fdatasync(file) != 0) fail("fdatasync");
        if (::close(file) != 0) fail("close");
        if (form_ == Form::renamed &&
            ::renameat(directory_, first.c_str(), directory_, name.c_str()) != 0) {
            fail("renaming " + first);
        }
        if (form_ == Form::synced) sync_series(number / series_files);
    }

    void sync_series(std::size_t number) {
        const int series = open_directory(path_ + "/" + std::to_string(number));
        if (::fsync(series) != 0) fail("fsync of a directory");
        ::close(series);
    }

    Form form_;
    std::size_t units_;
    std::size_t placed_ = 0;
    std::byte* bytes_;
    std::string path_;
    int directory_ = -1;
};

}  // namespace candidates

int main(int count, char** texts) {
    using namespace candidates;
    const Arguments arguments = arguments_of(count, texts);
    const std::string root = arguments.directory + "/";
    Placing tree(root + "tree", Form::tree, arguments.units);
    Placing flat(root + "flat", Form::flat, arguments.units);
    Placing renamed(root + "renamed", Form::renamed, arguments.units);
    Placing synced(root + "synced", Form::synced, std::max<std::size_t>(arguments.units / 10, 1));
    const int directory = open_directory(arguments.directory);
    take_turns({{"tree of series, not synced", [&] { return tree.run(); }},
                {"one flat directory", [&] { return flat.run(); }},
                {"create, then rename", [&] { return renamed.run(); }},
                {"each file and directory synced", [&] { return synced.run(); }}},
               arguments.rounds, [directory] {
                   if (::syncfs(directory) != 0) fail("syncfs");
               });
    return 0;
}
