// The POSIX permission rule.
#include "base/cred.h"

#include <algorithm>

namespace refault::base {

bool may_access(const Cred& who, uid_t owner, gid_t group, mode_t mode, int want) noexcept {
    if (who.uid == 0) return true;
    const bool in_group = who.gid == group || std::find(who.groups.begin(), who.groups.end(),
                                                        group) != who.groups.end();
    const int shift = who.uid == owner ? 6 : in_group ? 3 : 0;
    const int granted = static_cast<int>(mode >> shift) & 7;
    return (granted & want) == want;
}

}  // namespace refault::base
