// Wrappers of file system calls.
#include "sys/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <vector>

namespace refault::sys {

using base::Code;
using base::Error;
using base::sys_error;

namespace {

Error shorter(const char* what) {
    return Error(Code::Io, std::string(what) + ": the file is shorter than it should be");
}

template <typename Call>
auto retry(Call call) {
    decltype(call()) rc;
    do rc = call();
    while (rc < 0 && errno == EINTR);
    return rc;
}

}  // namespace

Result<UniqueFd> open_at(int directory, const std::string& name, int flags, mode_t mode) {
    UniqueFd fd(retry(
        [&] { return ::openat(directory, name.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode); }));
    if (!fd) return sys_error(name);
    return fd;
}

Result<UniqueFd> open_directory(const std::string& path) {
    UniqueFd fd(retry(
        [&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); }));
    if (!fd) return sys_error(path);
    return fd;
}

Result<std::vector<std::string>> list_names(int directory) {
    UniqueFd own(::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!own) return sys_error("open a directory");
    DIR* const listing = ::fdopendir(own.get());
    if (listing == nullptr) return sys_error("list a directory");
    (void)own.release();  // closedir closes it
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(listing))
        if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..")
            names.emplace_back(entry->d_name);
    ::closedir(listing);
    return names;
}

Status read_fully(int fd, std::uint64_t offset, std::span<std::uint8_t> into) {
    while (!into.empty()) {
        const ssize_t got = ::pread(fd, into.data(), into.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sys_error("read");
        if (got == 0) return shorter("read");
        into = into.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
    return {};
}

Status write_fully(int fd, std::uint64_t offset, std::span<const std::uint8_t> from) {
    while (!from.empty()) {
        const ssize_t put = ::pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return sys_error("write");
        from = from.subspan(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
    return {};
}

Result<std::string> read_small_file(int directory, const std::string& name, std::size_t bytes_max) {
    // Without O_NONBLOCK a named pipe in the place of the file would stop the caller for ever.
    auto fd = open_at(directory, name, O_RDONLY | O_NONBLOCK);
    if (!fd) return fd.error();
    struct stat status;
    if (::fstat(fd->get(), &status) != 0) return sys_error(name);
    if (!S_ISREG(status.st_mode)) return Error(Code::Corrupt, name + " is not a regular file");
    if (static_cast<std::uint64_t>(status.st_size) > bytes_max)
        return Error(Code::Corrupt, name + " is too large");
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    RETURN_IF_ERROR(
        read_fully(fd->get(), 0, {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
    return text;
}

Status rename_file(int directory, const std::string& from, const std::string& to) {
    if (::renameat(directory, from.c_str(), directory, to.c_str()) != 0) return sys_error("rename");
    return {};
}

Status remove_file(int directory, const std::string& name) {
    if (::unlinkat(directory, name.c_str(), 0) != 0 && errno != ENOENT)
        return sys_error("remove " + name);
    return {};
}

Status sync_directory(int directory) {
    if (retry([&] { return ::fsync(directory); }) != 0) return sys_error("sync of a directory");
    return {};
}

Status set_size(int fd, std::uint64_t size_bytes) {
    if (retry([&] { return ::ftruncate(fd, static_cast<off_t>(size_bytes)); }) != 0)
        return sys_error("truncate");
    return {};
}

Status punch_hole(int fd, std::uint64_t offset, std::uint64_t length) {
    constexpr int kMode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (retry([&] {
            return ::fallocate(fd, kMode, static_cast<off_t>(offset), static_cast<off_t>(length));
        }) != 0)
        return sys_error("punch");
    return {};
}

Status allocate(int fd, std::uint64_t offset, std::uint64_t length) {
    if (retry([&] {
            return ::fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                               static_cast<off_t>(length));
        }) != 0)
        return sys_error("allocate");
    return {};
}

Status sync_data(int fd) {
    if (retry([&] { return ::fdatasync(fd); }) != 0) return sys_error("sync");
    return {};
}

namespace {

// A file cut short behind our back must not pass for a file of holes.
Status expect_size(int fd, std::uint64_t size_bytes) {
    struct stat status;
    if (::fstat(fd, &status) != 0) return sys_error("fstat");
    if (static_cast<std::uint64_t>(status.st_size) < size_bytes) return shorter("next data");
    return {};
}

}  // namespace

std::optional<bool> has_other_opener(int fd) {
    if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0)
        return errno == EAGAIN ? std::optional(true) : std::nullopt;
    (void)::fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
}

Result<std::optional<Span>> next_data(int fd, std::uint64_t begin, std::uint64_t end) {
    if (begin >= end) return std::optional<Span>();
    const off_t data = ::lseek(fd, static_cast<off_t>(begin), SEEK_DATA);
    if (data < 0) {
        if (errno == ENXIO) {  // holes up to the end of the file
            RETURN_IF_ERROR(expect_size(fd, end));
            return std::optional<Span>();
        }
        if (errno == EINVAL || errno == EOPNOTSUPP) return std::optional(Span{begin, end});
        return sys_error("SEEK_DATA");
    }
    const auto first = static_cast<std::uint64_t>(data);
    if (first >= end) return std::optional<Span>();
    const off_t hole = ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return sys_error("SEEK_HOLE");
    return std::optional(Span{first, std::min(static_cast<std::uint64_t>(hole), end)});
}

Status copy_through(int from, std::uint64_t from_offset, int to, std::uint64_t to_offset,
                    std::uint64_t length, std::span<std::uint8_t> buffer) {
    while (length > 0) {
        const auto piece = buffer.first(std::min<std::uint64_t>(length, buffer.size()));
        RETURN_IF_ERROR(read_fully(from, from_offset, piece));
        RETURN_IF_ERROR(write_fully(to, to_offset, piece));
        from_offset += piece.size();
        to_offset += piece.size();
        length -= piece.size();
    }
    return {};
}

}  // namespace refault::sys
