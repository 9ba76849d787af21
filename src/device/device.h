// A device: a memory with an address space of its own, cut into segments, each a file of a host
// filesystem.
//
//     device address   0 ........ S ........ 2S ........ 3S ..          S = segment_bytes, a power
//     of two file             seg-00000   seg-00001   seg-00002
//
// Invariants:
//  - A segment's file exists only while the segment has an owner (store) and is made anew for each
//  ownership, so a
//    descriptor or a mapping kept from an earlier ownership reaches an unlinked, truncated file and
//    nothing else.
//  - The daemon reaches device memory by pread, pwrite and splice alone: a dying device gives an
//  error, not a signal.
// Thread-safe: all calls may come from any thread; create/release of the same segment are ordered
// by the caller.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/cred.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/range.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/uuid.h"
#include "device/label.h"
#include "device/medium.h"
#include "device/spec.h"

namespace refault::device {

using base::Access;
using base::DeviceRange;
using base::Result;
using base::SegmentNo;
using base::Status;
using base::UniqueFd;
using base::Uuid;

// Where segment files of one kind take which barrier and how a new place is filled.
enum class MemoryKind : std::uint8_t {
    Shmem,  // tmpfs and hugetlbfs: pages take userfaultfd
    Other,  // ext4, XFS, fsdax ...: they do not
};

// What became of a segment's file behind our back.
enum class SegmentHealth : std::uint8_t {
    Whole,
    Short,  // cut: what lies behind its end is gone
    Gone,   // no file of that name, or another one
};
struct SegmentState {
    SegmentHealth health = SegmentHealth::Gone;
    base::DeviceRange missing;  // whole pages that its file does not have; empty when it is whole
};

// By the name of its file, with directories or without; nothing when it is none, or removed.
std::optional<SegmentNo> segment_of_path(std::string_view path);

// A device on its way from one daemon to the next, with the lock that keeps all others away.
struct HandedOverDevice {
    DeviceSpec spec;
    std::string directory;
    bool is_private_mount = false;
    bool owns_directory = false;
    UniqueFd lock;
};

class Device {
  public:
    // Makes the directory (and, for ram:, the private tmpfs where it may mount) with no label yet.
    // Fails with Exists when the directory of a dir: device holds segment files or a member's label
    // already (a tombstone is taken over), with NotFound when it is not there, Denied when other
    // users may write in it, Busy when another daemon has it.
    // Whoever passes a trace is told of every change of the device's files.
    static Result<std::unique_ptr<Device>> create(const DeviceSpec& spec, const Uuid& pool,
                                                  MediumTrace trace = {});
    // Opens a device that has a label. Fails with NotFound (no label), Corrupt, NotSupported (newer
    // version).
    static Result<std::unique_ptr<Device>> open(const DeviceSpec& spec, MediumTrace trace = {});
    // What a daemon that is about to be replaced by another in the same process gives it; and the
    // device there, ram: devices too. Of a device whose directory is gone: NotFound.
    Result<HandedOverDevice> hand_over() const;
    static Result<std::unique_ptr<Device>> take_over(HandedOverDevice handed_over);
    // The label of a dir: device, without taking the device.
    static Result<Label> peek_label(const DeviceSpec& spec);
    // Removes the label and the segment files of a dir: device of which a pool thinks it is a
    // member. Busy when a daemon has it.
    static Status wipe(const DeviceSpec& spec, MediumTrace trace = {});
    // Unmounts and removes what create() made for a ram: device; leaves a dir: device's files
    // alone.
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    const DeviceSpec& spec() const noexcept { return spec_; }
    const std::string& name() const noexcept { return spec_.name; }
    // Absolute path of the directory with the segment files.
    const std::string& directory() const noexcept { return directory_; }
    MemoryKind memory_kind() const noexcept { return memory_kind_; }
    std::uint64_t capacity_bytes() const noexcept { return segment_bytes_ * segment_count_; }
    std::uint64_t segment_bytes() const noexcept { return segment_bytes_; }
    std::uint32_t segment_count() const noexcept { return segment_count_; }
    // True when a private tmpfs is mounted for this device.
    bool is_private_mount() const noexcept { return is_private_mount_; }

