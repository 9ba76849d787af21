// The store: namespace, inodes, extents, reverse map, allocator and their journal. All of it is in
// memory while the daemon runs; every change is one transaction in the metadata log
// (metadata_log.h) before it is applied.
//
// Invariants (checked by check()):
//  - extents of one file do not overlap; extents of one device do not overlap, nor overlap metadata
//  or free space;
//  - the reverse map and the files' extent maps say the same;
//  - a segment holds extents of its owner alone; a segment without extents has no owner and no
//  file;
//  - free space is all holes, so that new extents read as zero;
//  - what has a copy has a primary or is lost; what has neither is a hole and reads as zeros. A
//  file that programs map has none: a store into a mapping never finds the pool full.
// Thread-safe. One lock (Store::mutex_) guards the state and is held over the journal write;
// per-inode layout locks are taken before it. What frees a file (unlink, rename, unpin) never waits
// for its layout lock: where somebody holds that, its space is freed by who lets go of it last.
// Nothing here waits for a client.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/cred.h"
#include "base/mutex.h"
#include "base/range_set.h"
#include "base/result.h"
#include "device/device.h"
#include "store/layout_lock.h"
#include "store/layout_mutex.h"
#include "store/plans.h"
#include "store/types.h"

namespace refault::store {

using base::Result;
using base::Status;
// Shared: a device that is being removed lives until the last copy or segment descriptor in flight
// is done with it.
using DevicePtr = std::shared_ptr<device::Device>;

class State;          // state.h: the in-memory image, changed only by applying operations
class Allocator;      // allocator.h: which space is taken
class MetadataLog;    // metadata_log.h
class MetadataSpace;  // metadata_log.h
class MoveBook;       // move_book.h: reservations
class LayoutTable;    // layout_table.h
struct Change;        // change.h: a transaction and the space that it frees
struct Inode;
struct Place;  // path_walk.h: a name in a directory
struct Piece;
struct SegmentKey;

class Store {
  public:
    // A new pool on fresh devices (Device::create). Writes labels and the first checkpoint. Root
    // directory: 0755 for `owner`, or 01777 when `owner` is root, so that every user can make
    // files.
    static Result<std::unique_ptr<Store>> create(const std::string& pool_name,
                                                 std::vector<DevicePtr> devices, const Cred& owner);
    // Opens a pool from its members (Device::open). Takes the longest valid history that any of
    // them has, removes segment files that no history owns, punches what is free, and writes a
    // fresh checkpoint on the metadata devices; where none has room for that, all can be read and
    // nothing changed until a device was added. NotFound names members that are missing; Corrupt
    // when no member has a readable history.
    // allow_missing: members that are not given are taken for lost; what has another copy goes on
    // from that, the rest is recorded as lost until they come back.
    // LeftOvers::Keep: programs of an earlier daemon may map what that has left: files without
    // names, and files of segments that have no owner any more. They stay until clear_left_overs().
    enum class LeftOvers { Clear, Keep };
    static Result<std::unique_ptr<Store>> open(std::vector<DevicePtr> devices,
                                               bool allow_missing = false,
                                               LeftOvers left_overs = LeftOvers::Clear);
    void clear_left_overs();
    // Where another copy took over while the pool was opened, or before that without everybody
    // being told: it may be older than what programs that come back have stored. Empty for files
    // that roll back.
    base::RangeSet taken_over_at_open(InodeNo inode) const;
    // Where one took over by now, and not everybody was known to be told; and everybody is.
    std::vector<std::pair<InodeNo, FileRange>> taken_over() const;
    Status forget_taken_over(std::span<const std::pair<InodeNo, FileRange>> parts);
    // Writes nothing: every change is in the log already.
    ~Store();

    const base::Uuid& pool_uuid() const noexcept;
    std::string pool_name() const;

