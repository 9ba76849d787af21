// The page table of another process, as /proc/PID/pagemap shows it: which pages of a range of its
// addresses have an entry now. Asked by the PAGEMAP_SCAN ioctl (Linux 6.7), which passes over what
// is empty, else entry by entry; both give the same answer. Nothing is written and no page is
// brought in. The answer is outdated when it is read, since the process goes on. Stateless but for
// the open file; any thread.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::sys {

using base::AddressRange;
using base::Result;
using base::UniqueFd;

enum class PagemapMethod { Scan, Entries };

// Neighbouring pages of one kind.
struct PageRun {
    AddressRange addresses;
    // False: the entry stands for a page that is in swap, or being moved or poisoned.
    bool is_present = false;
    // The page is the file's (or of shared memory); false for the process's own copy of it, and on
    // older kernels for every DAX page.
    bool is_file = false;
    bool operator==(const PageRun&) const = default;
};

class Pagemap {
  public:
    // `reader`: see ProcessMaps. Gone when it has ended, Denied when it may not be read,
    // NotSupported when the kernel was built without. Without `method`, the best there is.
    static Result<Pagemap> open(pid_t reader, const std::string& proc_root = "/proc",
                                std::optional<PagemapMethod> method = {});
    // Pages with an entry, ascending; a page that the range covers in part counts. Gone when the
    // process has ended.
    Result<std::vector<PageRun>> runs(AddressRange addresses) const;
    PagemapMethod method() const noexcept { return method_; }

  private:
    Pagemap(UniqueFd fd, PagemapMethod method) : fd_(std::move(fd)), method_(method) {}

    UniqueFd fd_;
    PagemapMethod method_;
};

// Whether this kernel knows PAGEMAP_SCAN; asked once.
bool has_pagemap_scan();

}  // namespace refault::sys
