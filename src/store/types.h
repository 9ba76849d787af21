// The store's value types: inodes as seen from outside, extents, owners of segments, moves.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/cred.h"
#include "base/ids.h"
#include "base/range.h"

namespace refault::store {

using base::Cred;
using base::DeviceId;
using base::DeviceRange;
using base::FileRange;
using base::InodeNo;
using base::SegmentNo;

using DeviceSet = std::set<DeviceId>;

enum class FileType : std::uint8_t {
    Regular = 1,
    Directory = 2,
    Symlink = 3,
    Fifo = 4,
    Socket = 5,
    CharDevice = 6,
    BlockDevice = 7,
};

// What happens when the copy that survives may lack stores that were not persisted:
//  - Signal: who made the stores gets SIGBUS there until it accepts the older bytes;
//  - Rollback: the older bytes come back without a word to the program.
enum class OnLoss : std::uint8_t { Signal = 1, Rollback = 2 };

// As chmod(2) has them.
inline constexpr mode_t kModeBits = 07777;
inline constexpr mode_t kSetuid = 04000;
inline constexpr mode_t kSetgid = 02000;
inline constexpr mode_t kGroupExecute = 010;

struct Attributes {
    InodeNo inode;
    FileType type = FileType::Regular;
    mode_t mode = 0;  // permission bits alone
    uid_t uid = 0;
    gid_t gid = 0;
    std::uint32_t links = 0;
    std::uint64_t size_bytes = 0;       // of a symbolic link: of its target
    std::uint64_t allocated_bytes = 0;  // of the size, what has memory; copies are not counted
    std::uint64_t device = 0;           // what a device node stands for
    std::uint64_t accessed_ns = 0;      // since the epoch
    std::uint64_t modified_ns = 0;
    std::uint64_t changed_ns = 0;
    std::uint64_t created_ns = 0;
    std::uint32_t replicas = 1;  // copies that the file is to have; of a directory: for new files
    OnLoss on_loss = OnLoss::Signal;
};

// What is to be made; the group, and of a directory the set-group-id bit, come from the directory
// that it is made in when that has the bit.
struct NewNode {
    FileType type = FileType::Regular;
    mode_t mode = 0;  // permission bits alone
    uid_t uid = 0;
    gid_t gid = 0;
    std::uint64_t device = 0;  // device nodes
    std::string target;        // symbolic links
};

// As the flags of renameat2.
enum class RenameMode : std::uint8_t { Replace, NoReplace, Exchange };

struct AttributeChange {
    std::optional<mode_t> mode;
    std::optional<uid_t> uid;
    std::optional<gid_t> gid;
    std::optional<std::uint64_t> accessed_ns;
    std::optional<std::uint64_t> modified_ns;
    std::optional<std::uint64_t> changed_ns;
};

struct DirectoryEntry {
    std::string name;
    Attributes attributes;
};

// More copies of a file than anybody keeps; what lies beyond on media is damage.
inline constexpr std::uint32_t kReplicasMax = 8;
// How many copies a file may ask for.
inline constexpr std::uint32_t kCopiesMax = 4;
// What lies beyond is refused as too large, whatever the pool has.
inline constexpr std::uint64_t kFileBytesMax = 1ull << 60;

// A contiguous run of a device that holds a contiguous run of a file. Never crosses a segment
// boundary.
struct Extent {
    InodeNo inode;
    std::uint64_t file_offset = 0;
    DeviceId device;
    std::uint64_t device_offset = 0;
    std::uint64_t length = 0;
    std::uint32_t replica = 0;  // which of the file's copies; 0 is the primary

    FileRange file_range() const { return FileRange::of_length(file_offset, length); }
    DeviceRange device_range() const { return DeviceRange::of_length(device_offset, length); }
    bool operator==(const Extent&) const = default;
};

// Who may have bytes in a segment. A descriptor of a segment shows all of it, so:
//  - SharedByUser: small files of one user; its descriptor goes to that user and to root alone.
//  - Exclusive: one file; its descriptor goes to whoever may open that file.
//  - Metadata: the store's own; no descriptor ever leaves the daemon.
struct SegmentOwner {
    enum class Kind : std::uint8_t { SharedByUser = 1, Exclusive = 2, Metadata = 3 };
    Kind kind = Kind::Metadata;
    uid_t uid = 0;  // SharedByUser
    InodeNo inode;  // Exclusive
    bool operator==(const SegmentOwner&) const = default;
};

// One answer of the reverse map.
struct Located {
    DeviceRange device_range;
    bool is_metadata = false;
    // For file data:
    InodeNo inode;
    FileRange file_range;
    std::uint32_t replica = 0;
    bool operator==(const Located&) const = default;
};

// Why bytes were lost.
enum class FailureKind : std::uint8_t {
    PlannedRemoval = 1,
    SurpriseRemoval = 2,  // the device, or a part of it, is not there any more
    Poison = 3,           // the memory is there and bad
    InputOutput = 4,      // a read or write gave an error
    Checksum = 5,         // the bytes are not those that were written
    // No loss: another copy is being written into the hole. Found in a journal after a crash alone.
    UnderRepair = 6,
};

// What gave an error: a read can be tried again page by page, to find out which is bad.
enum class MediaAccess { Read, Write };

// A part of a file whose last copy is lost: pages that give SIGBUS and EIO until they are
// overwritten or punched.
struct LostRange {
    FileRange range;
    FailureKind kind = FailureKind::Poison;
    DeviceId device;  // where the last copy was; may have left the pool since
    std::uint64_t device_offset = 0;
    std::uint64_t lost_ns = 0;  // since the epoch
    bool operator==(const LostRange&) const = default;
};

// An extent (or a part of one) on its way to a reserved place. Made by Store::reserve_*, ended by
// exactly one of commit_moves + release_moved, or abort_moves.
struct Move {
    Extent from;
    DeviceId to_device;
    std::uint64_t to_offset = 0;
    // Set: the bytes also stay where they are, and the target becomes this replica of them.
    std::optional<std::uint32_t> copy_as;
    // The target holds an older copy of the same bytes: only what differs is written.
    bool has_old_bytes = false;

    std::uint32_t target_replica() const { return copy_as.value_or(from.replica); }
};

struct DeviceUsage {
    DeviceId id;
    std::string name;
    std::uint64_t capacity_bytes = 0;
    std::uint64_t data_bytes = 0;      // in extents
    std::uint64_t metadata_bytes = 0;  // whole segments of metadata
    std::uint64_t free_bytes = 0;      // what new data may take (metadata's reserve is not counted)
    std::uint64_t extents = 0;
    bool is_leaving = false;
    bool has_failed = false;
    bool has_metadata = false;
};

}  // namespace refault::store
