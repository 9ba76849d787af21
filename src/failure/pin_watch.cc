// Reading nr_foll_pin_acquired and nr_foll_pin_released.
#include "failure/pin_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <optional>
#include <string_view>

namespace refault::failure {

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
      vmstat_(::open("/proc/vmstat", O_RDONLY | O_CLOEXEC)) {}

bool PinWatch::nothing_is_pinned() const {
    if (!refresh_ || !vmstat_) return false;
    if (::pwrite(refresh_.get(), "1", 1, 0) != 1) return false;
    std::array<char, 16 * 1024> text;
    const ssize_t length = ::pread(vmstat_.get(), text.data(), text.size(), 0);
    if (length <= 0) return false;
    const std::string_view all(text.data(), static_cast<std::size_t>(length));
    const auto acquired = counter(all, "nr_foll_pin_acquired ");
    const auto released = counter(all, "nr_foll_pin_released ");
    return acquired && released && *acquired == *released;
}

}  // namespace refault::failure
