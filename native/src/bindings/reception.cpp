// Signatures of Reception and Inlet for Python; see _core.pyi.
#include "bindings/reception.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <optional>

#include "bindings/buffer.hpp"
#include "reception/reception.hpp"
#include "reception/socket_stream.hpp"
#include "tls/session.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace scai {
namespace {

// An inlet upon a socket has nobody else to own its stream.
struct OwnInlet {
    OwnInlet(Reception& reception, PduCutter& cutter, int descriptor)
        : socket(std::in_place, descriptor),
          inlet(reception, reception.next_key(), cutter, *socket) {}
    OwnInlet(Reception& reception, PduCutter& cutter, TlsSession& session)
        : inlet(reception, reception.next_key(), cutter, session) {}

    std::optional<SocketStream> socket;
    Inlet inlet;
};

using HistogramAt = std::pair<std::size_t, std::vector<double>>;

void make_reception(Reception* self, Spool& spool, nb::handle counters, std::size_t received_bytes,
                    std::size_t ring_full, std::size_t stored_instances, std::size_t stored_bytes,
                    std::size_t store_success, std::size_t journal_records,
                    std::size_t journal_groups, std::size_t last_received, std::size_t store_fault,
                    std::size_t durable_sequence, std::size_t acknowledged_sequence,
                    HistogramAt commit_duration, HistogramAt store_duration, std::size_t turn_bytes,
                    std::size_t event_bytes, std::uint64_t turn_us, std::uint64_t progress_bytes) {
    const Buffer buffer(counters, PyBUF_WRITABLE);  // `counters` itself is kept alive with us
    const auto bytes = buffer.bytes();
    TallySlots slots{received_bytes,
                     ring_full,
                     stored_instances,
                     stored_bytes,
                     store_success,
                     journal_records,
                     journal_groups,
                     last_received,
                     store_fault,
                     durable_sequence,
                     acknowledged_sequence,
                     {commit_duration.first, std::move(commit_duration.second)},
                     {store_duration.first, std::move(store_duration.second)}};
    const std::span<std::uint64_t> words(reinterpret_cast<std::uint64_t*>(bytes.data()),
                                         bytes.size() / sizeof(std::uint64_t));
    new (self)
        Reception(spool, Tally(words, std::move(slots)),
                  {turn_bytes, event_bytes, turn_us * 1000, progress_bytes});
}

nb::tuple take_turn(Reception& self) {
    Turn turn;
    {
        const nb::gil_scoped_release released;
        turn = self.turn();
    }
    nb::list notices;
    for (const Notice& notice : turn.notices) {
        const bool carries = notice.kind == Notice::Kind::unsent;
        nb::object what = carries ? nb::object(nb::bytes(notice.rest.data(), notice.rest.size()))
                                  : nb::cast(notice.number);
        notices.append(nb::make_tuple(static_cast<int>(notice.kind), notice.key, what));
    }
    nb::list lines;
    for (const std::string& line : turn.lines) lines.append(nb::bytes(line.data(), line.size()));
    return nb::make_tuple(turn.stored, turn.settled, notices, lines);
}

}  // namespace

void bind_reception(nb::module_& module) {
    module.attr("NOTICE_RECEIVED") = static_cast<int>(Notice::Kind::received);
    module.attr("NOTICE_STORED") = static_cast<int>(Notice::Kind::stored);
    module.attr("NOTICE_FAILED") = static_cast<int>(Notice::Kind::failed);
    module.attr("NOTICE_UNSENT") = static_cast<int>(Notice::Kind::unsent);
    module.attr("NOTICE_FREED") = static_cast<int>(Notice::Kind::freed);
    nb::class_<Reception>(module, "Reception")
        .def("__init__", &make_reception, "spool"_a, "counters"_a, nb::kw_only(),
             "received_bytes"_a, "ring_full"_a, "stored_instances"_a, "stored_bytes"_a,
             "store_success"_a, "journal_records"_a, "journal_groups"_a, "last_received"_a,
             "store_fault"_a, "durable_sequence"_a, "acknowledged_sequence"_a, "commit_duration"_a,
             "store_duration"_a, "turn_bytes"_a, "event_bytes"_a, "turn_us"_a, "progress_bytes"_a,
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
        .def_prop_ro("descriptor", &Reception::descriptor)
        .def("log", &Reception::log, "any"_a)
        .def("turn", &take_turn);
    nb::class_<OwnInlet>(module, "Inlet")
        .def(nb::init<Reception&, PduCutter&, int>(), "reception"_a, "cutter"_a, "source"_a,
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
        .def(nb::init<Reception&, PduCutter&, TlsSession&>(), "reception"_a, "cutter"_a, "source"_a,
             nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>())
        .def_prop_ro("key", [](const OwnInlet& self) { return self.inlet.key(); })
        .def_prop_ro("quiet_since",
                     [](const OwnInlet& self) {
                         return static_cast<double>(self.inlet.quiet_since()) * 1e-9;
                     })
        .def_prop_ro("message",
                     [](const OwnInlet& self) {
                         const auto [since, bytes] = self.inlet.message();
                         return std::pair(static_cast<double>(since) * 1e-9, bytes);
                     })
        .def_prop_ro("progress",
                     [](const OwnInlet& self) {
                         const auto [last, bytes, stored] = self.inlet.progress();
                         return nb::make_tuple(static_cast<double>(last) * 1e-9, bytes, stored);
                     })
        .def(
            "attach", [](OwnInlet& self, std::size_t slot) { self.inlet.attach(slot); }, "slot"_a)
        .def(
            "log_as",
            [](OwnInlet& self, const nb::bytes& before, const nb::bytes& after) {
                self.inlet.log_as({{before.c_str(), before.size()}, {after.c_str(), after.size()}});
            },
            "before"_a, "after"_a)
        .def(
            "receive", [](OwnInlet& self) { return static_cast<int>(self.inlet.receive()); },
            nb::call_guard<nb::gil_scoped_release>())
        .def("hold", [](OwnInlet& self) { self.inlet.hold(); })
        .def("release", [](OwnInlet& self) { self.inlet.release(); })
        .def("leave", [](OwnInlet& self) { self.inlet.leave(); });
}

}  // namespace scai
