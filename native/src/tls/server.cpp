// Setting up an SSL_CTX, and looking at what came of it. See tls/server.hpp.
#include "tls/server.hpp"

#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdexcept>

namespace scai {

namespace {

// Elliptic curves of 256 bits or more, and the groups of RFC 7919 for TLS 1.3.
constexpr char groups[] = "X25519:P-256:P-384:P-521:X448:ffdhe2048:ffdhe3072:ffdhe4096";
// Of TLS 1.2, where the server chooses: RFC 7919's, which clients that know names recognize.
constexpr char dh_group[] = "ffdhe2048";

[[noreturn]] void refuse(const std::string& what) {
    const unsigned long code = ERR_peek_error();
    const char* words = ERR_reason_error_string(code);
    ERR_clear_error();
    throw std::invalid_argument(what + (words != nullptr ? std::string(": ") + words : ""));
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ":") + name;
    return text;
}

struct FreeX509 {
    void operator()(X509* certificate) const noexcept { X509_free(certificate); }
};
using Certificate = std::unique_ptr<X509, FreeX509>;

Certificate parse_certificate(const std::string& der) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    if (!certificate) refuse("a certificate cannot be read");
    return certificate;
}

int verified(int well, X509_STORE_CTX* context) {
    if (well != 1) {
        const int index = SSL_get_ex_data_X509_STORE_CTX_idx();
        const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(context, index));
        TlsSession::of(ssl).note_verification(context);
    }
    return well;
}

void observe(const SSL* ssl, int where, int value) {
    if ((where & SSL_CB_ALERT) != 0) {
        TlsSession::of(ssl).note_alert((where & SSL_CB_WRITE) != 0, value);
    }
}

std::vector<std::string> names_of(const STACK_OF(SSL_CIPHER) * ciphers) {
    std::vector<std::string> names;
    for (int at = 0; at < sk_SSL_CIPHER_num(ciphers); ++at) {
        names.emplace_back(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(ciphers, at)));
    }
    return names;
}

}  // namespace

TlsServer::TlsServer(const TlsSettings& settings)
    : context_(SSL_CTX_new(TLS_server_method())), read_ahead_bytes_(settings.read_ahead_bytes) {
    if (!context_) refuse("TLS cannot be set up");
    ERR_clear_error();
    SSL_CTX_set_security_level(context_.get(), settings.security_level);
    set_versions(settings);
    set_suites(settings);
    set_key_exchange();
    set_identity(settings);
    set_trust(settings);
    SSL_CTX_set_info_callback(context_.get(), observe);
    verify(settings);
}

void TlsServer::set_versions(const TlsSettings& settings) {
    SSL_CTX* context = context_.get();
    const int most = settings.tls13.empty() ? TLS1_2_VERSION : TLS1_3_VERSION;
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, most) != 1) {
        refuse("the TLS versions cannot be set");
    }
    // The machine's own OpenSSL configuration may have set anything before us.
    SSL_CTX_clear_options(context, SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION |
                                       SSL_OP_ALLOW_CLIENT_RENEGOTIATION | SSL_OP_NO_TLSv1_2 |
                                       SSL_OP_NO_TLSv1_3 | SSL_OP_ENABLE_KTLS |
                                       SSL_OP_PRIORITIZE_CHACHA);
    // No tickets: unread ones in a peer's buffer turn its close into a reset, and associations are
    // too long for resumption to be of use.
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

void TlsServer::set_suites(const TlsSettings& settings) {
    if (SSL_CTX_set_cipher_list(context_.get(), joined(settings.tls12).c_str()) != 1) {
        refuse("the suites of TLS 1.2 cannot be set");
    }
    if (SSL_CTX_set_ciphersuites(context_.get(), joined(settings.tls13).c_str()) != 1) {
        refuse("the suites of TLS 1.3 cannot be set");
    }
}

