// OpenSSL's part of a secured connection. See tls/session.hpp for what is promised.
#include "tls/session.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <algorithm>
#include <climits>

namespace scai {

namespace {

constexpr std::size_t subject_characters_max = 256;
// Before the handshake has ended nobody is owed more than its few messages.
constexpr std::size_t handshake_bytes_per_turn = 64u << 10;
// RFC 8446 5.1 and RFC 5246 6.2.1: content type of the first record; an SSL 2 hello has its high
// bit set, and is left to OpenSSL to refuse.
constexpr int content_handshake = 0x16;
constexpr int alert_no_renegotiation = 100;  // RFC 5246 7.2.2

std::string hexadecimal(std::span<const unsigned char> bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (const unsigned char byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

std::string subject_of(X509* certificate) {
    std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new(BIO_s_mem()), BIO_free);
    if (!memory) throw std::bad_alloc();
    X509_NAME_print_ex(memory.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    char* at = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &at);
    return {at, std::min(static_cast<std::size_t>(size), subject_characters_max)};
}

std::string stranger_text(int first) {
    const std::string seen = "the first byte is " + std::to_string(first) + ": ";
    if (first == 0x01) return seen + "an A-ASSOCIATE-RQ, plain DICOM on a TLS port";
    if (first == 'G' || first == 'H' || first == 'O' || first == 'P') {
        return seen + "this looks like HTTP on a TLS port";
    }
    return seen + "this is no TLS";
}

TlsFaultKind kind_of_verification(int error) {
    switch (error) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return TlsFaultKind::expired;
        case X509_V_ERR_EE_KEY_TOO_SMALL:
        case X509_V_ERR_CA_KEY_TOO_SMALL:
        case X509_V_ERR_CA_MD_TOO_WEAK:
            return TlsFaultKind::weak;
        case X509_V_ERR_INVALID_PURPOSE:
            return TlsFaultKind::purpose;
        default:
            return TlsFaultKind::untrusted;
    }
}

TlsFaultKind kind_of_reason(int reason) {
    switch (reason) {
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_WRONG_VERSION_NUMBER:
        case SSL_R_WRONG_SSL_VERSION:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_INAPPROPRIATE_FALLBACK:
            return TlsFaultKind::version;
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SHARED_GROUPS:
        case SSL_R_NO_SUITABLE_GROUPS:
        case SSL_R_NO_SUITABLE_KEY_SHARE:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
            return TlsFaultKind::suite;
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            return TlsFaultKind::no_certificate;
        case SSL_R_EE_KEY_TOO_SMALL:
        case SSL_R_CA_KEY_TOO_SMALL:
        case SSL_R_CA_MD_TOO_WEAK:
            return TlsFaultKind::weak;
        case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        case SSL_R_DECRYPTION_FAILED:
            return TlsFaultKind::integrity;
        case SSL_R_NO_RENEGOTIATION:
            return TlsFaultKind::renegotiation;
        default:
            return reason >= SSL_AD_REASON_OFFSET ? TlsFaultKind::peer_alert
                                                  : TlsFaultKind::protocol;
    }
}

TlsSession& session_of(BIO* bio) {
    return *static_cast<TlsSession*>(BIO_get_data(bio));
}

int read_socket(BIO* bio, char* to, int size) {
    return session_of(bio).take_from_socket(to, size);
}

int write_socket(BIO* bio, const char* from, int size) {
    return session_of(bio).give_to_socket(from, size);
}

long control_socket(BIO* bio, int command, long, void*) {
    if (command == BIO_CTRL_FLUSH) return 1;
    if (command == BIO_CTRL_EOF) return session_of(bio).socket_ended() ? 1 : 0;
    return 0;
}

BIO_METHOD* socket_method() {
    static BIO_METHOD* const method = [] {
        BIO_METHOD* made =
            BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "the session's socket");
        if (made == nullptr) throw std::bad_alloc();
        BIO_meth_set_read(made, read_socket);
        BIO_meth_set_write(made, write_socket);
        BIO_meth_set_ctrl(made, control_socket);
        return made;
    }();
    return method;
}

}  // namespace

