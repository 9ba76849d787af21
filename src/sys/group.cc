// getgrnam_r(3), getgroups(2), setgroups(2).
#include "sys/group.h"

#include <grp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <vector>

namespace refault::sys {

using base::Code;
using base::Error;
using base::Result;
using base::sys_error;

Result<gid_t> find_group(const std::string& name) {
    gid_t number = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failed == std::errc{} && end == name.data() + name.size()) return number;
    std::vector<char> room(16 * 1024);
    group entry{};
    group* found = nullptr;
    for (;;) {
        const int failure = ::getgrnam_r(name.c_str(), &entry, room.data(), room.size(), &found);
        if (failure == ERANGE) {
            room.resize(room.size() * 2);
            continue;
        }
        if (failure != 0) return sys_error("group " + name, failure);
        break;
    }
    if (found == nullptr)
        return Error(Code::NotFound,
                     "there is no group '" + name + "'; make it by: groupadd " + name);
    return found->gr_gid;
}

Result<gid_t> join_group(const std::string& name) {
    const auto gid = find_group(name);
    if (!gid) return gid;
    const int count = ::getgroups(0, nullptr);
    if (count < 0) return sys_error("getgroups");
    std::vector<gid_t> groups(static_cast<std::size_t>(count));
    if (::getgroups(count, groups.data()) < 0) return sys_error("getgroups");
    if (::getegid() == *gid || std::find(groups.begin(), groups.end(), *gid) != groups.end())
        return gid;
    groups.push_back(*gid);
    if (::setgroups(groups.size(), groups.data()) != 0)
        return sys_error("this user is no member of the group '" + name +
                         "' and has no right to become one");
    return gid;
}

}  // namespace refault::sys