    // ---- namespace. Paths are absolute, "/" separated; names are 1..255 bytes without "/" or NUL,
    // not "." or "..". Errors: NotFound, Exists, Denied (search, write or sticky-bit rule), Invalid
    // (not a directory, name too long ...).
    Result<Attributes> stat(const std::string& path, const Cred& who) const;
    Result<Attributes> stat(InodeNo inode) const;
    Result<Attributes> create_file(const std::string& path, mode_t mode, const Cred& who);
    Result<Attributes> make_directory(const std::string& path, mode_t mode, const Cred& who);
    Status unlink(const std::string& path, const Cred& who);  // files
    Status remove_directory(const std::string& path, const Cred& who);
    Status rename(const std::string& from, const std::string& to,
                  const Cred& who);  // replaces like rename(2)
    Result<std::vector<DirectoryEntry>> list(const std::string& path, const Cred& who) const;
    Status set_mode(const std::string& path, mode_t mode, const Cred& who);
    Status set_owner(const std::string& path, uid_t uid, gid_t gid, const Cred& who);
    Status set_modified(const std::string& path, std::uint64_t modified_ns, const Cred& who);
    // How many copies the file is to have and what a loss does; of a directory: for files made in
    // it from now on. Only notes the wish: see reserve_copies. NoSpace when the pool has fewer
    // devices than copies.
    using Redundancy = store::Redundancy;
    Status set_redundancy(const std::string& path, const Redundancy& wanted, const Cred& who);
    // Resolves and checks permission to read or write the file's bytes, and pins it: it outlives
    // its last name until unpin. Every successful call is paired with one unpin.
    Result<Attributes> open_file(const std::string& path, base::Access access, const Cred& who);
    void unpin(InodeNo inode);
    // One more pin, for a caller who has the file open already or shows a ticket of it; paired with
    // one unpin. NotFound (ESTALE) when it is gone.
    Status pin(InodeNo inode);
    // Whether anybody has it open or mapped.
    bool is_open(InodeNo inode) const;
    // One path of the inode, or "(unlinked)".
    std::string path_of(InodeNo inode) const;
    // All paths of the inode, ascending; none without a name.
    std::vector<std::string> paths_of(InodeNo inode) const;

    // ---- bytes. The caller holds the inode's layout lock.
    // Growing gives what is added space, shrinking drops extents (the caller has revoked the
    // mappings of the range). NoSpace changes nothing.
    Status resize(InodeNo inode, std::uint64_t size_bytes);
    // Short at the end of the file. Never waits for clients.
    Result<std::size_t> read(InodeNo inode, std::uint64_t offset,
                             std::span<std::uint8_t> into) const;
    // Within the size only (resize first). Gives holes space first: NoSpace changes nothing. Sets
    // the modification time.
    Result<std::size_t> write(InodeNo inode, std::uint64_t offset,
                              std::span<const std::uint8_t> from);
    // The range, whole pages, reads as zeros on all copies.
    Status punch(InodeNo inode, FileRange range);

    // ---- holes: parts of a file without extents, which read as zeros. Only where nobody maps the
    // file directly: a store into a mapping never finds the pool full.
    // Growing leaves a hole, shrinking is as in resize.
    Status set_size(InodeNo inode, std::uint64_t size_bytes);
    // Gives the holes in the range extents, all of them or none (NoSpace). Beyond the size: the
    // file grows with it, or, with KeepSize, NotSupported.
    enum class Growth : std::uint8_t { KeepSize, GrowSize };
    Status allocate(InodeNo inode, FileRange range, Growth growth = Growth::KeepSize);
    // The range reads as zeros; whole pages in it give their space back, and are not lost any more.
    Status deallocate(InodeNo inode, FileRange range);
    // Grows the file when it has to, gives the holes in the range extents and writes. NoSpace
    // changes nothing.
    Result<std::size_t> write_growing(InodeNo inode, std::uint64_t offset,
                                      std::span<const std::uint8_t> from);
    // As SEEK_DATA and SEEK_HOLE: ENXIO at or behind the end, or without data up to there. What is
    // lost is data.
    Result<std::uint64_t> next_data(InodeNo inode, std::uint64_t offset) const;
    Result<std::uint64_t> next_hole(InodeNo inode, std::uint64_t offset) const;

    Status populate(InodeNo inode, FileRange range);
    // Durable on the medium.
    Status sync(InodeNo inode, FileRange range);

