// Reading /proc.
#include "sys/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>

namespace refault::sys {

using base::Code;
using base::Error;
using base::sys_error;

namespace {

std::string process_path(const std::string& proc_root, pid_t pid, std::string_view entry) {
    return proc_root + "/" + std::to_string(pid) + "/" + std::string(entry);
}

// /proc files have no size: read to the end.
Result<std::string> read_all(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return sys_error(path);
    std::string text;
    std::size_t length = 0;
    for (;;) {
        text.resize(std::max<std::size_t>(length * 2, 16 * 1024));
        const ssize_t got = ::read(fd.get(), text.data() + length, text.size() - length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sys_error(path);
        if (got == 0) break;
        length += static_cast<std::size_t>(got);
    }
    text.resize(length);
    return text;
}

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

// Takes a number off the front of `text`; false when there is none.
bool take_number(std::string_view& text, std::uint64_t& number, int base) {
    const auto [end, failure] =
        std::from_chars(text.data(), text.data() + text.size(), number, base);
    if (failure != std::errc{}) return false;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return true;
}

bool take(std::string_view& text, char expected) {
    if (!text.starts_with(expected)) return false;
    text.remove_prefix(1);
    return true;
}

}  // namespace

std::string command_of(pid_t pid, const std::string& proc_root) {
    auto text = read_all(process_path(proc_root, pid, "comm"));
    if (!text || text->empty()) return "?";
    if (text->back() == '\n') text->pop_back();
    return *text;
}

bool is_in_initial_pid_namespace() {
    // PROC_PID_INIT_INO: the first namespace has a fixed number.
    constexpr ino_t kInitial = 0xEFFFFFFC;
    struct stat space {};
    return ::stat("/proc/self/ns/pid", &space) != 0 || space.st_ino == kInitial;
}

bool shows_processes_of_all_users() {
    return ::access("/proc/1", F_OK) == 0;
}

Result<std::vector<pid_t>> list_processes(const std::string& proc_root) {
    Directory directory(::opendir(proc_root.c_str()));
    if (!directory) return sys_error(proc_root);
    std::vector<pid_t> pids;
    while (const dirent* entry = ::readdir(directory.get())) {
        std::string_view name = entry->d_name;
        std::uint64_t pid = 0;
        if (take_number(name, pid, 10) && name.empty()) pids.push_back(static_cast<pid_t>(pid));
    }
    std::sort(pids.begin(), pids.end());
    return pids;
}

// 7f12a000-7f12b000 rw-s 00001000 00:2f 4711                       /path/to/file (deleted)
bool parse_maps_line(std::string_view line, MapsEntry& entry) {
    std::uint64_t begin = 0, end = 0, major_no = 0, minor_no = 0;
    if (!take_number(line, begin, 16) || !take(line, '-') || !take_number(line, end, 16) ||
        !take(line, ' '))
        return false;
    if (line.size() < 5 || begin > end) return false;
    entry.is_shared = line[3] == 's';
    line.remove_prefix(4);  // permissions
    if (!take(line, ' ') || !take_number(line, entry.file_offset, 16) || !take(line, ' '))
        return false;
    if (!take_number(line, major_no, 16) || !take(line, ':') || !take_number(line, minor_no, 16))
        return false;
    if (!take(line, ' ') || !take_number(line, entry.inode, 10)) return false;
    while (take(line, ' ')) {
    }
    entry.addresses = AddressRange(begin, end);
    entry.device = makedev(static_cast<unsigned>(major_no), static_cast<unsigned>(minor_no));
    entry.path = line;
    return true;
}

Result<std::vector<MapsEntry>> read_maps(pid_t pid, const std::string& proc_root) {
    auto text = read_all(process_path(proc_root, pid, "maps"));
    if (!text) {
        // A file below a process directory that is gone says ENOENT; a process in its last steps
        // says ESRCH.
        if (text.error().sys_errno() == ENOENT) return Error(Code::Gone, "process ended", ESRCH);
        return text.error();
    }
    std::vector<MapsEntry> entries;
    std::string_view rest = *text;
    while (!rest.empty()) {
        const auto end = rest.find('\n');
        MapsEntry entry;
        if (parse_maps_line(rest.substr(0, end), entry)) entries.push_back(std::move(entry));
        rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    }
    return entries;
}

Result<ProcessMaps> read_process_maps(pid_t pid, const std::string& proc_root) {
    auto entries = read_maps(pid, proc_root);
    if (!entries) return entries.error();
    ProcessMaps maps{pid, std::move(*entries)};
    if (!maps.entries.empty()) return maps;
    for (const pid_t thread : list_threads(pid, proc_root)) {
        entries = read_maps(thread, proc_root);
        if (!entries) return entries.error();
        maps = {thread, std::move(*entries)};
        if (!maps.entries.empty()) break;
    }
    return maps;
}

Result<std::pair<std::uint64_t, std::uint64_t>> mapped_file(pid_t pid, AddressRange addresses,
                                                            const std::string& proc_root) {
    char name[64];
    std::snprintf(name, sizeof name, "map_files/%llx-%llx",
                  static_cast<unsigned long long>(addresses.begin()),
                  static_cast<unsigned long long>(addresses.end()));
    const auto path = process_path(proc_root, pid, name);
    struct statx status;
    if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_INO, &status) != 0)
        return sys_error(path);
    return std::pair<std::uint64_t, std::uint64_t>(
        makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino);
}

std::vector<pid_t> list_threads(pid_t pid, const std::string& proc_root) {
    auto threads = list_processes(process_path(proc_root, pid, "task"));
    return threads ? std::move(*threads) : std::vector<pid_t>();
}

bool shares_descriptors(pid_t one, pid_t other) {
    return ::syscall(SYS_kcmp, one, other, KCMP_FILES, 0, 0) == 0;
}

Result<std::vector<OpenDescriptor>> read_descriptors(pid_t pid, const std::string& proc_root) {
    const auto path = process_path(proc_root, pid, "fd");
    Directory directory(::opendir(path.c_str()));
    if (!directory) {
        if (errno == ENOENT || errno == ESRCH) return Error(Code::Gone, "process ended", ESRCH);
        return sys_error(path);
    }
    std::vector<OpenDescriptor> found;
    while (const dirent* entry = ::readdir(directory.get())) {
        if (entry->d_name[0] == '.') continue;
        // Follows the link to the file itself, whatever mount namespace its name belongs to. What
        // is kept of it will do: to ask a filesystem that this process serves could wait for
        // itself.
        struct statx status;
        if (::statx(dirfd(directory.get()), entry->d_name, AT_STATX_DONT_SYNC,
                    STATX_TYPE | STATX_INO, &status) != 0)
            continue;
        char target[4096];
        const ssize_t length =
            ::readlinkat(dirfd(directory.get()), entry->d_name, target, sizeof target);
        OpenDescriptor descriptor;
        std::uint64_t number = 0;
        std::string_view name = entry->d_name;
        if (take_number(name, number, 10)) descriptor.number = static_cast<int>(number);
        descriptor.device = makedev(status.stx_dev_major, status.stx_dev_minor);
        descriptor.inode = status.stx_ino;
        if (length > 0) descriptor.path.assign(target, static_cast<std::size_t>(length));
        found.push_back(std::move(descriptor));
    }
    return found;
}

Result<UniqueFd> open_pidfd(pid_t pid) {
    UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!fd) return sys_error("pidfd_open");
    return fd;
}

}  // namespace refault::sys
