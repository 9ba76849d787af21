// By libcap-ng.
#include "daemon/capabilities.h"

#include <cap-ng.h>

#include <array>
#include <cerrno>

namespace refault::daemon {

namespace {

// The names are those of <linux/capability.h>, which <cap-ng.h> includes.
constexpr std::array kNeeded{
    CAP_SYS_ADMIN,        // mount and unmount; /proc/PID/map_files
    CAP_SYS_PTRACE,       // tables of other users' processes, kcmp(2), full userfaultfds
    CAP_DAC_OVERRIDE,     // devices that another user's daemon has made
    CAP_DAC_READ_SEARCH,  // /proc/PID/fd of other users
    CAP_KILL,             // `refault device detach` asks programs to end
    CAP_LEASE,            // asks the kernel for holders of another user's segment files
};

}  // namespace

std::uint64_t needed_capabilities() noexcept {
    std::uint64_t set = 0;
    for (const auto capability : kNeeded) set |= 1ull << capability;
    return set;
}

base::Status drop_capabilities() {
    const auto failed = [](const char* what) {
        return base::Error(base::Code::Denied, std::string("capabilities cannot be ") + what);
    };
    if (capng_get_caps_process() != 0) return failed("read");
    std::vector<unsigned> kept;
    for (const auto capability : kNeeded)
        if (capng_have_capability(CAPNG_PERMITTED, static_cast<unsigned>(capability)) != 0)
            kept.push_back(static_cast<unsigned>(capability));
    const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
    capng_clear(CAPNG_SELECT_ALL);
    constexpr auto kAll =
        static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET);
    for (const auto capability : kept)
        if (capng_update(CAPNG_ADD, kAll, capability) != 0) return failed("chosen");
    if (capng_apply(may_bound ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS) != 0)
        return failed("dropped");
    return {};
}

std::vector<std::string> capability_names(std::uint64_t set) {
    std::vector<std::string> names;
    for (unsigned capability = 0; capability < 64; ++capability) {
        if ((set >> capability & 1) == 0) continue;
        const char* name = capng_capability_to_name(capability);
        names.push_back(name != nullptr ? name : std::to_string(capability));
    }
    return names;
}

}  // namespace refault::daemon
