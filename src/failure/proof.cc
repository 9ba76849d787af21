// Looking through /proc, and asking the tmpfs for its count of inodes.
#include "failure/proof.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/units.h"
#include "sys/file.h"
#include "sys/process.h"

namespace refault::failure {

using base::Code;
using base::sys_error;

namespace {

void add_mappings(pid_t pid, const sys::ProcessMaps& maps, const std::string& proc_root,
                  const SegmentMatcher& matcher, ProofReport& report) {
    for (const auto& [entry, segment] : matcher.mappings_of_segments(maps, proc_root)) {
        Holder holder;
        holder.pid = pid;
        holder.path = entry.path;
        holder.addresses = entry.addresses;
        holder.file_range = FileRange::of_length(entry.file_offset, entry.addresses.length());
        report.holders.push_back(std::move(holder));
    }
}

void add_descriptors(pid_t pid, const std::vector<sys::OpenDescriptor>& descriptors,
                     const SegmentMatcher& matcher, ProofReport& report) {
    for (const auto& open : descriptors) {
        if (!matcher.is_segment(open.device, open.inode, open.path)) continue;
        Holder holder;
        holder.pid = pid;
        holder.kind = Holder::Kind::Descriptor;
        holder.path = open.path;
        holder.descriptor = open.number;
        report.holders.push_back(std::move(holder));
    }
}

template <typename T>
bool is_answered(const base::Result<T>& result) {
    return result.ok() || result.error().code() == Code::Gone;
}

// Descriptors of threads that left the table of their process (CLONE_FILES undone), or of all of
// them when the first thread has ended and took its view of the table along.
bool read_other_descriptors(pid_t pid, const std::vector<pid_t>& threads,
                            const std::string& proc_root, const SegmentMatcher& matcher,
                            ProofReport& report) {
    std::vector<pid_t> known{pid};
    for (const pid_t thread : threads) {
        if (std::any_of(known.begin(), known.end(),
                        [&](pid_t other) { return sys::shares_descriptors(other, thread); }))
            continue;
        known.push_back(thread);
        const auto descriptors = sys::read_descriptors(thread, proc_root);
        if (descriptors && pid != ::getpid()) add_descriptors(pid, *descriptors, matcher, report);
        if (!is_answered(descriptors)) return false;
    }
    return true;
}

// All tables of one process. False when they could not be read although it is alive.
bool read_process(pid_t pid, const std::string& proc_root, const SegmentMatcher& matcher,
                  ProofReport& report) {
    const auto maps = sys::read_process_maps(pid, proc_root);
    const auto descriptors = sys::read_descriptors(pid, proc_root);
    const auto threads = sys::list_threads(pid, proc_root);
    if (maps) add_mappings(pid, *maps, proc_root, matcher, report);
    // The daemon's own descriptors are the device's, which closes them when it releases the
    // segment.
    if (descriptors && pid != ::getpid()) add_descriptors(pid, *descriptors, matcher, report);
    const bool are_threads_read =
        threads.size() < 2 || read_other_descriptors(pid, threads, proc_root, matcher, report);
    return is_answered(maps) && is_answered(descriptors) && are_threads_read;
}

}  // namespace

// Every inode of a tmpfs counts as long as a name, a descriptor (also one in flight) or a mapping
// keeps it alive.
std::optional<std::uint64_t> count_hidden_inodes(int directory) {
    struct statvfs status;
    const auto names = sys::list_names(directory);
    if (!names || ::fstatvfs(directory, &status) != 0 || status.f_files == 0) return std::nullopt;
    const std::uint64_t named = names->size() + 1;  // the root directory itself
    const auto alive = status.f_files - status.f_ffree;
    return alive > named ? alive - named : 0;
}

Result<ProofTarget> proof_target(const device::Device& device) {
    auto files = list_segment_files(device);
    if (!files) return files.error();
    return ProofTarget{std::move(*files), [&device] { return device.held_segments(); }};
}

Result<ProofReport> prove(const ProofTarget& target, const std::string& proc_root) {
    const auto start = std::chrono::steady_clock::now();
    auto processes = sys::list_processes(proc_root);
    if (!processes) return processes.error();
    const SegmentMatcher matcher(target.files);
    ProofReport report;
    report.sees_all_processes =
        sys::is_in_initial_pid_namespace() && sys::shows_processes_of_all_users();
    for (const pid_t pid : *processes) {
        if (read_process(pid, proc_root, matcher, report))
            ++report.processes_read;
        else
            report.unreadable.push_back(pid);
    }
    for (auto& holder : report.holders) holder.command = sys::command_of(holder.pid, proc_root);
    // After the tables: what was let go of meanwhile must not look held.
    if (target.files.is_private_mount) {
        if (const auto directory = sys::open_directory(target.files.directory))
            report.hidden_inodes = count_hidden_inodes(directory->get());
        report.is_count_complete = report.hidden_inodes.has_value();
    } else if (target.held_segments) {
        const auto held = target.held_segments();
        report.hidden_inodes = held.count;
        report.is_count_complete = held.is_complete && ::geteuid() == 0;
    }
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return report;
}

std::string ProofReport::summary() const {
    if (!holders.empty()) {
        const Holder& first = holders.front();
        std::string text =
            "pid " + std::to_string(first.pid) + " (" + first.command + ") still " +
            (first.kind == Holder::Kind::Mapping ? "maps " : "holds a descriptor of ") + first.path;
        if (holders.size() > 1)
            text += ", and " + std::to_string(holders.size() - 1) + " more holdings";
        return text + "; end the process or let it go on";
    }
    if (hidden_inodes && *hidden_inodes > 0)
        return std::to_string(*hidden_inodes) +
               " removed segments are still held by something that no process table shows (a "
               "descriptor in flight, "
               "another mount namespace)";
    if (pinned_pages > 0)
        return std::to_string(pinned_pages) +
               " pages of memory are held by the kernel for transfers (direct I/O, registered "
               "io_uring buffers, RDMA), perhaps some of this device; end those transfers, or "
               "cancel and pull with --accept-pinned";
    if (!is_proven() && !sees_all_processes)
        return "this daemon does not see all processes (it runs in a pid namespace of its own, or "
               "/proc hides those of others), and the kernel cannot answer for them: see refault "
               "doctor";
    if (!is_proven())
        return "the tables of " + std::to_string(unreadable.size()) +
               " processes could not be read (first: pid " + std::to_string(unreadable.front()) +
               ")" +
               (::geteuid() == 0
                    ? ", and the kernel cannot answer for them: somebody has removed files of the "
                      "device; end those processes, or let the daemon see them"
                    : "; run the daemon as root to prove it");
    return "proven: " + std::to_string(processes_read) + " processes read, none holds a segment" +
           (is_count_complete ? "; the kernel counts no hidden holder" : "");
}

}  // namespace refault::failure