const char* name_of(TlsFaultKind kind) noexcept {
    static constexpr std::array names{
        "",     "not_tls", "version",    "suite",  "no_certificate", "untrusted",     "expired",
        "weak", "purpose", "peer_alert", "closed", "integrity",      "renegotiation", "protocol"};
    static_assert(names.size() == static_cast<std::size_t>(TlsFaultKind::protocol) + 1);
    return names[static_cast<std::size_t>(kind)];
}

BIO* make_socket_bio(TlsSession& session) {
    BIO* bio = BIO_new(socket_method());
    if (bio == nullptr) throw std::bad_alloc();
    BIO_set_data(bio, &session);
    BIO_set_init(bio, 1);
    return bio;
}

TlsSession::TlsSession(std::unique_ptr<SSL, FreeSsl> session, int descriptor,
                       std::size_t read_ahead)
    : session_(std::move(session)), descriptor_(descriptor), read_ahead_(read_ahead) {
    SSL* ssl = session_.get();
    BIO* bio = make_socket_bio(*this);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, this);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_accept_state(ssl);
}

TlsSession& TlsSession::of(const SSL* session) noexcept {
    return *static_cast<TlsSession*>(SSL_get_app_data(session));
}

// --- what OpenSSL calls back ---------------------------------------------------------------------

void TlsSession::note_alert(bool sent, int value) {
    alert_ = std::string(sent ? "sent: " : "received: ") + SSL_alert_desc_string_long(value);
    if (sent && (value & 0xff) == alert_no_renegotiation) renegotiation_ = true;
}

void TlsSession::note_verification(X509_STORE_CTX* context) {
    verification_ = X509_STORE_CTX_get_error(context);
    verification_text_ = X509_verify_cert_error_string(verification_);
    X509* certificate = X509_STORE_CTX_get_current_cert(context);
    if (certificate != nullptr) verification_text_ += ": " + subject_of(certificate);
}