    // ---- layout.
    LayoutLock lock_layout(InodeNo inode);
    // TimedOut (errno EIO) at the deadline. Readers of bytes share it with each other.
    enum class LayoutUse { Read, Change };
    Result<LayoutLock> lock_layout_until(InodeNo inode, LayoutUse use,
                                         LayoutMutex::Deadline deadline);
    LayoutLock lock_layouts(std::vector<InodeNo> inodes);  // sorted and deduplicated inside
    // The extents that overlap the range, cut to it, ascending.
    std::vector<Extent> extents(InodeNo inode, FileRange range) const;
    Result<SegmentOwner> segment_owner(DeviceId device, SegmentNo segment) const;
    // Device range to owners, ascending. The reverse map.
    std::vector<Located> locate(DeviceId device, DeviceRange range) const;
    // The same answer without the reverse map: from the extents of every inode, and the allocator's
    // book of metadata segments. Holds Store::mutex_ for as long as it takes to look at all of
    // them.
    std::vector<Located> locate_by_inodes(DeviceId device, DeviceRange range) const;

    // ---- moves.
    // Reserves a place on devices that stay for every extent of the device, none on a leaving
    // device; pieces are at most `piece_bytes_max` and keep 2 MiB alignment. All or nothing:
    // NoSpace says with figures what is short.
    Result<std::vector<Move>> reserve_evacuation(DeviceId device, std::uint64_t piece_bytes_max);
    // Reserves segments of its own for the parts of the file that lie in segments shared with other
    // files.
    Result<std::vector<Move>> reserve_isolation(InodeNo inode, std::uint64_t piece_bytes_max);
    // True when the move can still be done: the extent is unchanged and the target device is not
    // leaving.
    bool is_current(const Move& move) const;
    // Reserves another place for the same extent, for a move whose target is leaving; the old
    // reservation is dropped.
    Result<Move> reserve_again(const Move& move);
    // Makes the target's segment file if it is not there yet. Before the copy.
    Status prepare_target(const Move& move);
    // Journals all of them as one transaction; from now on the file's bytes are at the new place.
    // The old ranges stay taken until release_moved. The caller holds the inodes' layout locks and
    // has copied the bytes.
    Status commit_moves(std::span<const Move> moves);
    // After the old ranges were punched: they are free now; segments left empty are truncated and
    // unlinked.
    Status release_moved(std::span<const Move> moves);
    void abort_moves(std::span<const Move> moves);

    // ---- copies (store_copies.cc). Copies of the same bytes never share a device, whatever is
    // reserved, moved or dropped.
    // Reserves places for copies of the file that are missing; `short_bytes` is what finds no
    // place. Copies whose number is too high for what the file is to have: `surplus`.
    using CopyPlan = store::CopyPlan;
    Result<CopyPlan> reserve_copies(InodeNo inode, std::uint64_t piece_bytes_max);
    // Takes copies out of their files; where a primary goes, the next copy becomes it, and where
    // there is none the range is lost (`lost_as`; without it only those go that are too many, and
    // never the last: Invalid). The space stays taken until release_moved. The caller holds the
    // layout locks and has fenced the ranges.
    using Dropped = store::Dropped;
    Result<std::vector<Dropped>> drop_copies(std::span<const Extent> copies,
                                             std::optional<FailureKind> lost_as);
    // The file's bytes are lost though their extents stay: bad memory.
    Status mark_lost(const Extent& extent, FailureKind kind);
    // Around the repair of memory by another copy's bytes, while the extent is punched and written
    // anew: journalled, where the device is there after a crash.
    Status begin_repair(const Extent& bad);
    Status end_repair(const Extent& bad);
    std::vector<LostRange> lost(InodeNo inode, FileRange range) const;
    // Every lost range of every file, open or not.
    std::vector<std::pair<InodeNo, LostRange>> all_lost() const;
    // Gives whole lost pages in the range memory again, all zero. The caller holds the layout lock.
    Status heal(InodeNo inode, FileRange range);
    // The copies of the file may differ from now on / are equal. Journalled; free when it is known.
    Status set_unsynced(InodeNo inode, bool is_unsynced);
    // Files whose copies are too few, too many, or may differ.
    using Attention = store::Attention;
    std::vector<Attention> files_that_need_attention() const;
    bool is_unsynced(InodeNo inode) const;
    // Every file, with its size.
    std::vector<std::pair<InodeNo, std::uint64_t>> files() const;
    // From now on the device's memory is not touched, only its books are kept; it is leaving.
    void set_failed(DeviceId device);
    // Called, from any thread and under layout locks, when a device gives an error.
    using MediaErrorSink =
        std::function<void(DeviceId, DeviceRange, MediaAccess, const base::Error&)>;
    void set_media_error_sink(MediaErrorSink sink);
    void report_media_error(DeviceId device, DeviceRange range, MediaAccess access,
                            const base::Error& error) const;
    // Nothing new is placed in this segment: somebody who is no client holds it.
    void set_held(DeviceId device, SegmentNo segment, bool is_held);
    // Segments of the device whose file is there, metadata's included.
    std::vector<SegmentNo> segments_in_use(DeviceId device) const;
    // A file that the store had in use was gone, which is no client's doing: somebody takes the
    // device away. It is leaving from then on. The store notes by itself what it finds so when it
    // gives a segment up, after which nothing else would tell. False for a device that has failed.
    void note_missing_files(DeviceId device);
    bool misses_files(DeviceId device) const;

