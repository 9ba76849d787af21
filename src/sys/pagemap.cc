// PAGEMAP_SCAN, and the entries of /proc/PID/pagemap for kernels without it.
#include "sys/pagemap.h"

#include <fcntl.h>
#include <linux/types.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <span>

namespace refault::sys {

using base::Code;
using base::Error;
using base::sys_error;

namespace {

// From <linux/fs.h> of Linux 6.7, under names of our own: a newer header has the same ones.
struct ScanRegion {
    __u64 start;
    __u64 end;
    __u64 categories;
};
struct ScanArgument {
    __u64 size;
    __u64 flags;
    __u64 start;
    __u64 end;
    __u64 walk_end;
    __u64 vec;
    __u64 vec_len;
    __u64 max_pages;
    __u64 category_inverted;
    __u64 category_mask;
    __u64 category_anyof_mask;
    __u64 return_mask;
};
constexpr auto kScan = _IOWR('f', 16, ScanArgument);
constexpr std::uint64_t kScanFile = 1ull << 2;
constexpr std::uint64_t kScanPresent = 1ull << 3;
constexpr std::uint64_t kScanSwapped = 1ull << 4;

// Documentation/admin-guide/mm/pagemap.rst
constexpr std::uint64_t kEntryFile = 1ull << 61;
constexpr std::uint64_t kEntrySwapped = 1ull << 62;
constexpr std::uint64_t kEntryPresent = 1ull << 63;

constexpr std::size_t kRegionsAtOnce = 512;
constexpr std::size_t kEntriesAtOnce = 8192;

std::uint64_t page_bytes() {
    static const auto bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

void append(std::vector<PageRun>& runs, const PageRun& run) {
    if (!runs.empty()) {
        auto& last = runs.back();
        if (last.addresses.end() == run.addresses.begin() && last.is_present == run.is_present &&
            last.is_file == run.is_file) {
            last.addresses = AddressRange(last.addresses.begin(), run.addresses.end());
            return;
        }
    }
    runs.push_back(run);
}

Result<std::vector<PageRun>> scan(int fd, AddressRange addresses) {
    std::vector<PageRun> runs;
    std::array<ScanRegion, kRegionsAtOnce> regions;
    for (auto begin = addresses.begin(); begin < addresses.end();) {
        ScanArgument argument{};
        argument.size = sizeof argument;
        argument.start = begin;
        argument.end = addresses.end();
        argument.vec = reinterpret_cast<std::uintptr_t>(regions.data());
        argument.vec_len = regions.size();
        argument.category_anyof_mask = kScanPresent | kScanSwapped;
        argument.return_mask = kScanPresent | kScanSwapped | kScanFile;
        const int count = ::ioctl(fd, kScan, &argument);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return sys_error("PAGEMAP_SCAN");
        for (const auto& region : std::span(regions).first(static_cast<std::size_t>(count)))
            append(runs,
                   {AddressRange(region.start, region.end), (region.categories & kScanPresent) != 0,
                    (region.categories & kScanFile) != 0});
        // A full list ends the walk early; an unfinished one without progress would never end.
        if (argument.walk_end <= begin) break;
        begin = argument.walk_end;
    }
    return runs;
}

Result<std::vector<PageRun>> read_entries(int fd, AddressRange addresses) {
    std::vector<PageRun> runs;
    std::vector<std::uint64_t> entries(kEntriesAtOnce);
    for (auto at = addresses.begin(); at < addresses.end();) {
        const auto wanted =
            std::min<std::uint64_t>(entries.size(), (addresses.end() - at) / page_bytes());
        const ssize_t got = ::pread(fd, entries.data(), wanted * sizeof entries[0],
                                    static_cast<off_t>(at / page_bytes() * sizeof entries[0]));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return sys_error("/proc/PID/pagemap");
        const auto count = static_cast<std::size_t>(got) / sizeof entries[0];
        if (count == 0) return Error(Code::Gone, "process ended", ESRCH);
        for (std::size_t i = 0; i < count; ++i, at += page_bytes()) {
            const auto entry = entries[i];
            if ((entry & (kEntryPresent | kEntrySwapped)) == 0) continue;
            append(runs, {AddressRange::of_length(at, page_bytes()), (entry & kEntryPresent) != 0,
                          (entry & kEntryFile) != 0});
        }
    }
    return runs;
}

}  // namespace

bool has_pagemap_scan() {
    static const bool is_there = [] {
        const UniqueFd fd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
        const auto here = reinterpret_cast<std::uintptr_t>(&kRegionsAtOnce);
        return fd && scan(fd.get(), AddressRange::of_length(base::align_down(here, page_bytes()),
                                                            page_bytes()))
                         .ok();
    }();
    return is_there;
}

Result<Pagemap> Pagemap::open(pid_t reader, const std::string& proc_root,
                              std::optional<PagemapMethod> method) {
    const auto directory = proc_root + "/" + std::to_string(reader);
    const auto path = directory + "/pagemap";
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        const int failure = errno;
        if (failure == ENOENT && ::access(directory.c_str(), F_OK) == 0)
            return Error(Code::NotSupported,
                         "this kernel shows no page tables; use one with CONFIG_PROC_PAGE_MONITOR",
                         failure);
        if (failure == ENOENT) return Error(Code::Gone, "process ended", ESRCH);
        return sys_error(path, failure);
    }
    if (!method) method = has_pagemap_scan() ? PagemapMethod::Scan : PagemapMethod::Entries;
    return Pagemap(std::move(fd), *method);
}

Result<std::vector<PageRun>> Pagemap::runs(AddressRange addresses) const {
    if (addresses.empty()) return std::vector<PageRun>();
    const AddressRange pages(base::align_down(addresses.begin(), page_bytes()),
                             base::align_up(addresses.end(), page_bytes()));
    return method_ == PagemapMethod::Scan ? scan(fd_.get(), pages) : read_entries(fd_.get(), pages);
}

}  // namespace refault::sys
