// What people and fstab write: the options of a mount.
#include <string>

#include "fuzz/target.h"
#include "mount/options.h"

namespace refault::fuzz {
namespace {

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (const std::string text :
         {"", "ro", "defaults,noauto,x-systemd.automount,nosuid,,noexec", "allow_other,writeback",
          "no_allow_other,patience_ms=250,comment=x", "remount", "patience_ms=0"})
        all.emplace_back(text.begin(), text.end());
    return all;
}

void run(Input input) {
    const std::string text(input.begin(), input.end());
    base::discard(mount::parse_mount_options(text, "ro", false), "it must only not crash");
    const auto options = mount::parse_mount_options("/m", text, true);
    CHECK(options.ok() == mount::parse_mount_options("/m", text, false).ok());
    if (!options) return;
    CHECK(options->patience.count() > 0);
    // They go to the kernel joined by commas: none may smuggle in another.
    for (const auto& option : options->kernel_options)
        CHECK(!option.empty() && option.find_first_of(",=\\") == option.npos);
}

const Registration registered({"options", seeds, run, 300'000});

}  // namespace
}  // namespace refault::fuzz
