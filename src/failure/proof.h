// Proof: what the kernel's own tables say of a device. Reads /proc/*/maps, /proc/*/fd (and
// /proc/*/map_files where allowed) of every process, willing or not, and for a private tmpfs the
// kernel's count of live inodes, which also sees holders that no process table shows (descriptors
// in flight, other namespaces). Never trusts what a client says. Stateless but for what is passed
// in; any thread; takes no lock of ours.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "device/device.h"
#include "failure/segment_files.h"

namespace refault::failure {

using base::AddressRange;
using base::FileRange;
using base::Result;
using base::Status;

struct Holder {
    pid_t pid = 0;
    std::string command;
    enum class Kind { Mapping, Descriptor } kind = Kind::Mapping;
    std::string path;        // as the kernel names it
    AddressRange addresses;  // Mapping
    FileRange file_range;    // Mapping: of the segment's file
    int descriptor = -1;     // Descriptor
};

struct ProofReport {
    std::vector<Holder> holders;
    std::uint64_t processes_read = 0;
    std::vector<pid_t>
        unreadable;  // alive, but their tables could not be read: the light stays amber
    // Processes outside of this pid namespace, or hidden by how /proc is mounted, show in no table
    // here: then only a complete count proves anything.
    bool sees_all_processes = true;
    // Removed segments that something still holds, by the kernel's own count (a private tmpfs's
    // inodes beyond those with names; else write leases, see Device::held_segments). Nothing: it
    // could not tell.
    std::optional<std::uint64_t> hidden_inodes;
    // There is a count, it covers every segment that the device ever had, and root asked: 0 is the
    // kernel's word that nobody holds one, also for processes whose tables could not be read.
    bool is_count_complete = false;
    // Pages that the kernel holds for transfers, if some may be of this device (see
    // Mover::pinned_pages).
    std::uint64_t pinned_pages = 0;
    double seconds = 0;

    // Rule 8: nobody holds, nobody unseen.
    bool is_proven() const {
        return holders.empty() && hidden_inodes.value_or(0) == 0 && pinned_pages == 0 &&
               ((unreadable.empty() && sees_all_processes) || is_count_complete);
    }
    // One line for a person: "proven: 212 processes read, none holds a segment" or who holds what.
    std::string summary() const;
};

// Inodes of a private tmpfs beyond those with names, by its root directory. Nothing: it does not
// count them.
std::optional<std::uint64_t> count_hidden_inodes(int directory);

// What to look for. Taken before the segments are released, because afterwards their files have no
// names. Refers to the device, which must outlive it.
struct ProofTarget {
    SegmentFiles files;
    std::function<device::Device::HeldSegments()> held_segments;
};
Result<ProofTarget> proof_target(const device::Device& device);

// `proc_root` is "/proc" but in tests.
Result<ProofReport> prove(const ProofTarget& target, const std::string& proc_root = "/proc");

}  // namespace refault::failure
