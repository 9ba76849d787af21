// Who has a device range: three locators, one answer (docs/locating.md).
//
//   rmap     the store's reverse map: a search
//   inodes   the extents of every inode: the same answer without trusting the reverse map
//   pages    the page tables of every process, willing or not: who maps which of its pages now, by
//            the kernel's own word; the reverse map then says which files those pages are of
//
// The first two say where bytes lie, the third who can reach them through a mapping. Page tables
// are read while their processes run, and their pages are looked up after that: the answer is true
// of no single moment while something moves. A process whose tables cannot be read is named in the
// answer. A mapping of a segment released earlier has no part of the device any more and is not in
// it; the proof names it. Stateless; any thread; takes Store::mutex_, and no lock while it reads
// /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "device/device.h"
#include "store/store.h"
#include "sys/pagemap.h"

namespace refault::failure {

using base::AddressRange;
using base::DeviceId;
using base::DeviceRange;
using base::Result;

enum class LocateBy { Rmap, Inodes, Pages };
// "rmap", "inodes" or "pages"; else Invalid.
Result<LocateBy> parse_locate_by(std::string_view name);

// A mapping, or its part over the range asked for.
struct PageMapping {
    pid_t pid = 0;
    std::string command;
    std::string path;  // of the segment's file, as the kernel names it
    bool is_shared = false;
    AddressRange addresses;
    DeviceRange device_range;  // as long
    // False: it is mapped, but its process is among the unreadable ones.
    bool are_pages_known = false;
    // What of the device range has an entry in the page table, ascending. A page that a private
    // mapping has copied is not of the device any more and not in it.
    std::vector<DeviceRange> present;

    std::uint64_t present_bytes() const;
};

struct UnreadableProcess {
    pid_t pid = 0;
    std::string command;
    std::string reason;
};

struct PageTables {
    std::vector<PageMapping> mappings;  // by process and address
    std::vector<UnreadableProcess> unreadable;
    std::uint64_t processes_read = 0;
    double seconds = 0;
};

struct PageSources {
    std::string proc_root = "/proc";
    std::optional<sys::PagemapMethod> method;  // without: the best that the kernel has
};
Result<PageTables> read_page_tables(const device::Device& device, DeviceRange range,
                                    const PageSources& sources = {});

struct Location {
    // Ascending, cut to the range. By pages: the owners of what some process has in its table.
    std::vector<store::Located> owners;
    std::optional<PageTables> page_tables;  // by pages
};
// NotFound when the pool has no such device.
Result<Location> locate(const store::Store& store, DeviceId device, DeviceRange range, LocateBy by,
                        const PageSources& sources = {});

}  // namespace refault::failure
