// Counting and telling refusals.
#include "session/refusals.h"

#include <algorithm>

namespace refault::session {

using base::Code;
using base::MutexLock;

std::string Refusals::note(std::string_view channel, std::string_view reason, std::string_view text,
                           std::chrono::steady_clock::time_point now) {
    MutexLock lock(mutex_);
    ++counts_[{std::string(channel), std::string(reason)}];
    if (refilled_ != std::chrono::steady_clock::time_point{}) {
        const std::chrono::duration<double> passed = now - refilled_;
        tokens_ = std::min(kBurst, tokens_ + passed.count() * kPerSecond);
    }
    refilled_ = now;
    if (tokens_ < 1) {
        ++left_out_;
        return {};
    }
    tokens_ -= 1;
    std::string line(text);
    if (left_out_ > 0) line += " (and " + std::to_string(left_out_) + " refusals before it)";
    left_out_ = 0;
    return line;
}

std::vector<Refusals::Count> Refusals::counts() const {
    MutexLock lock(mutex_);
    std::vector<Count> all;
    for (const auto& [key, count] : counts_) all.push_back({key.first, key.second, count});
    return all;
}

std::string_view refusal_reason(const base::Error& error) noexcept {
    switch (error.code()) {
        case Code::Corrupt:
            return "bad-message";
        case Code::TimedOut:
            return "silent";
        case Code::Busy:
            return "not-reading";
        case Code::NoSpace:
            return "too-much";
        case Code::NotSupported:
            return "bad-descriptor";
        default:
            return "other";
    }
}

}  // namespace refault::session
