// Lets the module's definition add DataSetSender.
#pragma once

#include <nanobind/nanobind.h>

namespace scai {

void bind_sender(nanobind::module_& module);

}  // namespace scai