    // ---- devices.
    // A fresh device (Device::create) joins; writes its label; takes a metadata copy when there are
    // fewer than two.
    Result<DeviceId> add_device(DevicePtr device);
    Result<DevicePtr> device(DeviceId id) const;
    Result<DeviceId> find_device(const std::string& name) const;
    std::vector<DeviceUsage> usage() const;
    // A leaving device gets no new extents and is nobody's target.
    void set_leaving(DeviceId device, bool is_leaving);
    // Moves the metadata copy, if the device has one, to a device that stays (or drops it when
    // another copy is left and no device can take it... never the last one: then NoSpace or Busy).
    Status evacuate_metadata(DeviceId device);
    // Back to two copies when there are two devices that stay.
    Status ensure_metadata_copies();
    // All copies anew, in fresh segments: for when a part of one is bad.
    Status rewrite_metadata();
    // A device that was lost comes back (Device::open): it is known by its label's uuid. Ranges
    // that are lost since then are there again; of what has another copy, `copies` are moves that
    // bring its old bytes up to date. Everything else on it is dropped. NotFound when this pool
    // does not wait for it. The caller has proved that nobody maps or holds its segments.
    using Rejoined = store::Rejoined;
    Result<Rejoined> rejoin_device(DevicePtr device);
    // Devices of this name that were lost are not waited for any more: their old bytes are of no
    // use, and none of them is known when it comes back. NotFound when there is none.
    Status forget_device(const std::string& name);
    // Whether the pool waits for a device with this label.
    bool is_absent(const device::Label& label) const;
    // And whether it has the generation with which it left: it was attached nowhere since.
    bool is_as_it_left(const device::Label& label) const;
    // These ranges of a device that is lost were punched: they do not come back with it.
    Status forget_absent_parts(std::span<const Extent> punched);
    // Names of the devices that it waits for.
    std::vector<std::string> absent_devices() const;
    // ---- devices that leave with their data (store_export.cc).
    using ExportPlan = store::ExportPlan;
    Result<ExportPlan> plan_export(const DeviceSet& devices) const;
    // These files cannot be opened (Busy) until the mark is taken off.
    void set_detaching(const std::vector<InodeNo>& files, bool is_detaching);
    // Writes a pool of its own on the devices, with the files that lie on them, and forgets both
    // here. The caller has seen to it that nobody has the files open and that no metadata of this
    // pool is there. On an error nothing has changed.
    Status export_devices(const DeviceSet& devices, const std::string& pool_name);

    // Forgets an empty device (no extent, no metadata): journals it, bumps the generation, writes
    // the tombstone label. The caller has proved that nobody maps it. Busy when it still holds
    // something.
    Status remove_device(DeviceId device);

