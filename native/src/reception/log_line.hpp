// The log's line for an instance that was stored, filled into pieces of the log's own codec
// (engine/telemetry/logs.py) that were made once for the association.
#pragma once

#include <time.h>
#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace scai {

struct LogPieces {
    std::string before;  // between the time and the UID; empty: there are no pieces
    std::string after;   // behind the UID, up to where more fields may follow
};

// "2026-11-23T18:43:59.473974Z" of Unix nanoseconds; remembers the second.
class LogClock {
public:
    std::string_view text(std::uint64_t now_ns) {
        const auto second = static_cast<time_t>(now_ns / 1'000'000'000u);
        if (second != second_) {
            second_ = second;
            tm parts{};
            ::gmtime_r(&second, &parts);
            ::strftime(text_.data(), text_.size(), "%Y-%m-%dT%H:%M:%S.000000Z", &parts);
        }
        std::uint64_t left = now_ns % 1'000'000'000u / 1000;
        for (std::size_t at = 25; at >= 20; --at, left /= 10) {
            text_[at] = static_cast<char>('0' + left % 10);
        }
        return {text_.data(), 27};
    }

private:
    time_t second_ = -1;
    std::array<char, 64> text_{};
};

// `uid` is digits and dots.
inline std::string store_line(std::string_view time, const LogPieces& pieces, std::string_view uid,
                              std::uint64_t file_bytes, std::uint64_t nanoseconds) {
    const std::uint64_t microseconds = (nanoseconds + 500) / 1000;
    std::array<char, 96> tail;
    const int size =
        std::snprintf(tail.data(), tail.size(), ",\"bytes\":%llu,\"seconds\":%llu.%06llu}\n",
                      static_cast<unsigned long long>(file_bytes),
                      static_cast<unsigned long long>(microseconds / 1'000'000),
                      static_cast<unsigned long long>(microseconds % 1'000'000));
    std::string line;
    line.reserve(8 + time.size() + pieces.before.size() + uid.size() + pieces.after.size() +
                 static_cast<std::size_t>(size));
    line += "{\"ts\":\"";
    line += time;
    line += pieces.before;
    line += uid;
    line += pieces.after;
    line.append(tail.data(), static_cast<std::size_t>(size));
    return line;
}

}  // namespace scai