    SegmentNo segment_at(std::uint64_t offset) const noexcept {
        return SegmentNo(static_cast<std::uint32_t>(offset / segment_bytes_));
    }
    DeviceRange segment_range(SegmentNo segment) const noexcept {
        return DeviceRange::of_length(segment.raw() * segment_bytes_, segment_bytes_);
    }

    // Makes the segment's file, all holes, of full size. Fails with Exists when there is one (see
    // ensure_fresh).
    // Whose files they are is told to who looks on: the log's, or bytes of files.
    Status create_segment(SegmentNo segment, DurableWrite row = DurableWrite::SegmentMake);
    // Removes a left-over file of that number first, if there is one: for segments the metadata
    // says are free. Durable as soon as sync() of the segment is.
    Status create_fresh_segment(SegmentNo segment, DurableWrite row = DurableWrite::SegmentMake);
    // Truncates the file to nothing (the kernel drops every page-table entry, whoever holds it) and
    // unlinks it. Ok when there is none.
    Status release_segment(SegmentNo segment, DurableWrite row = DurableWrite::SegmentRemove);
    // How many released segments somebody still has open or mapped, by the kernel's word; those of
    // earlier daemons count. Not complete when somebody else has removed a segment's file, or the
    // filesystem has no leases. A private tmpfs is better asked for its inodes.
    struct HeldSegments {
        std::uint64_t count = 0;
        bool is_complete = false;
    };
    HeldSegments held_segments() const;
    // How many segment files somebody else has open or mapped, by the kernel's word. Nothing: it
    // could not tell.
    std::optional<std::uint64_t> count_held_files() const;
    bool has_segment(SegmentNo segment) const;
    SegmentState probe_segment(SegmentNo segment) const;
    // Whether the directory is still where it was and shows the device: its label can be read.
    bool is_reachable() const;
    // Every segment file in the directory, ascending.
    Result<std::vector<SegmentNo>> list_segments() const;
    // A new open file description for a client. The client's rights end with what `access` says.
    Result<UniqueFd> open_segment(SegmentNo segment, Access access) const;
    // (st_dev, st_ino) of the segment's file: how /proc names it.
    struct FileIdentity {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        auto operator<=>(const FileIdentity&) const = default;
    };
    Result<FileIdentity> segment_identity(SegmentNo segment) const;

    // Byte access; ranges may cross segments, all of which must exist. Holes read as zero. Nothing
    // is read or written behind the end of a segment's file that somebody has cut (Io): a write
    // there would make it longer, and what was cut off would read as zeros, also for others.
    Status read(std::uint64_t offset, std::span<std::uint8_t> into) const;
    Status write(std::uint64_t offset, std::span<const std::uint8_t> from,
                 DurableWrite row = DurableWrite::FileBytes);
    // Drops the range's pages: every mapping loses its page-table entries, the next touch is a
    // missing page.
    Status punch(DeviceRange range, DurableWrite row = DurableWrite::FileHole);
    // Gives the range memory now (fallocate), so that a later touch cannot find the host filesystem
    // full.
    Status populate(DeviceRange range);
    // Durable on the medium (fdatasync); free on tmpfs.
    Status sync(DeviceRange range, DurableWrite row = DurableWrite::FileBytes);
    // The next part at or after range.begin() that holds data (not a hole), cut to `range`; nothing
    // when there is none.
    Result<std::optional<DeviceRange>> next_data(DeviceRange range) const;

    // The label is replaced as a whole and durably (write, sync, rename, sync directory).
    Status write_label(const Label& label);
    Result<Label> read_label() const;
    Status remove_label();
    // A copy of what was last read or written.
    Label label() const;

