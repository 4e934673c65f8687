// The Python face of the reception.
#pragma once

#include <nanobind/nanobind.h>

namespace scai {

void bind_reception(nanobind::module_& module);

}  // namespace scai