    // ---- checks.
    // Every violated invariant as one line; empty when all is well. Reads the metadata only.
    std::vector<std::string> check() const;
    // Bytes of log since the last checkpoint, epoch, devices with a copy: for status and probes.
    struct LogStatus {
        std::uint64_t epoch = 0;
        std::uint64_t log_bytes = 0;
        std::uint64_t checkpoint_bytes = 0;
        std::vector<DeviceId> devices;
        std::size_t good_copies = 0;  // of which the last write has not failed
        bool is_lost = false;         // no copy is left: nothing can be changed
    };
    LogStatus log_status() const;

  private:
    friend class Tree;
    using Devices = std::map<DeviceId, DevicePtr>;

    Store();

    // ---- changes (store_change.cc).
    // One transaction: journalled, then applied. On an error nothing has changed.
    Status commit_locked(Change& change) REQUIRES(mutex_);
    Status append_and_apply_locked(Change& change) REQUIRES(mutex_);
    void checkpoint_if_due_locked() REQUIRES(mutex_);
    // With `may_drop`, one of the copies will do when not all can be written.
    Status checkpoint_locked(const std::vector<DeviceId>& copies, bool may_drop) REQUIRES(mutex_);
    std::vector<DeviceId> choose_copies_locked(std::optional<DeviceId> excluded) const
        REQUIRES(mutex_);
    std::vector<DeviceId> good_copies_locked() const REQUIRES(mutex_);
    // Adds to the change that the file's extents at or behind a page are dropped.
    void drop_extents_locked(const Inode& node, std::uint64_t begin, Change& change) const
        REQUIRES(mutex_);
    // Adds to the change that segments lose their owner when the change frees the last of what is
    // taken in them.
    Status ensure_metadata_copies_locked() REQUIRES(mutex_);
    void close_emptied_locked(Change& change) const REQUIRES(mutex_);
    // After the commit: punches what was freed, removes the files of closed segments, and gives the
    // space back.
    Status vacate(Change change) EXCLUDES(mutex_);
    void punch_freed(Change& change, const Devices& devices, const DeviceSet& failed) const;
    void make_holes_durable(Change& change, const Devices& devices, const DeviceSet& failed) const;
    Change settle_locked(Change& change) REQUIRES(mutex_);

    // ---- opening (store_open.cc).
    void start_locked(const Devices& devices, const base::Uuid& pool, std::uint64_t first_epoch)
        REQUIRES(mutex_);
    Status match_devices_locked(const std::vector<DevicePtr>& devices, bool allow_missing,
                                Devices& matched) REQUIRES(mutex_);
    Status lose_missing_locked(DeviceId id) REQUIRES(mutex_);
    static std::vector<DevicePtr> part_handed_over(std::vector<DevicePtr>& devices);
    Status finish_hand_over_locked(const std::vector<DevicePtr>& handed_over,
                                   std::vector<DevicePtr>& devices) REQUIRES(mutex_);
    Status protect_metadata_locked(const Devices& devices, std::uint64_t epoch) REQUIRES(mutex_);
    Status settle_books_locked() REQUIRES(mutex_);
    Status remove_orphans_locked() REQUIRES(mutex_);
    Status clean_devices_locked() REQUIRES(mutex_);
    Status clean_device_locked(DeviceId id, device::Device& device) REQUIRES(mutex_);
    Status release_unowned_locked(DeviceId id, device::Device& device) REQUIRES(mutex_);
    Status punch_unowned_locked(DeviceId id, device::Device& device) REQUIRES(mutex_);

