// What native/_core.pyi calls "confinement".
#pragma once

#include <nanobind/nanobind.h>

namespace scai {

void bind_confinement(nanobind::module_& module);

}  // namespace scai