    // Bytes free on the host filesystem under a dir: device, or of the tmpfs.
    Result<std::uint64_t> host_free_bytes() const;

  private:
    friend Result<std::uint64_t> copy_range(const Device&, DeviceRange, Device&, std::uint64_t,
                                            std::span<std::uint8_t>);
    // Descriptors of segments stay open between calls; shared, because a release may come while a
    // copy runs.
    using SharedFd = std::shared_ptr<UniqueFd>;

    Device(DeviceSpec spec, std::string directory, MediumTrace trace = {});
    Status check_spec() const;
    Status open_directory();
    Status expect_nothing_foreign() const;
    // After open_directory(), of a dir: device: nothing of another pool, or of others, is there.
    Status expect_unused(const Uuid& pool) const;
    Status take_lock();
    // A directory that is no device after all keeps nothing that was made in it.
    void take_back_lock();
    void take_geometry(const Label& label);
    Status choose_geometry();
    Result<SharedFd> segment_fd(SegmentNo segment) const;
    void forget_fd(SegmentNo segment) const;
    // removed_segments.cc. False when there is none of that name.
    Result<bool> remove_file(SegmentNo segment, DurableWrite row);
    void note_uncounted() const;
    Status set_aside(UniqueFd fd, const std::string& file, DurableWrite row) const;
    // Those that were set aside when the directory was last in use.
    Status adopt_removed();
    void cut_open_file(SegmentNo segment, DurableWrite row) const;
    // Of its file, for who looks on.
    std::string name_of(SegmentNo segment) const;
    // Memory keeps what it was told until it is gone as a whole.
    bool needs_sync() const { return memory_kind_ != MemoryKind::Shmem || medium_.is_traced(); }
    // Calls action(descriptor, segment, offset in the segment, length) for each segment's part of
    // the range.
    template <typename Action>
    Status for_each_part(DeviceRange range, Action action) const;

    DeviceSpec spec_;
    std::string directory_;
    UniqueFd directory_fd_;
    Medium medium_;     // of directory_fd_
    UniqueFd lock_fd_;  // flock: one daemon a device
    bool has_made_lock_file_ = false;
    MemoryKind memory_kind_ = MemoryKind::Other;
    bool is_private_mount_ = false;
    bool owns_directory_ = false;
    std::uint64_t segment_bytes_ = 0;
    std::uint32_t segment_count_ = 0;
    mutable base::Mutex mutex_;  // a leaf lock
    mutable std::map<SegmentNo, SharedFd> open_segments_ GUARDED_BY(mutex_);
    mutable Label label_ GUARDED_BY(mutex_);
    // A released segment that somebody else had open then, and the name that it has meanwhile.
    struct HeldFile {
        UniqueFd fd;
        std::string name;
    };
    mutable std::vector<HeldFile> held_ GUARDED_BY(mutex_);
    mutable bool is_count_complete_ GUARDED_BY(mutex_) = true;
};

// Large enough that a whole huge page of the target is written at once: the kernel then need not
// clear it first.
inline constexpr std::size_t kCopyBufferBytes = 2u << 20;

// Copies the data parts of `from_range` to `to_offset` of another (or the same) device, by pread
// and pwrite through `buffer`: measured faster than splice, which handles each small page on its
// own. Holes stay holes (the target range must be all holes). Neither range may cross a segment
// boundary. Returns the bytes copied.
Result<std::uint64_t> copy_range(const Device& from, DeviceRange from_range, Device& to,
                                 std::uint64_t to_offset, std::span<std::uint8_t> buffer);
// The same with a buffer of its own.
Result<std::uint64_t> copy_range(const Device& from, DeviceRange from_range, Device& to,
                                 std::uint64_t to_offset);

// Makes the target range equal to the source, holes included, writing only what differs. Neither
// range may cross a segment boundary. Returns the bytes that were written.
Result<std::uint64_t> copy_changed(const Device& from, DeviceRange from_range, Device& to,
                                   std::uint64_t to_offset);

}  // namespace refault::device