    // ---- namespace (namespace*.cc, tree*.cc). What is done with names is the same for paths and
    // for inode numbers. They differ in how a name is found and what is asked of who wants it; that
    // is done anew whenever the lock was left.
    using FindName = std::function<Result<Place>(const State&)>;
    using JudgeNames = std::function<Status(const State&, const Place& from, const Place& to)>;
    struct Renaming;
    Result<Attributes> make_locked(const Place& place, const NewNode& node) REQUIRES(mutex_);
    Result<Attributes> make_at(const std::string& path, const NewNode& node, const Cred& who);
    Status remove_name(const FindName& find, bool is_directory);
    Status remove_path(const std::string& path, const Cred& who, bool is_directory);
    Status rename_name(const Renaming& renaming);
    Result<Change> plan_rename_locked(const Renaming& renaming, InodeNo& unheld) const
        REQUIRES(mutex_);
    Result<Change> plan_exchange_locked(const Place& one, const Place& other) const
        REQUIRES(mutex_);
    bool drop_name_locked(const Place& place, std::uint64_t time_ns, Change& change) const
        REQUIRES(mutex_);
    void drop_inode_locked(const Inode& node, Change& change) const REQUIRES(mutex_);
    void drop_spaceless_inode_locked(InodeNo inode) REQUIRES(mutex_);
    // Frees an inode that has neither a name nor anybody who holds it.
    void free_unheld(InodeNo inode) EXCLUDES(mutex_);
    Status change_attributes_locked(const Inode& node, const AttributeChange& wanted)
        REQUIRES(mutex_);
    // Pins keep an inode and say that it is open; what is remembered is only kept.
    bool is_held_locked(InodeNo inode) const REQUIRES(mutex_);
    enum class Hold : std::uint8_t { Pin, Memory };
    void let_go(InodeNo inode, Hold hold, std::uint64_t count);
    void take_off_locked(InodeNo inode, Hold hold, std::uint64_t count) REQUIRES(mutex_);
    void note_modified_locked(InodeNo inode) REQUIRES(mutex_);
    Status save_unsaved_locked() REQUIRES(mutex_);

    // ---- bytes (store_bytes.cc).
    enum class Fill : std::uint8_t { Hole, Space };
    Status set_size_to(InodeNo inode, std::uint64_t size_bytes, Fill fill);
    Status zero_part(InodeNo inode, FileRange range) const;
    Status zero_part_of_page(InodeNo inode, FileRange range) const;
    Status zero_tail(InodeNo inode, std::uint64_t offset) const;
    Result<std::size_t> write_filling(InodeNo inode, std::uint64_t offset,
                                      std::span<const std::uint8_t> from, std::uint64_t size_bytes);
    // What a range of a file's bytes stands on, at one moment.
    struct FilePart {
        std::uint64_t size_bytes = 0;
        std::vector<Extent> extents;  // cut to the range, primaries first, ascending
        Devices devices;              // those of the extents
        std::vector<LostRange> lost;  // that overlap the range, ascending
    };
    Result<FilePart> part_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);
    Result<FilePart> file_part(InodeNo inode, FileRange range) const;
    // With space under all of it, and the file of this size.
    Result<FilePart> fill_part(InodeNo inode, FileRange range, std::uint64_t size_bytes);
    Status write_to_all(const FilePart& part, std::uint64_t offset,
                        std::span<const std::uint8_t> from) const;
    // Tries the write page by page, and reports the pages that take none.
    void report_bad_pages(const Extent& extent, device::Device& device,
                          std::span<const std::uint8_t> bytes) const;
    static Status read_page_of_any(const Extent& page, const std::vector<Extent>& copies,
                                   const Devices& devices, std::span<std::uint8_t> into);
    Status read_any_copy(const Extent& primary, const std::vector<Extent>& copies,
                         const Devices& devices, std::span<std::uint8_t> into) const;

    // ---- space (store_space.cc).
    // Gives the holes in the pages extents and the file its size, as one transaction; nothing is
    // written when both are so already.
    Status fill_locked(const Inode& node, FileRange pages, std::uint64_t size_bytes)
        REQUIRES(mutex_);
    std::vector<FileRange> holes_locked(const Inode& node, FileRange range) const REQUIRES(mutex_);
    std::vector<Extent> place_holes_locked(const Inode& node, const SegmentOwner& owner,
                                           const std::vector<FileRange>& holes) REQUIRES(mutex_);
    Status make_segment_file_locked(SegmentKey key) REQUIRES(mutex_);
    void unplace_locked(std::span<const Piece> pieces) REQUIRES(mutex_);

