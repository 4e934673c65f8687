// What the TLS library itself needs for bytes: a server that calls SSL_read in a loop and drops
// what it gets. One connection; then "bytes cpu_nanoseconds suite", CPU of user and kernel, on
// standard output. Arguments: port, certificate chain and key as PEM files, bytes to read ahead.
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

long long cpu_ns() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto ns = [](const timeval& time) {
        return time.tv_sec * 1000000000LL + time.tv_usec * 1000LL;
    };
    return ns(usage.ru_utime) + ns(usage.ru_stime);
}

int accept_one(int port) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    const int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener, 1) != 0) {
        std::perror("listening");
        std::exit(2);
    }
    std::puts("ready");
    std::fflush(stdout);
    return accept(listener, nullptr, nullptr);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) return 2;
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    if (SSL_CTX_use_certificate_chain_file(context, arguments[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1) {
        return 2;
    }
    const auto read_ahead = static_cast<std::size_t>(std::atoll(arguments[4]));
    if (read_ahead > 0) {
        SSL_CTX_set_read_ahead(context, 1);
        SSL_CTX_set_default_read_buffer_len(context, read_ahead);
    }
    SSL* session = SSL_new(context);
    SSL_set_fd(session, accept_one(std::atoi(arguments[1])));
    if (SSL_accept(session) != 1) return 1;
    std::vector<char> buffer(256u << 10);
    const long long began = cpu_ns();
    long long bytes = 0;
    while (true) {
        const int got = SSL_read(session, buffer.data(), static_cast<int>(buffer.size()));
        if (got <= 0) break;
        bytes += got;
    }
    std::printf("%lld %lld %s\n", bytes, cpu_ns() - began, SSL_get_cipher_name(session));
    return 0;
}
