// The Python face of what a process gives up, and of how it ends. No logic.
#include "bindings/confinement.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "base/index_crash.hpp"
#include "base/confinement.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace scai {

void bind_confinement(nb::module_& module) {
    module.def("hand_on_no_capability", &hand_on_no_capability);
    module.def("drop_privileges", &drop_privileges);
    module.def(
        "restrict_files",
        [](const std::vector<std::string>& readable, const std::vector<std::string>& writable) {
            return restrict_files(readable, writable);
        },
        "readable"_a, "writable"_a);
    module.def(
        "deny_calls",
        [](bool outside) { return deny_calls(outside ? Denied::outside : Denied::kernel); },
        "outside"_a);
    module.def("tell_index_crashes", &tell_index_crashes, "file"_a, "words"_a, "status"_a);
}

}  // namespace scai
