// Lets the module's definition add the JPEG Lossless functions.
#pragma once

#include <nanobind/nanobind.h>

namespace scai {

void bind_jpeg(nanobind::module_& module);

}  // namespace scai
