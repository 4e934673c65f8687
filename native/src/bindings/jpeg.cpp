// Signatures of the JPEG Lossless functions for Python; see _core.pyi.
#include "bindings/jpeg.hpp"

#include "bindings/buffer.hpp"
#include "jpeg/lossless.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace nb = nanobind;

namespace scai {
namespace {

void decode_many(nb::sequence frames, nb::handle out, unsigned rows, unsigned columns,
                 unsigned samples, unsigned bits_allocated, unsigned threads) {
    const jpeg::Expected expected{rows, columns, samples, bits_allocated};
    std::vector<Buffer> streams;
    std::vector<std::span<const std::uint8_t>> spans;
    for (nb::handle frame : frames) {
        streams.emplace_back(frame, PyBUF_SIMPLE);
        spans.push_back(streams.back().bytes());
    }
    const Buffer room(out, PyBUF_WRITABLE);
    const nb::gil_scoped_release released;
    jpeg::decode_frames(spans, expected, room.bytes(), std::clamp(threads, 1u, jpeg::threads_max));
}

auto validate_one(nb::handle data) {
    const Buffer stream(data, PyBUF_SIMPLE);
    jpeg::Validation report;
    {
        const nb::gil_scoped_release released;
        report = jpeg::validate(stream.bytes());
    }
    const jpeg::Frame& frame = report.frame;
    return nb::make_tuple(frame.rows, frame.columns, frame.components, frame.precision,
                          report.predictor, report.samples_out_of_range);
}

}  // namespace

void bind_jpeg(nb::module_& module) {
    nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
        try {
            std::rethrow_exception(pointer);
        } catch (const jpeg::JpegUnsupported& error) {
            PyErr_SetString(PyExc_NotImplementedError, error.what());
        } catch (const jpeg::JpegError& error) {
            PyErr_SetString(PyExc_ValueError, error.what());
        }
    });
    module.def("jpeg_lossless_decode_frames", &decode_many, nb::arg("frames"), nb::arg("out"),
               nb::arg("rows"), nb::arg("columns"), nb::arg("samples"), nb::arg("bits_allocated"),
               nb::arg("threads") = 1);
    module.def("jpeg_lossless_validate", &validate_one, nb::arg("data"));
}

}  // namespace scai
