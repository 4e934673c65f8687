// What lies in a directory, by name.
#pragma once

#include <dirent.h>
#include <memory>
#include <string>
#include <vector>

#include "base/base.hpp"

namespace scai {

// In no order, "." and ".." among them. SystemFailure if it cannot be opened.
inline std::vector<std::string> names_in(const std::string& directory) {
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory.c_str()), ::closedir);
    if (!entries) fail("opening " + directory);
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(entries.get())) names.emplace_back(entry->d_name);
    return names;
}

}  // namespace scai
