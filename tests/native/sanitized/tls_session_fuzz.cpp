// A peer that speaks TLS up to a point: bytes of any kind as a handshake, or a good handshake whose
// records are changed, cut and repeated on their way. What is read is a beginning of what was sent,
// and what breaks is told once, with a kind and words.
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <cstring>

#include "fuzzing.hpp"
#include "tls/server.hpp"

namespace {

constexpr std::size_t sent_bytes_max = 64u << 10;

std::string der_of(int (*encode)(const X509*, unsigned char**), const X509* certificate) {
    unsigned char* bytes = nullptr;
    const int size = encode(certificate, &bytes);
    FUZZ_CLAIM(size > 0);
    std::string text(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
    OPENSSL_free(bytes);
    return text;
}

// A server that asks nobody for a certificate; made once, since keys take time.
const scai::TlsServer& server() {
    static const scai::TlsServer only = [] {
        EVP_PKEY* key = EVP_RSA_gen(2048);
        X509* own = X509_new();
        FUZZ_CLAIM(key != nullptr && own != nullptr);
        X509_set_version(own, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(own), 1);
        X509_gmtime_adj(X509_getm_notBefore(own), -3600);
        X509_gmtime_adj(X509_getm_notAfter(own), 3600);
        X509_set_pubkey(own, key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(own), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>("fuzz"), -1, -1, 0);
        X509_set_issuer_name(own, X509_get_subject_name(own));
        FUZZ_CLAIM(X509_sign(own, key, EVP_sha256()) > 0);
        scai::TlsSettings settings;
        settings.chain = {der_of(i2d_X509, own)};
        unsigned char* bytes = nullptr;
        const int size = i2d_PrivateKey(key, &bytes);
        FUZZ_CLAIM(size > 0);
        settings.key.assign(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
        OPENSSL_free(bytes);
        settings.tls12 = {"ECDHE-RSA-AES128-GCM-SHA256"};
        settings.tls13 = {"TLS_AES_128_GCM_SHA256"};
        settings.client_authentication = scai::ClientAuthentication::none;
        settings.read_ahead_bytes = 32u << 10;
        settings.security_level = 2;
        settings.chain_certificates_max = 10;
        X509_free(own);
        EVP_PKEY_free(key);
        return scai::TlsServer(settings);
    }();
    return only;
}

// The client, whose records come out as bytes.
class Client {
public:
    explicit Client(bool older) : context_(SSL_CTX_new(TLS_client_method())) {
        if (older) SSL_CTX_set_max_proto_version(context_, TLS1_2_VERSION);
        session_ = SSL_new(context_);
        SSL_set_bio(session_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(session_);
    }
    ~Client() {
        SSL_free(session_);
        SSL_CTX_free(context_);
    }
    bool handshake() { return SSL_do_handshake(session_) == 1; }
    void take(std::span<const char> bytes) {
        BIO_write(SSL_get_rbio(session_), bytes.data(), static_cast<int>(bytes.size()));
    }
    void write(const std::string& data) {
        SSL_write(session_, data.data(), static_cast<int>(data.size()));
    }
    std::string records() {
        char* at = nullptr;
        const long size = BIO_get_mem_data(SSL_get_wbio(session_), &at);
        std::string bytes(at, static_cast<std::size_t>(size));
        BIO_reset(SSL_get_wbio(session_));
        return bytes;
    }

private:
    SSL_CTX* context_;
    SSL* session_ = nullptr;
};

struct Line {
    scai::Descriptor ours;
    scai::Descriptor theirs;
    Line() {
        int ends[2];
        FUZZ_CLAIM(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
        ours = scai::Descriptor(ends[0]);
        theirs = scai::Descriptor(ends[1]);
    }
    void put(std::string_view bytes) {
        static_cast<void>(::send(theirs.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
    }
    std::string got() {
        std::string bytes(65536, '\0');
        const ssize_t size = ::recv(theirs.get(), bytes.data(), bytes.size(), 0);
        bytes.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
        return bytes;
    }
};

void claim_told(const scai::TlsSession& session) {
    FUZZ_CLAIM(session.fault().kind != scai::TlsFaultKind::none);
    FUZZ_CLAIM(!session.fault().text.empty());
    FUZZ_CLAIM(std::strlen(scai::name_of(session.fault().kind)) > 0);
}

void any_bytes(std::string_view bytes, std::uint32_t seed) {
    Line line;
    const auto session = server().open(line.ours.get());
    fuzzing::Sizes sizes(seed);
    scai::Handshake state = scai::Handshake::wants_read;
    while (!bytes.empty() && state == scai::Handshake::wants_read) {
        const std::size_t size = std::min<std::size_t>(bytes.size(), 1 + sizes() * 7);
        line.put(bytes.substr(0, size));
        bytes.remove_prefix(size);
        state = session->handshake();
    }
    FUZZ_CLAIM(state != scai::Handshake::done);
    line.theirs.reset();
    if (state == scai::Handshake::wants_read) state = session->handshake();
    FUZZ_CLAIM(state == scai::Handshake::failed);
    claim_told(*session);
    session->say_end();
}

// Reads to the end of what is there; false when the session broke.
bool read_all(scai::TlsSession& session, std::string& found) {
    session.begin_turn(1u << 20);
    char block[5000];
    for (;;) {
        const iovec part{block, sizeof block};
        const scai::Reading got = session.read({&part, 1});
        if (got.kind == scai::Reading::Kind::bytes) {
            found.append(block, got.count);
        } else {
            if (got.kind == scai::Reading::Kind::broken) claim_told(session);
            return got.kind != scai::Reading::Kind::broken;
        }
    }
}

void changed_records(std::string_view program, bool older, bool widened) {
    Line line;
    Client client(older);
    const auto session = server().open(line.ours.get());
    scai::Handshake state = scai::Handshake::wants_read;
    for (int step = 0; step < 8 && state != scai::Handshake::done; ++step) {
        client.handshake();
        line.put(client.records());
        state = session->handshake();
        client.take(line.got());
    }
    FUZZ_CLAIM(state == scai::Handshake::done && client.handshake());
    if (widened) session->widen();
    std::string sent;
    std::string found;
    bool whole = true;
    for (std::size_t at = 0; at + 3 < program.size() && sent.size() < sent_bytes_max; at += 4) {
        const auto number = [&](std::size_t of) {
            return static_cast<std::size_t>(static_cast<unsigned char>(program[at + of]));
        };
        const std::string data(1 + number(1) * 80, program[at + 1]);
        client.write(data);
        std::string records = client.records();
        sent += data;
        switch (number(0) % 8) {
            case 0:
                records[number(2) * 37 % records.size()] ^= static_cast<char>(1 + number(3) % 255);
                break;
            case 1:
                records.resize(number(2) * 37 % records.size());
                break;
            case 2:
                records += records;
                break;
            default:
                break;
        }
        whole = whole && number(0) % 8 > 2;
        line.put(records);
        const bool goes_on = read_all(*session, found);
        FUZZ_CLAIM(sent.starts_with(found));
        FUZZ_CLAIM(!whole || (goes_on && sent == found));
        if (!goes_on) break;
    }
    session->say_end();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 3) return 0;
    const std::string_view rest(reinterpret_cast<const char*>(input) + 2, size - 2);
    if (input[0] & 1) {
        any_bytes(rest, input[1]);
    } else {
        changed_records(rest, (input[0] & 2) != 0, (input[0] & 4) != 0);
    }
    return 0;
}
