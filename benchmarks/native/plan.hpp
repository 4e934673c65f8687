// What the sender is to do, as benchmarks/load_plan.py writes it down, and how it is read.
//
// Promises: a plan is whole or refused with the line that is wrong; nothing is guessed. The wire
// bytes come ready made in files; this program never builds a PDU.
#pragma once

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace load {

using Bytes = std::vector<uint8_t>;

inline constexpr int digits_in_field = 9;

// Which number is written into a nine-digit field of the head of every instance.
enum class Field { instance, series, study };

struct Patch {
    Field field{};
    std::array<uint32_t, digits_in_field> offsets{};  // a field may straddle two PDUs
};

// One instance as it goes over the wire: head, body as often as `repeats` says, tail.
struct Image {
    uint8_t context{};
    Bytes head, body, tail;
    uint64_t repeats{};
    uint64_t payload_bytes{};
    std::vector<Patch> patches;
    uint32_t message_id_offset{};
    uint64_t wire_bytes() const { return head.size() + repeats * body.size() + tail.size(); }
};

struct Target {
    sockaddr_storage address{};
    socklen_t address_bytes{};
    Bytes associate;
};

struct Plan {
    std::vector<Target> targets;
    std::vector<uint32_t> associations;  // the target of each
    std::vector<Image> images;
    std::vector<uint32_t> order;  // images, taken in turn
    uint64_t instances{};         // 0: until the time is over
    double seconds{};             // 0: until the instances are sent
    double rate{};                // instances a second, 0: flat out
    double think_seconds{};
    double timeout_seconds{60};
    bool association_per_instance{};
    uint64_t series_instances{};
    uint32_t counter_first{};
    uint32_t pdu_bytes{};
    uint32_t send_buffer_bytes{};
    std::string records_path;
};

inline Bytes read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return Bytes(std::istreambuf_iterator<char>(file), {});
}

inline Target read_target(std::istringstream& words) {
    std::string host, port, file;
    words >> host >> port >> file;
    Target target;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0)
        throw std::runtime_error("not a literal address: " + host + ": " + gai_strerror(error));
    std::memcpy(&target.address, found->ai_addr, found->ai_addrlen);
    target.address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    target.associate = read_file(file);
    return target;
}

inline Image read_image(std::istringstream& words) {
    Image image;
    unsigned context = 0;
    std::string head, body, tail;
    words >> context >> head >> body >> image.repeats >> tail >> image.payload_bytes >>
        image.message_id_offset;
    image.context = static_cast<uint8_t>(context);
    image.head = read_file(head);
    image.body = read_file(body);
    image.tail = read_file(tail);
    if (image.message_id_offset + 2 > image.head.size())
        throw std::runtime_error("the message ID lies outside the head");
    return image;
}

inline Patch read_patch(std::istringstream& words, std::size_t head_bytes) {
    Patch patch;
    unsigned field = 0;
    words >> field;
    if (field > 2) throw std::runtime_error("no such field");
    patch.field = static_cast<Field>(field);
    for (uint32_t& offset : patch.offsets) {
        words >> offset;
        if (offset >= head_bytes) throw std::runtime_error("a field lies outside the head");
    }
    return patch;
}

inline void read_line(Plan& plan, const std::string& name, std::istringstream& words) {
    uint32_t index = 0;
    if (name == "target") plan.targets.push_back(read_target(words));
    else if (name == "association") plan.associations.push_back((words >> index, index));
    else if (name == "image") plan.images.push_back(read_image(words));
    else if (name == "patch") {
        words >> index;
        Image& image = plan.images.at(index);
        image.patches.push_back(read_patch(words, image.head.size()));
    }
    else if (name == "order") while (words >> index) plan.order.push_back(index);
    else if (name == "instances") words >> plan.instances;
    else if (name == "seconds") words >> plan.seconds;
    else if (name == "rate") words >> plan.rate;
    else if (name == "think") words >> plan.think_seconds;
    else if (name == "timeout") words >> plan.timeout_seconds;
    else if (name == "association_per_instance") words >> plan.association_per_instance;
    else if (name == "series_instances") words >> plan.series_instances;
    else if (name == "counter_first") words >> plan.counter_first;
    else if (name == "pdu") words >> plan.pdu_bytes;
    else if (name == "send_buffer") words >> plan.send_buffer_bytes;
    else if (name == "records") words >> plan.records_path;
    else throw std::runtime_error("unknown word");
    if (words.fail() && !words.eof()) throw std::runtime_error("a value is missing or wrong");
}

inline Plan read_plan(const std::string& path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    Plan plan;
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream words(line);
        std::string name;
        if (!(words >> name)) continue;
        try {
            read_line(plan, name, words);
        } catch (const std::exception& error) {
            throw std::runtime_error("plan line '" + line + "': " + error.what());
        }
    }
    if (plan.targets.empty() || plan.associations.empty() || plan.order.empty() ||
        plan.records_path.empty() || (plan.instances == 0 && plan.seconds <= 0))
        throw std::runtime_error("the plan lacks a target, an association, an order or an end");
    for (uint32_t target : plan.associations) (void)plan.targets.at(target);
    for (uint32_t image : plan.order) (void)plan.images.at(image);
    return plan;
}

}  // namespace load
