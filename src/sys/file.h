// Files by descriptor: each function wraps system calls once, repeats on EINTR, finishes short
// transfers and keeps errno. Stateless; any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::sys {

using base::Result;
using base::Status;
using base::UniqueFd;

// `name` relative to the directory; never follows a symbolic link at its end; close-on-exec.
Result<UniqueFd> open_at(int directory, const std::string& name, int flags, mode_t mode = 0);
// Fails when the path ends in a symbolic link (ENOTDIR or ELOOP).
Result<UniqueFd> open_directory(const std::string& path);
// The names in it but "." and "..", in no order.
Result<std::vector<std::string>> list_names(int directory);

Status read_fully(int fd, std::uint64_t offset, std::span<std::uint8_t> into);
Status write_fully(int fd, std::uint64_t offset, std::span<const std::uint8_t> from);
// The whole file, at most bytes_max (Corrupt when it is larger, or no regular file). Never waits
// for a pipe's writer.
Result<std::string> read_small_file(int directory, const std::string& name, std::size_t bytes_max);
// Takes the place of what has the other name.
Status rename_file(int directory, const std::string& from, const std::string& to);
Status remove_file(int directory, const std::string& name);  // Ok when there is none
// Makes names made and removed in the directory durable.
Status sync_directory(int directory);

Status set_size(int fd, std::uint64_t size_bytes);
Status punch_hole(int fd, std::uint64_t offset, std::uint64_t length);
Status allocate(int fd, std::uint64_t offset, std::uint64_t length);
Status sync_data(int fd);

// Whether another open file description of the file exists in the system, behind a descriptor (also
// one in flight) or a mapping: none does when the kernel grants a write lease. Nothing: its
// filesystem has no leases, or the file is somebody else's. The file is open for writing here.
std::optional<bool> has_other_opener(int fd);

struct Span {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
};
// The first run of data at or behind `begin` and before `end`. A filesystem that knows no holes is
// all data. A file that ends before `end` is an error, not a hole.
Result<std::optional<Span>> next_data(int fd, std::uint64_t begin, std::uint64_t end);

// Copies bytes from file to file in steps of the buffer's size.
Status copy_through(int from, std::uint64_t from_offset, int to, std::uint64_t to_offset,
                    std::uint64_t length, std::span<std::uint8_t> buffer);

}  // namespace refault::sys