    // ---- copies (store_copies.cc).
    // Cuts the range where the devices change that have, or are about to get, other copies of it.
    std::vector<std::pair<FileRange, DeviceSet>> taken_devices_locked(
        InodeNo inode, FileRange range, std::uint32_t replica,
        std::span<const Extent> planned) const REQUIRES(mutex_);
    bool ends_with_daemon_locked(DeviceId device) const REQUIRES(mutex_);
    Status end_broken_repairs_locked() REQUIRES(mutex_);
    void drop_copy_locked(const Extent& copy, FailureKind kind, Change& change, Dropped& dropped)
        REQUIRES(mutex_);
    Status may_export_locked(const DeviceSet& devices, const ExportPlan& plan) const
        REQUIRES(mutex_);
    Result<State> exported_state_locked(const DeviceSet& devices, const std::vector<InodeNo>& files,
                                        const base::Uuid& pool, const std::string& name) const
        REQUIRES(mutex_);
    Status write_exported_locked(State& state, const DeviceSet& devices, const base::Uuid& pool)
        REQUIRES(mutex_);

    // ---- devices that come back (store_rejoin.cc).
    class Rejoin;
    Status place_lost_locked(const Inode& node, FileRange range, Change& change,
                             std::vector<Piece>& pieces, std::set<SegmentKey>& owned)
        REQUIRES(mutex_);

    // ---- moves (store_moves.cc).
    struct MovePlan;
    void plan_moves_locked(const std::vector<Extent>& extents, std::optional<SegmentOwner> owner,
                           std::uint64_t piece_bytes_max, MovePlan& plan) REQUIRES(mutex_);
    void plan_piece_locked(const Extent& extent, FileRange range, const SegmentOwner& owner,
                           std::optional<Piece>& behind, MovePlan& plan) REQUIRES(mutex_);
    void give_up_plan_locked(const MovePlan& plan) REQUIRES(mutex_);
    bool is_current_locked(const Move& move) const REQUIRES(mutex_);
    std::string staying_room_locked(std::optional<DeviceId> excluded) const REQUIRES(mutex_);

    const std::string& name_of_locked(DeviceId device) const REQUIRES(mutex_);
    SegmentKey segment_key_locked(DeviceId device, std::uint64_t offset) const REQUIRES(mutex_);

    base::Uuid pool_uuid_;                        // constant once the store is made
    const std::shared_ptr<LayoutTable> layouts_;  // has a lock of its own

    mutable base::Mutex mutex_{base::LockRank::Store};
    Devices devices_ GUARDED_BY(mutex_);
    std::unique_ptr<State> state_ GUARDED_BY(mutex_);
    std::unique_ptr<Allocator> allocator_ GUARDED_BY(mutex_);
    std::unique_ptr<MoveBook> moves_ GUARDED_BY(mutex_);
    std::unique_ptr<MetadataSpace> space_ GUARDED_BY(mutex_);
    std::unique_ptr<MetadataLog> log_ GUARDED_BY(mutex_);
    std::map<InodeNo, std::uint32_t> pins_ GUARDED_BY(mutex_);
    // How often each inode is remembered; may name inodes that have left with a device.
    std::unordered_map<InodeNo, std::uint64_t> remembered_ GUARDED_BY(mutex_);
    // Modification times that wait for the next transaction.
    std::set<InodeNo> unsaved_times_ GUARDED_BY(mutex_);
    // Inodes that had neither name nor space and are gone, likewise.
    std::vector<InodeNo> unsaved_removals_ GUARDED_BY(mutex_);
    std::uint64_t first_epoch_ GUARDED_BY(mutex_) = 1;
    // After a checkpoint that failed, the next one waits until the log has grown to this.
    std::uint64_t checkpoint_retry_bytes_ GUARDED_BY(mutex_) = 0;
    std::size_t known_failed_copies_ GUARDED_BY(mutex_) = 0;
    DeviceSet failed_devices_ GUARDED_BY(mutex_);
    // No device is left that has or could take a copy; the state is in memory alone.
    bool is_metadata_lost_ GUARDED_BY(mutex_) = false;
    // The pool was opened without room for a checkpoint: what lies on media is the old history's.
    bool is_uncleaned_ GUARDED_BY(mutex_) = false;
    std::set<InodeNo> detaching_ GUARDED_BY(mutex_);
    // Until clear_left_overs() everything is held.
    bool keeps_left_overs_ GUARDED_BY(mutex_) = false;
    std::map<InodeNo, base::RangeSet> taken_over_at_open_ GUARDED_BY(mutex_);
    MediaErrorSink media_error_sink_ GUARDED_BY(mutex_);
};

}  // namespace refault::store
