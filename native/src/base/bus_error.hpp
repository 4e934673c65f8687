// A bus error in a mapped file, told in words: the file is shorter than it says, or the disk cannot
// read it.
#pragma once

#include <string>

namespace scai {

// From now on a bus error in the mapping of a file whose path ends in `file` ends the process with
// `status`, after `words` went to standard error as they are. Any other bus error is what it was.
void tell_bus_errors(std::string file, std::string words, int status);

}  // namespace scai
