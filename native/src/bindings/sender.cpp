// Signatures of what sends and what makes what is sent, for Python; see _core.pyi. Whatever reads a
// file or waits for a peer does so with the interpreter released.
#include "bindings/sender.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>
#include <algorithm>

#include "bindings/buffer.hpp"
#include "outgoing/data_set_sender.hpp"
#include "outgoing/element_run.hpp"
#include "outgoing/round_trip.hpp"
#include "outgoing/fragments.hpp"
#include "outgoing/frame_sender.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace scai {
namespace {

using Lent = nb::ndarray<nb::memview, const std::uint8_t, nb::ndim<1>>;

int code_of(DataSetSender::Sending outcome) {
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

int complete(DataSetSender& self, int socket, int wake, int timeout_ms) {
    const nb::gil_scoped_release released;
    return code_of(self.complete({socket, wake, timeout_ms}));
}

int wait_until_taken(int socket, int wake, int timeout_ms, bool heeds_input) {
    const nb::gil_scoped_release released;
    return code_of(DataSetSender::wait_until_taken({socket, wake, timeout_ms}, heeds_input));
}

nb::tuple ask(int socket, const nb::bytes& request, int timeout_ms, std::size_t bytes_max) {
    const std::span<const std::byte> sending(reinterpret_cast<const std::byte*>(request.c_str()),
                                             request.size());
    RoundTrip done;
    const std::unique_ptr<std::byte[]> answer(new std::byte[bytes_max]);
    {
        const nb::gil_scoped_release released;
        done = round_trip(socket, sending, {answer.get(), bytes_max}, timeout_ms);
    }
    return nb::make_tuple(done.sent, nb::bytes(answer.get(), done.received));
}

int send_frame(FrameSender& self, DataSetSender& sender, int descriptor,
               const std::vector<std::pair<std::uint64_t, std::uint64_t>>& fragments, unsigned rows,
               unsigned columns, unsigned samples, unsigned bits_allocated, int socket, int wake,
               int timeout_ms) {
    const jpeg::Expected expected{rows, columns, samples, bits_allocated};
    const nb::gil_scoped_release released;
    return code_of(self.send(sender, descriptor, fragments, expected, {socket, wake, timeout_ms}));
}

nb::object find(int descriptor, std::uint64_t at, std::uint64_t end, std::size_t items_max) {
    std::optional<Fragments> found;
    {
        const nb::gil_scoped_release released;
        found = find_fragments(descriptor, at, end, items_max);
    }
    if (!found) return nb::none();
    return nb::make_tuple(found->spans, found->behind);
}

void make_run(ElementRun* self, bool explicit_out, bool decodes, std::uint32_t value_max,
              std::vector<std::uint32_t> kept, std::vector<std::uint32_t> stops,
              std::size_t depth_max) {
    std::sort(kept.begin(), kept.end());
    std::sort(stops.begin(), stops.end());
    new (self) ElementRun(
        {explicit_out, decodes, value_max, std::move(kept), std::move(stops), depth_max});
}

nb::tuple pass(ElementRun& self, const nb::bytes& window, std::size_t begin, std::size_t end,
               std::size_t depth, std::uint32_t below) {
    if (begin > end || end > window.size()) throw std::invalid_argument("outside the window");
    const char* const bytes = window.c_str();
    const std::span<const std::byte> data(reinterpret_cast<const std::byte*>(bytes) + begin,
                                          end - begin);
    const std::size_t stopped = begin + self.pass(data, depth, below);
    const auto written = self.written();
    nb::list kept;
    for (const ElementRun::Kept& one : self.kept()) {
        kept.append(nb::make_tuple(one.tag, nb::bytes(bytes + begin + one.at, one.length)));
    }
    return nb::make_tuple(stopped, nb::bytes(written.data(), written.size()), kept);
}

Lent staged(nb::handle_t<DataSetSender> self) {
    const auto bytes = nb::cast<DataSetSender&>(self).staged();
    return Lent(reinterpret_cast<const std::uint8_t*>(bytes.data()), {bytes.size()}, self);
}

}  // namespace

void bind_sender(nb::module_& module) {
    module.attr("SENDING_SENT") = code_of(DataSetSender::Sending::sent);
    module.attr("SENDING_INPUT") = code_of(DataSetSender::Sending::input);
    module.attr("SENDING_WOKEN") = code_of(DataSetSender::Sending::woken);
    module.attr("SENDING_LATE") = code_of(DataSetSender::Sending::late);
    module.attr("SENDING_BROKEN") = code_of(DataSetSender::Sending::broken);
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
        .def("complete", &complete, "socket"_a, "wake"_a, "timeout_ms"_a)
        .def_static("wait_until_taken", &wait_until_taken, "socket"_a, "wake"_a, "timeout_ms"_a,
                    "heeds_input"_a)
        .def("staged", &staged)
        .def("drop_staged", &DataSetSender::drop_staged)
        .def_prop_ro("socket_error", &DataSetSender::socket_error)
        .def_prop_ro("sent_bytes", &DataSetSender::sent_bytes);
    nb::class_<FrameSender>(module, "FrameSender")
        .def(nb::init<std::size_t>(), "frame_bytes_max"_a)
        .def("send", &send_frame, "sender"_a, "descriptor"_a, "fragments"_a, "rows"_a, "columns"_a,
             "samples"_a, "bits_allocated"_a, "socket"_a, "wake"_a, "timeout_ms"_a);
    module.def("round_trip", &ask, "socket"_a, "request"_a, "timeout_ms"_a, "bytes_max"_a);
    module.def("find_fragments", &find, "descriptor"_a, "begin"_a, "end"_a, "items_max"_a);
    nb::class_<ElementRun>(module, "ElementRun")
        .def("__init__", &make_run, "explicit_out"_a, "decodes"_a, "value_max"_a, "kept"_a,
             "stops"_a, "depth_max"_a)
        .def("pass_over", &pass, "window"_a, "begin"_a, "end"_a, "depth"_a, "below"_a);
}

}  // namespace scai
