// What a secured listener offers: one SSL_CTX, exactly the suites of its profile, and no others.
//
// What OpenSSL made of the settings is compared with them before anything is served, since most of
// its ways of setting suites fail in silence. Knows no Python.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tls/session.hpp"

namespace scai {

enum class ClientAuthentication { need, want, none };

struct TlsSettings {
    std::string key;                 // PKCS#8, DER
    std::vector<std::string> chain;  // DER, ours first
    std::vector<std::string> trust;  // DER; each of them is an anchor
    std::vector<std::string> tls12;  // OpenSSL's names, in the order of preference
    std::vector<std::string> tls13;  // likewise; none: TLS 1.2 is the highest version
    ClientAuthentication client_authentication = ClientAuthentication::need;
    std::size_t read_ahead_bytes = 0;
    int security_level = 0;  // OpenSSL's; with 2, RSA and DH of 2048 bits or more, no SHA-1
    int chain_certificates_max = 0;
};

class TlsServer {
public:
    // std::invalid_argument: OpenSSL refuses something, or would offer other suites than asked.
    explicit TlsServer(const TlsSettings& settings);

    std::unique_ptr<TlsSession> open(int descriptor) const;
    // What is really offered, in the order of preference.
    std::vector<std::string> suites() const;

private:
    void set_versions(const TlsSettings& settings);
    void set_suites(const TlsSettings& settings);
    void set_key_exchange();
    void set_identity(const TlsSettings& settings);
    void set_trust(const TlsSettings& settings);
    void verify(const TlsSettings& settings) const;

    struct Free {
        void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
    };
    std::unique_ptr<SSL_CTX, Free> context_;
    std::size_t read_ahead_bytes_;
};

}  // namespace scai
