// Owners, modes and types of a device's directory and files.
#include "device/trust.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/device.h"
#include "device/file_names.h"
#include "sys/file.h"

namespace refault::device {

using base::Code;
using base::Error;
using base::Status;

namespace {

bool is_own(const struct stat& status) {
    return status.st_uid == ::geteuid() || status.st_uid == 0;
}

Status check(const struct stat& status, const std::string& path) {
    if (S_ISLNK(status.st_mode))
        return Error(Code::Denied,
                     path +
                         " is a symbolic link, which no daemon makes; remove it, or name another "
                         "directory");
    if (!S_ISREG(status.st_mode))
        return Error(Code::Denied,
                     path + " is no regular file; remove it, or name another directory");
    if (!is_own(status))
        return Error(Code::Denied, path + " belongs to user " + std::to_string(status.st_uid) +
                                       ", who could change it; chown it, or remove it");
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return Error(Code::Denied, path +
                                       " lets others write into it; chmod go-w it, when you "
                                       "trust what it holds");
    return {};
}

}  // namespace

Status check_directory(int directory, const std::string& path) {
    struct stat status;
    if (::fstat(directory, &status) != 0) return base::sys_error(path);
    if (!is_own(status))
        return Error(Code::Denied, path +
                                       " belongs to another user, who could take the data; name a "
                                       "directory of your own, or chown this one");
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return Error(Code::Denied,
                     path +
                         ((status.st_mode & S_IWOTH) != 0 ? " lets every user write in it"
                                                          : " lets its group write in it") +
                         "; name a directory of your own, or chmod go-w this one");
    return {};
}

Status check_files(int directory, const std::string& path) {
    auto names = sys::list_names(directory);
    if (!names) return names.error().within(path);
    for (const auto& name : *names) {
        if (!segment_of_path(name) && !is_removed_name(name) && name != kLabelFile &&
            name != kLockFile)
            continue;
        struct stat status;
        if (::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
            return base::sys_error(path + "/" + name);
        RETURN_IF_ERROR(check(status, path + "/" + name));
    }
    return {};
}

Status check_file(int file, const std::string& name) {
    struct stat status;
    if (::fstat(file, &status) != 0) return base::sys_error(name);
    return check(status, name);
}

}  // namespace refault::device
