// Signatures of DataSetSender for Python; see _core.pyi. Whatever reads a file or waits for a peer
// does so with the interpreter released.
#include "sender_bindings.hpp"

#include <nanobind/ndarray.h>

#include "buffer_bindings.hpp"
#include "data_set_sender.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace scai {
namespace {

using Lent = nb::ndarray<nb::memview, const std::uint8_t, nb::ndim<1>>;

int code_of(DataSetSender::Outcome outcome) {
    return static_cast<int>(outcome);
}

void begin(DataSetSender& self, std::uint8_t context_id, std::size_t pdu_bytes_max,
           nb::handle command_set) {
    const Buffer buffer(command_set, PyBUF_SIMPLE);
    self.begin(context_id, pdu_bytes_max, std::as_bytes(buffer.bytes()));
}

std::size_t append(DataSetSender& self, nb::handle data) {
    const Buffer buffer(data, PyBUF_SIMPLE);
    return self.append(std::as_bytes(buffer.bytes()));
}

int flush(DataSetSender& self, int socket, int wake, int timeout_ms) {
    const nb::gil_scoped_release released;
    return code_of(self.flush({socket, wake, timeout_ms}));
}

int send_file(DataSetSender& self, int descriptor, std::uint64_t offset, std::uint64_t length,
              int socket, int wake, int timeout_ms) {
    const nb::gil_scoped_release released;
    return code_of(self.send_file(descriptor, offset, length, {socket, wake, timeout_ms}));
}

int wait_until_taken(int socket, int wake, int timeout_ms, bool heeds_input) {
    const nb::gil_scoped_release released;
    return code_of(DataSetSender::wait_until_taken({socket, wake, timeout_ms}, heeds_input));
}

Lent staged(nb::handle_t<DataSetSender> self) {
    const auto bytes = nb::cast<DataSetSender&>(self).staged();
    return Lent(reinterpret_cast<const std::uint8_t*>(bytes.data()), {bytes.size()}, self);
}

}  // namespace

void bind_sender(nb::module_& module) {
    module.attr("SENDING_SENT") = code_of(DataSetSender::Outcome::sent);
    module.attr("SENDING_INPUT") = code_of(DataSetSender::Outcome::input);
    module.attr("SENDING_WOKEN") = code_of(DataSetSender::Outcome::woken);
    module.attr("SENDING_LATE") = code_of(DataSetSender::Outcome::late);
    module.attr("SENDING_BROKEN") = code_of(DataSetSender::Outcome::broken);
    nb::class_<DataSetSender>(module, "DataSetSender")
        .def(nb::init<std::size_t>(), "buffer_bytes"_a)
        .def("begin", &begin, "context_id"_a, "pdu_bytes_max"_a, "command_set"_a)
        .def("append", &append, "data"_a)
        .def("append_file", &DataSetSender::append_file, "descriptor"_a, "offset"_a, "length"_a,
             nb::call_guard<nb::gil_scoped_release>())
        .def("finish", &DataSetSender::finish)
        .def("flush", &flush, "socket"_a, "wake"_a, "timeout_ms"_a)
        .def("send_file", &send_file, "descriptor"_a, "offset"_a, "length"_a, "socket"_a, "wake"_a,
             "timeout_ms"_a)
        .def_static("wait_until_taken", &wait_until_taken, "socket"_a, "wake"_a, "timeout_ms"_a,
                    "heeds_input"_a)
        .def("staged", &staged)
        .def("drop_staged", &DataSetSender::drop_staged)
        .def_prop_ro("socket_error", &DataSetSender::socket_error)
        .def_prop_ro("sent_bytes", &DataSetSender::sent_bytes);
}

}  // namespace scai
