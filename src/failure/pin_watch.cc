// Reading nr_foll_pin_acquired and nr_foll_pin_released.
#include "failure/pin_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

namespace refault::failure {

using base::MutexLock;

namespace {

std::optional<std::uint64_t> counter(std::string_view text, std::string_view name) {
    const auto at = text.find(name);
    if (at == text.npos) return std::nullopt;
    text.remove_prefix(at + name.size());
    std::uint64_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{})
        return std::nullopt;
    return value;
}

}  // namespace

PinWatch::PinWatch()
    : refresh_(::open("/proc/sys/vm/stat_refresh", O_WRONLY | O_CLOEXEC)),
      vmstat_(::open("/proc/vmstat", O_RDONLY | O_CLOEXEC)) {
    if (refresh_ && vmstat_) thread_ = base::NamedThread("pin-watch", [this] { run(); });
}

PinWatch::~PinWatch() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

PinWatch::Asked PinWatch::ask() {
    MutexLock lock(mutex_);
    changed_.notify_all();
    return {++asked_, last_};
}

std::optional<PinWatch::Counts> PinWatch::wait_for(const Asked& asked) {
    if (!thread_.joinable()) return std::nullopt;
    MutexLock lock(mutex_);
    while (looked_ < asked.number) changed_.wait(mutex_);
    return last_;
}

bool PinWatch::nothing_was_pinned(const Asked& asked) {
    const auto now = wait_for(asked);
    return now && now == asked.before && now->taken == now->released;
}

std::optional<std::uint64_t> PinWatch::pinned_pages() {
    const auto now = wait_for(ask());
    if (!now) return std::nullopt;
    return now->taken - std::min(now->taken, now->released);
}

void PinWatch::run() {
    for (;;) {
        std::uint64_t number;
        {
            MutexLock lock(mutex_);
            while (!must_stop_ && asked_ == looked_) changed_.wait(mutex_);
            if (must_stop_) return;
            number = asked_;
        }
        const auto counts = look();
        MutexLock lock(mutex_);
        looked_ = number;
        last_ = counts;
        changed_.notify_all();
    }
}

std::optional<PinWatch::Counts> PinWatch::look() const {
    if (::pwrite(refresh_.get(), "1", 1, 0) != 1) return std::nullopt;
    std::array<char, 16 * 1024> text;
    const ssize_t length = ::pread(vmstat_.get(), text.data(), text.size(), 0);
    if (length <= 0) return std::nullopt;
    const std::string_view all(text.data(), static_cast<std::size_t>(length));
    const auto taken = counter(all, "nr_foll_pin_acquired ");
    const auto released = counter(all, "nr_foll_pin_released ");
    if (!taken || !released) return std::nullopt;
    return Counts{*taken, *released};
}

}  // namespace refault::failure
