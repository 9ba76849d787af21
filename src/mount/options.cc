// Parsing "allow_other,ro,patience_ms=500".
#include "mount/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

namespace refault::mount {

using base::Code;
using base::Error;

namespace {

constexpr std::array<std::string_view, 13> kKernelOptions{
    "suid",    "nosuid",   "dev",        "nodev", "exec",  "noexec", "atime",
    "noatime", "relatime", "nodiratime", "sync",  "async", "dirsync"};
// What mount(8) and fstab(5) hand on though it is theirs.
constexpr std::array<std::string_view, 10> kPassedOver{"defaults", "auto",    "noauto",
                                                       "user",     "nouser",  "users",
                                                       "nofail",   "_netdev", "default_permissions",
                                                       "rw"};

template <std::size_t kCount>
bool has(const std::array<std::string_view, kCount>& list, std::string_view option) {
    return std::find(list.begin(), list.end(), option) != list.end();
}

base::Status take_option(std::string_view option, MountOptions& options) {
    constexpr std::string_view kPatience = "patience_ms=";
    if (option == "ro") {
        options.is_read_only = true;
    } else if (option == "allow_other") {
        options.allows_others = true;
    } else if (option == "no_allow_other") {
        options.allows_others = false;
    } else if (option == "writeback") {
        options.has_writeback = true;
    } else if (option.starts_with(kPatience)) {
        const auto digits = option.substr(kPatience.size());
        std::uint32_t patience_ms = 0;
        const auto [end, failure] =
            std::from_chars(digits.data(), digits.data() + digits.size(), patience_ms);
        if (failure != std::errc{} || end != digits.data() + digits.size() || patience_ms == 0)
            return Error(Code::Invalid, "patience_ms is a number of milliseconds above 0");
        options.patience = std::chrono::milliseconds(patience_ms);
    } else if (option == "remount") {
        return Error(Code::NotSupported,
                     "options cannot be changed while it is mounted: umount it and mount it anew");
    } else if (has(kKernelOptions, option)) {
        options.kernel_options.emplace_back(option);
    } else if (!has(kPassedOver, option) && !option.starts_with("x-") &&
               !option.starts_with("comment=")) {
        return Error(Code::Invalid, "unknown mount option '" + std::string(option) +
                                        "'; see: refault mount --help");
    }
    return {};
}

}  // namespace

base::Result<MountOptions> parse_mount_options(const std::string& directory,
                                               const std::string& text, bool is_root) {
    if (!directory.starts_with('/'))
        return Error(Code::Invalid, "the directory to mount at is an absolute path");
    MountOptions options;
    options.directory = directory;
    options.allows_others = is_root;
    std::string_view rest = text;
    while (!rest.empty()) {
        const auto comma = rest.find(',');
        const auto option = rest.substr(0, comma);
        if (!option.empty()) RETURN_IF_ERROR(take_option(option, options));
        rest.remove_prefix(comma == rest.npos ? rest.size() : comma + 1);
    }
    return options;
}

}  // namespace refault::mount