int TlsSession::take_from_socket(char* to, int size) noexcept {
    BIO* bio = SSL_get_rbio(session_.get());
    BIO_clear_retry_flags(bio);
    if (dry_ || turn_left_ == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    ssize_t got = 0;
    do {
        got = ::recv(descriptor_, to, static_cast<std::size_t>(size), MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN) {
        dry_ = true;
        BIO_set_retry_read(bio);
        return -1;
    }
    if (got <= 0) {
        ended_ = true;  // closed, or reset: nothing more comes either way
        return 0;
    }
    if (!begun_) {
        begun_ = true;
        const int first = static_cast<unsigned char>(*to);
        if (first != content_handshake && first < 0x80) {
            stranger_ = first;
            return -1;
        }
    }
    turn_left_ -= std::min(turn_left_, static_cast<std::size_t>(got));
    return static_cast<int>(got);
}

int TlsSession::give_to_socket(const char* from, int size) noexcept {
    BIO* bio = SSL_get_wbio(session_.get());
    BIO_clear_retry_flags(bio);
    ssize_t put = 0;
    do {
        put =
            ::send(descriptor_, from, static_cast<std::size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (put < 0 && errno == EINTR);
    if (put < 0 && errno == EAGAIN) BIO_set_retry_write(bio);
    return static_cast<int>(put);
}

// --- what the worker calls -----------------------------------------------------------------------

Handshake TlsSession::handshake() {
    begin_turn(handshake_bytes_per_turn);
    ERR_clear_error();
    const int result = SSL_do_handshake(session_.get());
    if (result == 1) {
        // Behind its last message of the handshake the peer may hold back its request.
        acknowledge();
        return Handshake::done;
    }
    const int error = SSL_get_error(session_.get(), result);
    if (stranger_ < 0 && !ended_) {
        if (error == SSL_ERROR_WANT_READ) return Handshake::wants_read;
        if (error == SSL_ERROR_WANT_WRITE) return Handshake::wants_write;
    }
    set_fault(error);
    return Handshake::failed;
}

void TlsSession::begin_turn(std::size_t budget) {
    dry_ = false;
    // Whatever a peer sends that is no data (key updates without end) costs it its turn.
    turn_left_ = budget;
    if (!widening_) return;
    // The small buffer goes when nothing lies in it; the next read makes the large one.
    SSL* ssl = session_.get();
    if (SSL_has_pending(ssl) == 0 && SSL_free_buffers(ssl) == 1) {
        widening_ = false;
        SSL_set_default_read_buffer_len(ssl, read_ahead_);
        SSL_set_read_ahead(ssl, 1);
    }
}

Reading TlsSession::read(std::span<const iovec> parts) {
    // One part a call: what lies decrypted is a copy away, and nothing has to be guessed.
    const auto& part = parts.front();
    ERR_clear_error();
    const int size = static_cast<int>(std::min<std::size_t>(part.iov_len, INT_MAX));
    const int got = SSL_read(session_.get(), part.iov_base, size);
    if (renegotiation_) {
        fault_ = {TlsFaultKind::renegotiation, "the peer asked to negotiate anew"};
        return {Reading::Kind::broken};
    }
    if (got > 0) return {Reading::Kind::bytes, static_cast<std::size_t>(got)};
    return after_failed_read(got);
}

Reading TlsSession::after_failed_read(int result) {
    const int error = SSL_get_error(session_.get(), result);
    if (error == SSL_ERROR_ZERO_RETURN || ended_) return {Reading::Kind::end};
    if (error == SSL_ERROR_WANT_READ) {
        // The peer may hold back the rest of a record; see PduCutter::run_dry.
        if (SSL_has_pending(session_.get()) == 1) acknowledge();
        return {Reading::Kind::none};
    }
    if (error == SSL_ERROR_WANT_WRITE) {
        // OpenSSL answers key updates before it reads on; hundreds have to go untaken for this.
        fault_ = {TlsFaultKind::protocol, "the peer does not take what its key updates ask for"};
        return {Reading::Kind::broken};
    }
    set_fault(error);
    return {Reading::Kind::broken};
}

void TlsSession::acknowledge() const noexcept {
    const int on = 1;
    // Not a TCP socket, or one that is gone: then there is nothing to hasten.
    static_cast<void>(::setsockopt(descriptor_, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on));
}

std::size_t TlsSession::send(std::span<const std::byte> data) {
    ERR_clear_error();
    const int size = static_cast<int>(std::min<std::size_t>(data.size(), INT_MAX));
    const int put = SSL_write(session_.get(), data.data(), size);
    if (put > 0) return static_cast<std::size_t>(put);
    const int error = SSL_get_error(session_.get(), put);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return 0;
    throw ConnectionLost(EPIPE, "sending");
}

void TlsSession::say_end() noexcept {
    ERR_clear_error();
    // After a fault OpenSSL has said it all by an alert, and must not be asked again.
    if (fault_.kind == TlsFaultKind::none && SSL_is_init_finished(session_.get()) == 1) {
        static_cast<void>(SSL_shutdown(session_.get()));
    }
    ERR_clear_error();
}

PeerCertificate TlsSession::peer_certificate() const {
    X509* certificate = SSL_get0_peer_certificate(session_.get());
    if (certificate == nullptr) return {};
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) throw std::bad_alloc();
    return {subject_of(certificate), hexadecimal({digest.data(), size})};
}

// --- why it ended --------------------------------------------------------------------------------

void TlsSession::set_fault(int error) {
    if (stranger_ >= 0) {
        fault_ = {TlsFaultKind::not_tls, stranger_text(stranger_)};
    } else if (ended_) {
        fault_ = {TlsFaultKind::closed, begun_ ? "the peer closed the connection in the middle"
                                               : "the peer closed the connection and said nothing"};
    } else if (error == SSL_ERROR_SSL) {
        classify();
    } else {
        fault_ = {TlsFaultKind::closed, "the connection broke"};
    }
    ERR_clear_error();
}

void TlsSession::classify() {
    // The first error of TLS itself is the cause; those of the libraries below it came before.
    unsigned long code = ERR_get_error();
    const unsigned long first = code;
    while (code != 0 && ERR_GET_LIB(code) != ERR_LIB_SSL) code = ERR_get_error();
    const int reason = code != 0 ? ERR_GET_REASON(code) : 0;
    const char* words = ERR_reason_error_string(code != 0 ? code : first);
    fault_ = {kind_of_reason(reason), words != nullptr ? words : "error of the TLS library"};
    if (verification_ != X509_V_OK && fault_.kind != TlsFaultKind::peer_alert) {
        fault_ = {kind_of_verification(verification_), verification_text_};
    } else if (fault_.kind == TlsFaultKind::peer_alert) {
        fault_.text = std::string("the peer refuses us: ") +
                      SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET);
    }
}

}  // namespace scai
