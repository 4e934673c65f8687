// A death of reading the index, told in words. LMDB maps its file into memory and believes what its
// pages say: a file that is shorter, or that the disk cannot read, is a bus error; a damaged page
// is a wild address, or an abort.
#pragma once

#include <string>

namespace scai {

// From now on a bus error in the mapping of a file whose path ends in `file`, and a crash within
// LMDB or of what it called, end the process with `status`, after `words` went to standard error as
// they are. Any other crash is what it was.
void tell_index_crashes(std::string file, std::string words, int status);

}  // namespace scai