// Without parameters the DHE suites are dead, and nothing says so.
void TlsServer::set_key_exchange() {
    if (SSL_CTX_set1_groups_list(context_.get(), groups) != 1) refuse("the groups cannot be set");
    std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> maker(
        EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr), EVP_PKEY_CTX_free);
    EVP_PKEY* parameters = nullptr;
    if (!maker || EVP_PKEY_paramgen_init(maker.get()) != 1 ||
        EVP_PKEY_CTX_set_group_name(maker.get(), dh_group) != 1 ||
        EVP_PKEY_paramgen(maker.get(), &parameters) != 1) {
        refuse("the parameters of Diffie-Hellman cannot be made");
    }
    if (SSL_CTX_set0_tmp_dh_pkey(context_.get(), parameters) != 1) {
        EVP_PKEY_free(parameters);
        refuse("the parameters of Diffie-Hellman cannot be set");
    }
}

void TlsServer::set_identity(const TlsSettings& settings) {
    SSL_CTX* context = context_.get();
    if (settings.chain.empty()) throw std::invalid_argument("there is no certificate");
    const Certificate own = parse_certificate(settings.chain.front());
    if (SSL_CTX_use_certificate(context, own.get()) != 1) refuse("our certificate is refused");
    for (std::size_t at = 1; at < settings.chain.size(); ++at) {
        Certificate next = parse_certificate(settings.chain[at]);
        if (SSL_CTX_add0_chain_cert(context, next.get()) != 1) refuse("our chain is refused");
        static_cast<void>(next.release());
    }
    const auto* at = reinterpret_cast<const unsigned char*>(settings.key.data());
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
        d2i_AutoPrivateKey(nullptr, &at, static_cast<long>(settings.key.size())), EVP_PKEY_free);
    if (!key) refuse("our private key cannot be read");
    if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        refuse("our private key does not fit our certificate");
    }
}

void TlsServer::set_trust(const TlsSettings& settings) {
    SSL_CTX* context = context_.get();
    X509_STORE* store = SSL_CTX_get_cert_store(context);
    for (const auto& der : settings.trust) {
        if (X509_STORE_add_cert(store, parse_certificate(der).get()) != 1) {
            refuse("a certificate cannot be trusted");
        }
    }
    // As in Java, which such stores come from: whatever stands in it is an anchor, root or not.
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    int mode = SSL_VERIFY_NONE;
    if (settings.client_authentication != ClientAuthentication::none) mode = SSL_VERIFY_PEER;
    if (settings.client_authentication == ClientAuthentication::need) {
        mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(context, mode, verified);
    SSL_CTX_set_verify_depth(context, settings.chain_certificates_max);
}

void TlsServer::verify(const TlsSettings& settings) const {
    std::vector<std::string> wanted = settings.tls13;
    wanted.insert(wanted.end(), settings.tls12.begin(), settings.tls12.end());
    if (suites() != wanted) {
        throw std::invalid_argument("OpenSSL would offer " + joined(suites()) + " instead of " +
                                    joined(wanted));
    }
    const std::unique_ptr<SSL, FreeSsl> session(SSL_new(context_.get()));
    if (!session) refuse("TLS cannot be set up");
    SSL_set_accept_state(session.get());
    const std::unique_ptr<STACK_OF(SSL_CIPHER), void (*)(STACK_OF(SSL_CIPHER)*)> supported(
        SSL_get1_supported_ciphers(session.get()),
        [](STACK_OF(SSL_CIPHER) * list) { sk_SSL_CIPHER_free(list); });
    if (!supported || names_of(supported.get()) != wanted) {
        throw std::invalid_argument("OpenSSL supports only a part of " + joined(wanted));
    }
    const int most = settings.tls13.empty() ? TLS1_2_VERSION : TLS1_3_VERSION;
    if (SSL_CTX_get_min_proto_version(context_.get()) != TLS1_2_VERSION ||
        SSL_CTX_get_max_proto_version(context_.get()) != most ||
        SSL_CTX_get_security_level(context_.get()) != settings.security_level) {
        throw std::invalid_argument("OpenSSL did not take the versions or the security level");
    }
}

std::vector<std::string> TlsServer::suites() const {
    return names_of(SSL_CTX_get_ciphers(context_.get()));
}

std::unique_ptr<TlsSession> TlsServer::open(int descriptor) const {
    std::unique_ptr<SSL, FreeSsl> session(SSL_new(context_.get()));
    if (!session) refuse("a session cannot be made");
    return std::make_unique<TlsSession>(std::move(session), descriptor, read_ahead_bytes_);
}

}  // namespace scai
