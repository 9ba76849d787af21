// The metadata in memory: the fold of all operations since the pool was made. Changed only by
// apply(), except that the segments which hold metadata are set from outside: the devices' labels
// say which they are.
//
// Invariants: a directory has one name, other inodes any number; an operation that does not fit
// changes nothing and gives Corrupt, so that no history, however damaged, can build a state that
// breaks the rules; extent maps and reverse maps say the same. A directory is never above itself.
// Not thread-safe: the store's lock.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/range_set.h"
#include "store/extent_map.h"
#include "store/lost_map.h"
#include "store/operation.h"
#include "store/reverse_map.h"

namespace refault::store {

struct Inode {
    using Children = std::map<std::string, InodeNo, std::less<>>;
    using Names = std::set<std::pair<InodeNo, std::string>>;  // directory, name
    using Extended = std::map<std::string, Bytes, std::less<>>;
    // What few inodes have.
    struct Rare {
        Names names;  // further ones of a file
        Extended extended;
        std::string target;         // of a symbolic link
        base::RangeSet taken_over;  // op::SetTakenOver
    };

    // What path_of reads comes first: one or two cache lines.
    InodeNo parent;  // 0: has no name (the root names itself)
    std::string name;
    Attributes attributes;
    ExtentMap extents;
    LostMap lost;
    bool is_unsynced = false;            // its copies may differ
    std::unique_ptr<Children> children;  // directories
    std::unique_ptr<Rare> rare;

    bool is_directory() const noexcept { return attributes.type == FileType::Directory; }
    bool is_symlink() const noexcept { return attributes.type == FileType::Symlink; }
    bool has_bytes() const noexcept { return attributes.type == FileType::Regular; }
    bool is_named() const noexcept { return parent != InodeNo(); }
    std::size_t name_count() const noexcept {
        return is_named() ? 1 + (rare ? rare->names.size() : 0) : 0;
    }
    const std::string& target() const {
        CHECK(is_symlink() && rare);
        return rare->target;
    }
    Rare& rarely() {
        if (!rare) rare = std::make_unique<Rare>();
        return *rare;
    }
};

class State {
  public:
    struct Device {
        base::Uuid uuid;
        std::string name;
        ReverseMap map;
        std::uint64_t generation = 0;  // of its label; 0: of a pool that did not keep it
    };

    // A device that left without being asked, and what it held then.
    struct Absent {
        base::Uuid uuid;
        std::string name;
        std::uint64_t segment_bytes = 0;
        std::uint32_t segment_count = 0;
        std::uint64_t generation = 0;  // with which it left
        std::vector<Extent> extents;
    };

    Status apply(const Operation& operation);
    // Decodes and applies all of a transaction or a chunk of an image.
    Status apply_record(std::span<const std::uint8_t> record);
    // The operations that rebuild this state, in records of bounded size.
    std::vector<Bytes> image() const;

    const base::Uuid& pool_uuid() const noexcept { return pool_uuid_; }
    const std::string& pool_name() const noexcept { return pool_name_; }
    InodeNo next_inode() const noexcept { return next_inode_; }
    DeviceId next_device() const noexcept { return next_device_; }

    // Whether a device of so many segments can join: the books of a pool have kPoolSegmentsMax.
    bool has_room_for(std::uint32_t segment_count) const noexcept;

    // nullptr when there is none.
    const Inode* inode(InodeNo number) const;
    const std::unordered_map<InodeNo, Inode>& inodes() const noexcept { return inodes_; }
    // Those of which something is taken over: few, and seldom any.
    const std::set<InodeNo>& taken_over() const noexcept { return taken_over_; }
    const Device* device(DeviceId id) const;
    const std::map<DeviceId, Device>& devices() const noexcept { return devices_; }
    const Absent* absent(DeviceId id) const;
    const std::map<DeviceId, Absent>& absent() const noexcept { return absent_; }
    std::string path_of(InodeNo number) const;
    // Every path of it, ascending; none without a name.
    std::vector<std::string> paths_of(InodeNo number) const;
    // Whether `ancestor` is the directory itself or lies above it.
    bool is_above(InodeNo ancestor, InodeNo directory) const;

    // Where the metadata log lies. Precondition: set: no owner; clear: owner Metadata.
    void set_metadata(DeviceId device, SegmentNo segment);
    void clear_metadata(DeviceId device, SegmentNo segment);

  private:
    Status on(const op::SetPool& o);
    Status on(const op::SetCounters& o);
    Status on(const op::AddDevice& o);
    Status on(const op::RemoveDevice& o);
    Status on(const op::CreateInode& o);
    Status on(const op::UpdateInode& o);
    Status on(const op::RemoveInode& o);
    Status on(const op::LinkName& o);
    Status on(const op::UnlinkName& o);
    Status on(const op::OwnSegment& o);
    Status on(const op::DisownSegment& o);
    Status on(const op::AddExtent& o);
    Status on(const op::CutExtent& o);
    Status on(const op::DropExtents& o);
    Status on(const op::RenumberExtent& o);
    Status on(const op::MarkLost& o);
    Status on(const op::ClearLost& o);
    Status on(const op::SetUnsynced& o);
    Status on(const op::SetTakenOver& o);
    Status on(const op::LoseDevice& o);
    Status on(const op::NoteAbsent& o);
    Status on(const op::ForgetAbsent& o);
    Status on(const op::SetGeneration& o);
    Status on(const op::SetNode& o);
    Status on(const op::SetTimes& o);
    Status on(const op::SetExtended& o);
    Status on(const op::RemoveExtended& o);
    Inode* find_inode(InodeNo number);
    ReverseMap* find_map(DeviceId id);

    base::Uuid pool_uuid_;
    std::string pool_name_;
    InodeNo next_inode_{1};
    DeviceId next_device_{1};
    std::unordered_map<InodeNo, Inode> inodes_;
    std::set<InodeNo> taken_over_;
    std::map<DeviceId, Device> devices_;
    std::map<DeviceId, Absent> absent_;
};

// Of all devices together. Their books are in memory, some 64 bytes each, whatever a journal says.
inline constexpr std::uint64_t kPoolSegmentsMax = 1ull << 22;

// Segments from 4 KiB to 1 GiB, and not too many of them.
bool is_possible_shape(std::uint64_t segment_bytes, std::uint32_t segment_count) noexcept;

// 1..255 bytes without "/" or NUL, not "." or "..".
bool is_valid_name(std::string_view name) noexcept;

}  // namespace refault::store
