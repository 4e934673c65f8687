// One secured connection, the server's side: handshake, reading, writing, and why it ended.
//
// Reads decrypted bytes straight to where the cutter wants them. The socket is read in large pieces
// into OpenSSL's own buffer, where records are decrypted in place; the copy from there is the only
// one. Never waits. A fault is told once, by kind and in words; the alert that belongs to it has
// left by then, as far as the socket takes it. Knows no Python.
#pragma once

#include <openssl/ssl.h>
#include <array>
#include <memory>
#include <span>
#include <string>

#include "base/base.hpp"
#include "base/byte_stream.hpp"

namespace scai {

enum class Handshake : int { done = 0, wants_read = 1, wants_write = 2, failed = 3 };

// What metrics and people tell apart.
enum class TlsFaultKind : int {
    none,
    not_tls,         // the first byte begins no TLS
    version,         // no version in common
    suite,           // no suite, group or signature in common
    no_certificate,  // the peer has to show one and did not
    untrusted,       // nobody we trust answers for the peer's certificate
    expired,         // it, or one above it, is not valid now
    weak,            // its key or its signature is below what is accepted
    purpose,         // it is not meant for a client
    peer_alert,      // the peer refused us and said why
    closed,          // the peer went away in the middle
    integrity,       // a record is not what was sent
    renegotiation,   // the peer asked to begin anew
    protocol         // anything else that breaks TLS
};

const char* name_of(TlsFaultKind kind) noexcept;

struct TlsFault {
    TlsFaultKind kind = TlsFaultKind::none;
    std::string text;
};

// What is known of the peer's certificate, for the log.
struct PeerCertificate {
    std::string subject;  // RFC 2253
    std::string sha256;   // of the whole certificate, hexadecimal
};

struct FreeSsl {
    void operator()(SSL* session) const noexcept { SSL_free(session); }
};

class TlsSession final : public ByteStream {
public:
    // `session` is a server's, fresh. The descriptor stays the caller's.
    TlsSession(std::unique_ptr<SSL, FreeSsl> session, int descriptor, std::size_t read_ahead);
    TlsSession(const TlsSession&) = delete;
    TlsSession& operator=(const TlsSession&) = delete;

    Handshake handshake();
    // From now on the socket is read in large pieces: not before the peer is one to trust with the
    // memory.
    void widen() noexcept { widening_ = true; }

    void begin_turn(std::size_t budget) override;
    Reading read(std::span<const iovec> parts) override;
    int descriptor() const noexcept override { return descriptor_; }

    // How many were taken; 0: the socket takes none now. A rest is to be offered again, first.
    std::size_t send(std::span<const std::byte> data) override;
    // Says that nothing more comes from us. What still comes from the peer is not read any more.
    void say_end() noexcept;

    const TlsFault& fault() const noexcept { return fault_; }
    // The last alert, with who sent it; empty if there was none.
    const std::string& alert() const noexcept { return alert_; }
    std::string version() const { return SSL_get_version(session_.get()); }
    std::string suite() const { return SSL_get_cipher_name(session_.get()); }
    PeerCertificate peer_certificate() const;

    // Called back by OpenSSL; see tls/session.cpp.
    static TlsSession& of(const SSL* session) noexcept;
    void note_alert(bool sent, int value);
    void note_verification(X509_STORE_CTX* context);
    int take_from_socket(char* to, int size) noexcept;
    int give_to_socket(const char* from, int size) noexcept;
    bool socket_ended() const noexcept { return ended_; }

private:
    Reading after_failed_read(int result);
    void acknowledge() const noexcept;
    void set_fault(int result);
    void classify();

    std::unique_ptr<SSL, FreeSsl> session_;
    int descriptor_;
    std::size_t read_ahead_;
    bool widening_ = false;

    std::size_t turn_left_ = 0;  // of what may be taken from the socket in this turn
    bool dry_ = false;           // the socket had nothing
    bool ended_ = false;         // the peer's side of the socket is closed, or lost
    bool begun_ = false;         // the first byte came
    int stranger_ = -1;          // the first byte, if it begins no TLS
    bool renegotiation_ = false;
    int verification_ = X509_V_OK;
    std::string verification_text_;
    std::string alert_;
    TlsFault fault_;
};

// The BIO that joins a session with its socket; freed with the session.
BIO* make_socket_bio(TlsSession& session);

}  // namespace scai
