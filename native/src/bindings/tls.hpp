// Lets the module's definition add the secured side of a listener.
#pragma once

#include <nanobind/nanobind.h>

namespace scai {

void bind_tls(nanobind::module_& module);

}  // namespace scai
