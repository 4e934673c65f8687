// The Python face of the native layer: signatures, GIL release, conversion. No logic.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/checksum.hpp"
#include "spool/incoming.hpp"
#include "reception/pdu_cutter.hpp"
#include "spool/journal_reader.hpp"
#include "spool/journal_repair.hpp"
#include "bindings/confinement.hpp"
#include "bindings/jpeg.hpp"
#include "bindings/reception.hpp"
#include "bindings/sender.hpp"
#include "reception/socket_stream.hpp"
#include "spool/spool.hpp"
#include "spool/tag_scanner.hpp"
#include "bindings/tls.hpp"
#include "tls/session.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

std::span<const std::byte> view(const nb::bytes& bytes) {
    return {reinterpret_cast<const std::byte*>(bytes.c_str()), bytes.size()};
}

std::string text_of(const nb::bytes& bytes) {
    return {bytes.c_str(), bytes.size()};
}

nb::bytes to_bytes(std::span<const std::byte> bytes) {
    return nb::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

struct EventToPython {
    nb::object operator()(const scai::PduEvent& event) const {
        return nb::make_tuple(0, int{event.type}, to_bytes(event.body));
    }
    nb::object operator()(const scai::CommandEvent& event) const {
        return nb::make_tuple(1, int{event.context}, to_bytes(event.command_set));
    }
    nb::object operator()(const scai::DatasetEvent& event) const {
        return nb::make_tuple(2, int{event.context}, event.bytes);
    }
    nb::object operator()(const scai::FaultEvent& event) const {
        return nb::make_tuple(3, static_cast<int>(event.reason), event.text);
    }
};

nb::tuple scan_tags(const nb::bytes& data, bool explicit_vr, std::vector<std::uint32_t> wanted_tags,
                    std::size_t attribute_bytes_max, std::size_t attributes_bytes_max,
                    std::size_t sequence_depth_max, std::size_t chunk_bytes) {
    const scai::WantedTags wanted(std::move(wanted_tags));
    scai::TagScanner scanner;
    scanner.start(&wanted, explicit_vr, attribute_bytes_max, attributes_bytes_max,
                  sequence_depth_max);
    auto left = view(data);
    const std::size_t step = chunk_bytes == 0 ? left.size() : chunk_bytes;
    while (!left.empty() && scanner.outcome() == scai::TagScanner::Progress::more) {
        const auto piece = left.first(std::min(step, left.size()));
        scanner.feed(piece);
        left = left.subspan(piece.size());
    }
    const auto outcome = scanner.outcome();
    const int code = outcome == scai::TagScanner::Progress::done        ? 0
                     : outcome == scai::TagScanner::Progress::malformed ? 1
                                                                       : 2;
    return nb::make_tuple(to_bytes(scanner.row()), code);
}

void bind_store_lane(nb::class_<scai::PduCutter>& cutter) {
    cutter
        .def(
            "permit_store",
            [](scai::PduCutter& self, std::uint8_t context, const nb::bytes& sop_class,
               bool explicit_vr, const nb::bytes& head_before, std::uint32_t head_group_length,
               const nb::bytes& head_between, const nb::bytes& head_after,
               const nb::bytes& arrival_before, const nb::bytes& arrival_middle,
               const nb::bytes& arrival_after, const nb::bytes& response_sop_class) {
                self.permit_store(
                    context,
                    {text_of(sop_class), explicit_vr, text_of(head_before), head_group_length,
                     text_of(head_between), text_of(head_after), text_of(arrival_before),
                     text_of(arrival_middle), text_of(arrival_after), text_of(response_sop_class)});
            },
            "context_id"_a, "sop_class"_a, "explicit_vr"_a, "head_before"_a, "head_group_length"_a,
            "head_between"_a, "head_after"_a, "arrival_before"_a, "arrival_middle"_a,
            "arrival_after"_a, "response_sop_class"_a)
        .def("reveal_store",
             [](scai::PduCutter& self) -> nb::object {
                 const auto store = self.reveal_store();
                 if (!store) return nb::none();
                 return nb::make_tuple(int{store->context}, to_bytes(store->command_set),
                                       store->dataset_bytes, store->ended);
             })
        .def("finish_store", [](scai::PduCutter& self) -> nb::object {
            const auto finished = self.finish_store();
            if (!finished) return nb::none();
            const auto& store = finished->store;
            return nb::make_tuple(nb::bytes(finished->response.data(), finished->response.size()),
                                  store.sop_instance, store.began_ns, store.ended_ns);
        });
}

int receive(scai::PduCutter& self, nb::handle source, std::size_t budget) {
    if (PyLong_Check(source.ptr())) {
        scai::SocketStream socket(nb::cast<int>(source));
        const nb::gil_scoped_release released;
        return static_cast<int>(self.receive(socket, budget));
    }
    auto& session = nb::cast<scai::TlsSession&>(source);
    const nb::gil_scoped_release released;
    return static_cast<int>(self.receive(session, budget));
}

void bind_cutter(nb::module_& module) {
    module.attr("RECEIVED_EVENT") = 0;
    module.attr("RECEIVED_AGAIN") = 1;
    module.attr("RECEIVED_BUDGET") = 2;
    module.attr("RECEIVED_FULL") = 3;
    module.attr("RECEIVED_END") = 4;
    module.attr("RECEIVED_BROKEN") = 5;
    module.attr("EVENT_PDU") = 0;
    module.attr("EVENT_COMMAND") = 1;
    module.attr("EVENT_DATASET") = 2;
    module.attr("EVENT_FAULT") = 3;
    nb::class_<scai::PduCutter> cutter(module, "PduCutter");
    bind_store_lane(cutter);
    cutter
        .def(
            "__init__",
            [](scai::PduCutter* self, std::uint32_t associate, std::uint32_t command,
               std::uint32_t pdata, std::uint32_t advertised, std::size_t uid_characters) {
                new (self)
                    scai::PduCutter({associate, command, pdata, advertised, uid_characters});
            },
            "associate_bytes_max"_a, "command_bytes_max"_a, "pdata_bytes_max"_a,
            "pdata_bytes_advertised"_a, "uid_characters_max"_a)
        .def("attach", &scai::PduCutter::attach, "spool"_a, "slot"_a, nb::keep_alive<1, 2>())
        .def("expect_command", &scai::PduCutter::expect_command)
        .def("expect_data", &scai::PduCutter::expect_data, "context_id"_a)
        .def("receive", &receive, "source"_a, "budget"_a)
        .def(
            "feed",
            [](scai::PduCutter& self, const nb::bytes& data) {
                return static_cast<int>(self.feed(view(data)));
            },
            "data"_a)
        .def("next_event",
             [](scai::PduCutter& self) -> nb::object {
                 const auto event = self.next_event();
                 return event ? std::visit(EventToPython{}, *event) : nb::none();
             })
        .def_prop_ro("received_bytes", &scai::PduCutter::received_bytes)
        .def_prop_ro("copied_bytes", &scai::PduCutter::copied_bytes)
        .def_prop_ro("pdata_pdus_oversized", &scai::PduCutter::oversized_pdus);
}

// A bound by its name in engine/limits.py, which says each of them once.
std::size_t limit(nb::handle limits, const char* name) {
    return nb::cast<std::size_t>(limits.attr(name));
}

void make_spool(scai::Spool* self, std::string incoming_directory, std::string journal_directory,
                int ring_descriptor, std::size_t slots, std::size_t ring_bytes,
                std::size_t inline_bytes_max, std::uint64_t segment_bytes, std::size_t segments_max,
                std::uint64_t journal_wait_ms_max, bool durable,
                std::vector<std::uint32_t> wanted_tags, nb::handle limits) {
    scai::SpoolSettings settings;
    settings.incoming_directory = std::move(incoming_directory);
    settings.ring_descriptor = ring_descriptor;
    settings.slots = slots;
    settings.ring_bytes = ring_bytes;
    settings.inline_bytes_max = inline_bytes_max;
    settings.wanted_tags = std::move(wanted_tags);
    settings.attribute_bytes_max = limit(limits, "attribute_bytes_max");
    settings.attributes_bytes_max = limit(limits, "attributes_bytes_max");
    settings.sequence_depth_max = limit(limits, "sequence_depth_max");
    settings.write_bytes = limit(limits, "write_bytes");
    settings.sealed_max = limit(limits, "sealed_instances_max");
    settings.sealed_bytes_max = limit(limits, "sealed_bytes_max");
    settings.refused_max = limit(limits, "refused_files_max");
    settings.journal = {std::move(journal_directory),
                        segment_bytes,
                        segments_max,
                        limit(limits, "journal_group_max"),
                        journal_wait_ms_max,
                        durable};
    nb::gil_scoped_release release;
    new (self) scai::Spool(std::move(settings));
}

void bind_spool(nb::module_& module) {
    module.attr("COMPLETION_STORED") = static_cast<int>(scai::CompletionKind::stored);
    module.attr("COMPLETION_FAILED") = static_cast<int>(scai::CompletionKind::failed);
    module.attr("COMPLETION_SPACE") = static_cast<int>(scai::CompletionKind::space);
    module.attr("COMPLETION_FREE") = static_cast<int>(scai::CompletionKind::free);
    module.attr("COMPLETION_SETTLED") = static_cast<int>(scai::CompletionKind::settled);
    module.def("ring_segment_bytes", &scai::Ring::segment_bytes, "slots"_a, "ring_bytes"_a);
    nb::class_<scai::Spool>(module, "Spool")
        .def("__init__", &make_spool, "incoming_directory"_a, "journal_directory"_a,
             "ring_descriptor"_a, "slots"_a, "ring_bytes"_a, "inline_bytes_max"_a,
             "segment_bytes"_a, "segments_max"_a, "journal_wait_ms_max"_a, "durable"_a,
             "wanted_tags"_a, "limits"_a)
        .def_prop_ro("completion_descriptor", &scai::Spool::completion_descriptor)
        .def_prop_ro("durable_sequence", &scai::Spool::durable_sequence)
        .def_prop_ro("acknowledged_sequence", &scai::Spool::acknowledged_sequence)
        .def(
            "begin",
            [](scai::Spool& self, std::size_t slot, const nb::bytes& head,
               const nb::bytes& prologue, bool explicit_vr) {
                self.begin(slot, {head.c_str(), head.size()}, {prologue.c_str(), prologue.size()},
                           explicit_vr);
            },
            "slot"_a, "head"_a, "prologue"_a, "explicit_vr"_a)
        .def("admit", &scai::Spool::admit, "any"_a)
        .def_prop_ro("unflushed", &scai::Spool::unflushed)
        .def("flush", &scai::Spool::flush)
        .def("settle", &scai::Spool::settle)
        .def("discard", &scai::Spool::discard, "slot"_a)
        .def("cancel", &scai::Spool::cancel, "slot"_a)
        .def("completions",
             [](scai::Spool& self) {
                 nb::list list;
                 for (const auto& done : self.completions()) {
                     list.append(nb::make_tuple(static_cast<int>(done.kind), done.slot, done.code,
                                                done.file_bytes, done.sequence));
                 }
                 return list;
             })
        .def("recovery",
             [](const scai::Spool& self) {
                 const auto found = self.recovery();
                 return nb::make_tuple(found.records, found.torn, found.removed, found.adopted);
             })
        .def("close", &scai::Spool::close, nb::call_guard<nb::gil_scoped_release>());
}

constexpr std::int64_t lost_records = -1;

nb::object damage_of(const std::string& directory, std::uint64_t segment_bytes) {
    const auto found = scai::examine_journal(directory, segment_bytes);
    if (!found) return nb::none();
    nb::list ranges;
    for (const auto& range : found->lost) ranges.append(nb::make_tuple(range.first, range.last));
    return nb::make_tuple(scai::name_of(found->found), found->segment.name, found->byte, ranges);
}

void bind_journal_reader(nb::module_& module) {
    module.attr("LOST_RECORDS") = lost_records;
    nb::class_<scai::JournalReader>(module, "JournalReader")
        .def(nb::init<std::string, std::uint64_t>(), "journal_directory"_a, "next_sequence"_a,
             nb::call_guard<nb::gil_scoped_release>())
        .def(
            "read",
            [](scai::JournalReader& self, std::uint64_t durable_sequence, std::size_t count) {
                std::vector<scai::JournalRecord> records;
                {
                    nb::gil_scoped_release release;
                    records = self.read(durable_sequence, count);
                }
                nb::list list;
                for (const auto& record : records) {
                    list.append(nb::make_tuple(
                        record.sequence, nb::bytes(record.prologue.data(), record.prologue.size()),
                        nb::bytes(record.attributes.data(), record.attributes.size()), record.name,
                        record.file_bytes, record.file_crc,
                        record.lost > 0 ? lost_records
                                        : static_cast<std::int64_t>(record.inline_offset)));
                }
                return list;
            },
            "durable_sequence"_a, "count"_a)
        .def("place_inline", &scai::JournalReader::place_inline, "inline_offset"_a, "file_bytes"_a,
             "path"_a, "durable"_a, nb::call_guard<nb::gil_scoped_release>())
        .def("release", &scai::JournalReader::release, "before_sequence"_a)
        .def_prop_ro("next_sequence", &scai::JournalReader::next_sequence);
    module.def(
        "adopt_sealed",
        [](std::string journal_directory, std::uint64_t segment_bytes, std::size_t segments_max,
           bool durable, const std::string& incoming_directory, nb::handle limits,
           std::uint64_t lock_wait_ms) {
            const std::size_t group_max = limit(limits, "journal_group_max");
            const std::size_t sealed_bytes_max = limit(limits, "sealed_bytes_max");
            const nb::gil_scoped_release released;
            return scai::adopt_sealed({std::move(journal_directory), segment_bytes, segments_max,
                                       group_max, 0, durable, lock_wait_ms},
                                      incoming_directory, sealed_bytes_max);
        },
        "journal_directory"_a, "segment_bytes"_a, "segments_max"_a, "durable"_a,
        "incoming_directory"_a, "limits"_a, "lock_wait_ms"_a);
    module.def("journal_damage", &damage_of, "journal_directory"_a, "segment_bytes"_a);
    module.def(
        "journal_last_sequence",
        [](const std::string& directory) {
            scai::JournalReader reader(directory, 0);
            while (!reader.read(UINT64_MAX, 1024).empty()) {
            }
            return reader.next_sequence() - 1;
        },
        "journal_directory"_a, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

NB_MODULE(_core, module) {
    nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
        try {
            std::rethrow_exception(thrown);
        } catch (const scai::SystemFailure& failure) {
            errno = failure.code();
            PyErr_SetFromErrnoWithFilename(PyExc_OSError, failure.what());
        }
    });
    bind_cutter(module);
    bind_spool(module);
    scai::bind_reception(module);
    bind_journal_reader(module);
    scai::bind_jpeg(module);
    scai::bind_tls(module);
    scai::bind_sender(module);
    scai::bind_confinement(module);
    module.def("scan_tags", &scan_tags, "data"_a, "explicit_vr"_a, "wanted_tags"_a,
               "attribute_bytes_max"_a, "attributes_bytes_max"_a, "sequence_depth_max"_a,
               "chunk_bytes"_a = 0);
    module.def(
        "crc32c",
        [](const nb::bytes& data, std::uint32_t seed) { return scai::crc32c(view(data), seed); },
        "data"_a, "seed"_a = 0);
}
