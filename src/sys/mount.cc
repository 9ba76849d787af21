// mount(2), umount2(2), statfs(2), fusermount3.
#include "sys/mount.h"

#include <linux/magic.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <vector>

namespace refault::sys {

using base::sys_error;

base::Status mount_tmpfs(const std::string& directory, const TmpfsOptions& options) {
    std::string text = "mode=0700,size=" + std::to_string(options.size_bytes);
    if (options.numa_node) text += ",mpol=bind:" + std::to_string(*options.numa_node);
    constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    const auto try_mount = [&](const std::string& data) {
        return ::mount("refault", directory.c_str(), "tmpfs", kFlags, data.c_str()) == 0;
    };
    // A kernel without transparent huge pages does not know the option.
    if (try_mount(text + ",huge=always") || (errno == EINVAL && try_mount(text))) return {};
    return sys_error("mount a tmpfs at " + directory);
}

base::Status unmount(const std::string& directory) {
    if (::umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
        return sys_error("unmount " + directory);
    return {};
}

base::Status unmount_fuse(const std::string& directory, bool is_lazy) {
    if (::geteuid() == 0) {
        if (::umount2(directory.c_str(), (is_lazy ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW) != 0)
            return sys_error("unmount " + directory);
        return {};
    }
    std::vector<std::string> words{"fusermount3", "-u", "-q"};
    if (is_lazy) words.emplace_back("-z");
    words.emplace_back("--");
    words.push_back(directory);
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    pid_t child = -1;
    if (const int failure =
            ::posix_spawnp(&child, "fusermount3", nullptr, nullptr, arguments.data(), environ);
        failure != 0)
        return sys_error("start fusermount3", failure);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return sys_error("wait for fusermount3");
    if (status != 0) return sys_error("unmount " + directory, EBUSY);
    return {};
}

// A line: ID PARENT MAJOR:MINOR ROOT DIRECTORY ..., with space, tab, newline and backslash as \040
// and the like. What was mounted last comes last.
std::uint64_t mounted_device(const std::string& directory) {
    std::string wanted;
    for (const char c : directory) {
        char octal[8];
        const bool is_escaped = c == ' ' || c == '\t' || c == '\n' || c == '\\';
        std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(c));
        wanted += is_escaped ? std::string(octal) : std::string(1, c);
    }
    std::ifstream table("/proc/self/mountinfo");
    std::uint64_t found = 0;
    for (std::string line; std::getline(table, line);) {
        std::istringstream words(line);
        std::string id, parent, root, at;
        unsigned major_no = 0, minor_no = 0;
        char colon = 0;
        words >> id >> parent >> major_no >> colon >> minor_no >> root >> at;
        if (at == wanted) found = makedev(major_no, minor_no);
    }
    return found;
}

bool is_mount_point(const std::string& directory) {
    struct stat here, above;
    return ::lstat(directory.c_str(), &here) == 0 &&
           ::stat((directory + "/..").c_str(), &above) == 0 && here.st_dev != above.st_dev;
}

base::Result<FilesystemKind> filesystem_kind(int directory) {
    struct statfs status;
    if (::fstatfs(directory, &status) != 0) return sys_error("statfs");
    if (status.f_type == TMPFS_MAGIC) return FilesystemKind::Tmpfs;
    if (status.f_type == HUGETLBFS_MAGIC) return FilesystemKind::Hugetlbfs;
    return FilesystemKind::Other;
}

}  // namespace refault::sys
