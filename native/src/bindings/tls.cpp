// Signatures of TlsServer and TlsSession for Python; see _core.pyi.
#include "bindings/tls.hpp"

#include <malloc.h>
#include <openssl/crypto.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>
#include <array>
#include <cstdlib>

#include "bindings/buffer.hpp"
#include "tls/server.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace scai {
namespace {

std::string text_of(const nb::bytes& bytes) {
    return {bytes.c_str(), bytes.size()};
}

std::vector<std::string> texts_of(const nb::sequence& items) {
    std::vector<std::string> texts;
    for (nb::handle item : items) texts.push_back(text_of(nb::cast<nb::bytes>(item)));
    return texts;
}

ClientAuthentication authentication_of(const std::string& name) {
    if (name == "need") return ClientAuthentication::need;
    if (name == "want") return ClientAuthentication::want;
    if (name == "none") return ClientAuthentication::none;
    throw std::invalid_argument("client authentication is need, want or none, not " + name);
}

void make_server(TlsServer* self, const nb::bytes& key, const nb::sequence& chain,
                 const nb::sequence& trust, std::vector<std::string> tls12,
                 std::vector<std::string> tls13, const std::string& client_authentication,
                 std::size_t read_ahead_bytes, int security_level, int chain_certificates_max) {
    TlsSettings settings{text_of(key),          texts_of(chain),
                         texts_of(trust),       std::move(tls12),
                         std::move(tls13),      authentication_of(client_authentication),
                         read_ahead_bytes,      security_level,
                         chain_certificates_max};
    // However it ends: our copy of the key.
    struct Wiped {
        std::string& text;
        ~Wiped() { OPENSSL_cleanse(text.data(), text.size()); }
    } const wiped{settings.key};
    new (self) TlsServer(settings);
}

// Python shares empty bytes and those of one byte among everybody.
void wipe(const nb::bytes& secret) {
    if (secret.size() < 2) return;
    OPENSSL_cleanse(PyBytes_AS_STRING(secret.ptr()), secret.size());
}

std::size_t send(TlsSession& self, nb::handle data) {
    const Buffer bytes(data, PyBUF_SIMPLE);
    const auto span = bytes.bytes();
    return self.send({reinterpret_cast<const std::byte*>(span.data()), span.size()});
}

// What the C library keeps of freed memory for this thread, by size, and does not overwrite as it
// does with larger pieces (glibc: seven of each size up to 1032 bytes).
constexpr std::size_t kept_bytes_max = 1032;
constexpr std::size_t kept_step = 16;
constexpr std::size_t kept_of_each = 7;
constexpr int freed_byte = 0x5c;

void overwrite_freed(bool on) {
#ifdef M_PERTURB
    static_cast<void>(::mallopt(M_PERTURB, on ? freed_byte : 0));
#endif
    if (on) return;
    std::array<void*, kept_of_each> taken{};
    for (std::size_t size = kept_step / 2; size <= kept_bytes_max; size += kept_step) {
        for (void*& piece : taken) {
            piece = std::malloc(size);
            if (piece != nullptr) OPENSSL_cleanse(piece, size);
        }
        for (void* piece : taken) std::free(piece);
    }
}

}  // namespace

void bind_tls(nb::module_& module) {
    module.def("wipe", &wipe, nb::arg("secret"));
    module.def("overwrite_freed", &overwrite_freed, nb::arg("on"));
    module.attr("HANDSHAKE_DONE") = static_cast<int>(Handshake::done);
    module.attr("HANDSHAKE_READS") = static_cast<int>(Handshake::wants_read);
    module.attr("HANDSHAKE_WRITES") = static_cast<int>(Handshake::wants_write);
    module.attr("HANDSHAKE_FAILED") = static_cast<int>(Handshake::failed);
    nb::class_<TlsSession>(module, "TlsSession")
        .def(
            "handshake", [](TlsSession& self) { return static_cast<int>(self.handshake()); },
            nb::call_guard<nb::gil_scoped_release>())
        .def("widen", &TlsSession::widen)
        .def("send", &send, "data"_a)
        .def("say_end", &TlsSession::say_end)
        .def_prop_ro("fault",
                     [](const TlsSession& self) {
                         return nb::make_tuple(name_of(self.fault().kind), self.fault().text);
                     })
        .def_prop_ro("alert", &TlsSession::alert)
        .def_prop_ro("version", &TlsSession::version)
        .def_prop_ro("suite", &TlsSession::suite)
        .def_prop_ro("peer_certificate", [](const TlsSession& self) {
            const PeerCertificate found = self.peer_certificate();
            return nb::make_tuple(nb::steal<nb::str>(PyUnicode_DecodeUTF8(
                                      found.subject.data(),
                                      static_cast<Py_ssize_t>(found.subject.size()), "replace")),
                                  found.sha256);
        });
    nb::class_<TlsServer>(module, "TlsServer")
        .def("__init__", &make_server, "key"_a, "chain"_a, "trust"_a, "tls12"_a, "tls13"_a,
             "client_authentication"_a, "read_ahead_bytes"_a, "security_level"_a,
             "chain_certificates_max"_a)
        .def("open", &TlsServer::open, "descriptor"_a, nb::keep_alive<0, 1>())
        .def_prop_ro("suites", &TlsServer::suites);
}

}  // namespace scai
