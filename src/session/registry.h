// Who maps what: every session's mappings, which parts of them are in place, and which file ranges
// are fenced.
//
// Each part of a mapping is, at any time, one of
//
//   stale     the pager shall fetch it. Nothing of the file is mapped there, or an old place (one
//             that was punched, or one that is handed out again while it is good)
//   placing   sent to the pager as part of a Places message; not yet reported to be in force
//   live      mapped to the extent that the store names
//
// A fence on a file range: no place in it is handed out until it is lifted; the mover holds one
// while bytes move.
//
// Thread-safe; mutex_ is taken after layout locks and before Store::mutex_; never held while
// waiting for a client.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/range_set.h"
#include "base/result.h"
#include "session/page_cache.h"
#include "session/session.h"
#include "store/store.h"
#include "wire/message.h"

namespace refault::session {

using base::AddressRange;
using base::FileRange;
using base::InodeNo;
using base::MappingId;
using base::RangeSet;
using base::Result;
using base::SessionId;
using base::Status;

// For `refault maps`.
struct MappingInfo {
    SessionId session;
    MappingId mapping;
    pid_t pid = 0;
    uid_t uid = 0;
    std::string command;
    InodeNo inode;
    std::string path;
    FileRange file_range;
    AddressRange addresses;
    base::Access access = base::Access::Read;
    std::uint64_t stale_bytes = 0;      // not in place now
    std::uint64_t suspended_bytes = 0;  // waiting for the program to accept older bytes
    std::uint64_t clean_bytes = 0;      // known to be equal on all copies
};

struct SessionInfo {
    SessionId session;
    pid_t pid = 0;
    uid_t uid = 0;
    std::string command;
    std::uint64_t mappings = 0;
    std::uint64_t mapped_bytes = 0;
    bool handles_kernel_faults = false;
};

// Which replicas of a mapping are meant: bit r is replica r. kAllLayers: those the client knows of.
using LayerMask = std::uint32_t;
inline constexpr LayerMask kAllLayers = ~LayerMask{0};
constexpr LayerMask layer_mask(std::uint32_t replica) {
    return LayerMask{1} << replica;
}

// A part of a mapping that a fence has to stop. What is not live may still show an old place: its
// client has not answered yet.
struct FenceTarget {
    std::shared_ptr<Session> session;
    AddressRange addresses;
    base::Access access = base::Access::Read;
    bool is_live = true;
};

class Registry {
  public:
    explicit Registry(store::Store& store);
    ~Registry();

    // What is cached for programs on a mount. Set before the first request; outlives the registry's
    // use.
    void set_page_cache(PageCache& cache) { page_cache_ = &cache; }
    PageCache& page_cache() const { return *page_cache_; }

    // ---- sessions (called by the session server)
    void add_session(std::shared_ptr<Session> session);
    // Forgets the session and its mappings.
    void remove_session(SessionId session);

    // What a program that comes back has from the daemon before: places of so many replicas, which
    // all get new ones, and what is held back from it.
    struct Earlier {
        std::uint32_t replicas = 1;
        RangeSet held = {};
    };
    // All of it stale at first; rings the session's doorbell.
    MappingId add_mapping(const std::shared_ptr<Session>& session, InodeNo inode,
                          FileRange file_range, std::uint64_t address, base::Access access,
                          Earlier earlier);
    // Waits (bounded by the fences' short life) until no fence overlaps the mapping, then forgets
    // it.
    Status remove_mapping(SessionId session, MappingId mapping);

    // ---- pagers
    // What was sent as `placed` is in force; takes up to wire::kPlacesMax stale parts that are not
    // fenced, marks them placing, and opens their segments. Empty when nothing is to be placed now.
    struct Batch {
        wire::Places places;
        std::vector<base::UniqueFd> descriptors;
    };
    Result<Batch> next_places(const std::shared_ptr<Session>& session, std::uint64_t placed);

    // ---- the mover
    // Shuts the range: no place in it is handed out from now on. Waits until `deadline` for another
    // fence there and for pagers that are just placing parts of it. Returns every part of a mapping
    // in the range; TimedOut (and no fence) when a pager stays silent: its process is named in the
    // error. The caller holds no layout lock; who needs several fences takes them in order of
    // (inode, offset).
    //
    // OnSilence::GoOn takes a silent pager's part for stale instead: see "A stopped pager" in
    // docs/architecture.md.
    enum class OnSilence { Refuse, GoOn };
    Result<std::vector<FenceTarget>> fence(InodeNo inode, FileRange range,
                                           std::chrono::steady_clock::time_point deadline,
                                           OnSilence on_silence = OnSilence::Refuse,
                                           LayerMask layers = kAllLayers);
    // Lifts the fence. Every part in the layers that have moved is stale now and the doorbells
    // ring; 0: the parts are live as before.
    // 0: the parts are live as before. What was known to be clean there is not any more, unless the
    // holder of the fence has kept track of every store.
    void lift(InodeNo inode, FileRange range, LayerMask moved, bool keeps_clean = false);
    // True when no session has yet to let go of an old place in the range.
    bool is_placed(InodeNo inode, FileRange range) const;
    // The same for one session.
    bool is_placed(InodeNo inode, FileRange range, SessionId session) const;

    // ---- tracking of stores (rule 4). Of each writable mapping of a file with copies, regions of
    // 2 MiB are either clean, which means write-protected since the copies were found equal, or not
    // known to be.
    static constexpr std::uint64_t kRegionBytes = base::kHugePageBytes;
    struct Region {
        std::shared_ptr<Session> session;
        MappingId mapping;
        InodeNo inode;
        FileRange range;
        AddressRange addresses;
    };
    // Up to `max` regions behind the cursor that are not clean and at rest; begins anew, with an
    // empty cursor, when there are no more.
    struct Cursor {
        MappingId mapping;
        std::uint64_t offset = 0;
    };
    std::vector<Region> unclean_regions(std::size_t max, Cursor& cursor) const;
    // The program has mapped the region as it is now, and nothing of it is held back. The caller
    // holds a fence on the range, so that it stays so.
    bool is_settled(const Region& region) const;
    // The caller has write-protected the addresses as well. False when it is not settled.
    bool mark_clean(const Region& region);
    // A store waits at a write-protected address: lets it go on, and its region is not clean any
    // more. Left alone where somebody holds a fence, who wakes it.
    void stored(const std::shared_ptr<Session>& session, std::uint64_t address);
    // From here to release_stores, stores in the range wait though no fence is there: their
    // write-protection is somebody's barrier. Who releases has opened it, which wakes them.
    void hold_stores(InodeNo inode, FileRange range);
    void release_stores(InodeNo inode, FileRange range);

    // ---- loss
    // Who maps the range, and where. Suspended or not, stale or not.
    struct Spanning {
        std::shared_ptr<Session> session;
        MappingId mapping;
        FileRange range;
        AddressRange addresses;
        base::Access access = base::Access::Read;
    };
    std::vector<Spanning> spanning(InodeNo inode, FileRange range) const;
    // Holds the range back from those who may have stored into it since the copies were last equal:
    // their next touch is SIGBUS until they accept. The caller has fenced the range.
    std::vector<Spanning> suspend(InodeNo inode, FileRange range);
    // Ends that for a part of a mapping, `offset` from its beginning. NoSpace when what is left
    // would be in more than `parts_max` parts, all mappings of the session together.
    Status accept(SessionId session, MappingId mapping, std::uint64_t offset, std::uint64_t length,
                  std::size_t parts_max);
    // In how many parts something is held back from the session.
    std::size_t held_parts(SessionId session) const;
    // Ends it for everybody: the range has bytes of its own now, and no older ones.
    void end_suspension(InodeNo inode, FileRange range);
    // What a client touched that got SIGBUS.
    struct Touched {
        MappingId mapping;
        InodeNo inode;
        FileRange page;
        AddressRange addresses;
        std::uint32_t replica = 0;
        bool is_suspended = false;
        bool lags = false;       // its place is on the way, or fenced
        bool is_beyond = false;  // concealed: a shrink is under way
    };
    std::optional<Touched> find_touched(SessionId session, std::uint64_t address) const;
    // Whether anybody maps the file.
    bool is_mapped(InodeNo inode) const;
    // Whether anybody maps the file for writing.
    bool has_writers(InodeNo inode) const;

    // ---- shrinking
    // From now on the range is handed out as if it were beyond the end of the file, and every
    // mapping of it is told.
    void conceal(InodeNo inode, FileRange range);
    // Ends conceal. was_cut: the file does end there now; else its places are handed out again.
    void reveal(InodeNo inode, FileRange range, bool was_cut);

    // ---- growing, and asking who answers
    // Every part in the range is handed out again, to where its bytes are now.
    void mark_stale(InodeNo inode, FileRange range, LayerMask layers = kAllLayers);
    // Waits until no part of the range is stale or being placed, or the deadline has passed
    // (false).
    bool wait_until_placed(InodeNo inode, FileRange range,
                           std::chrono::steady_clock::time_point deadline);
    // Waits until nothing is stale or being placed, or the deadline has passed; returns how many
    // sessions still lag.
    std::size_t wait_until_placed(std::chrono::steady_clock::time_point deadline);

    // ---- views
    // The users of the sessions that map the file.
    std::vector<base::Cred> users_of(InodeNo inode) const;
    std::vector<MappingInfo> mappings() const;
    // By process, with the room for the copies behind them: where all that is mapped is what it was
    // given here.
    std::map<pid_t, RangeSet> placed_addresses() const;
    std::vector<SessionInfo> sessions() const;

  private:
    struct Mapping;
    struct Fence {
        InodeNo inode;
        FileRange range;
    };

    class BatchBuilder;

    std::size_t held_parts_locked(SessionId session) const REQUIRES(mutex_);
    bool is_fenced_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);
    // The parts of `range` that no fence covers.
    std::vector<FileRange> unfenced_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);
    std::vector<FileRange> placeable_locked(const Mapping& mapping, std::uint32_t replica) const
        REQUIRES(mutex_);
    // Stores that came while a fence was there were left waiting: they try again.
    void wake_stores_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);
    bool is_held_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);
    Mapping* find_settled_locked(const Region& region) const REQUIRES(mutex_);
    void drop_fence_locked(InodeNo inode, FileRange range) REQUIRES(mutex_);
    bool lags_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);
    void mark_stale_locked(InodeNo inode, FileRange range, LayerMask layers = kAllLayers)
        REQUIRES(mutex_);
    // The command and pid of a session that is placing a part of the range, empty when there is
    // none.
    std::string placer_locked(InodeNo inode, FileRange range) const REQUIRES(mutex_);

    store::Store& store_;
    NoPageCache no_page_cache_;
    PageCache* page_cache_ = &no_page_cache_;
    mutable base::Mutex mutex_{base::LockRank::Registry};
    // Signalled when a fence is lifted, a place reported, a mapping or session removed.
    mutable base::CondVar changed_;
    std::map<SessionId, std::shared_ptr<Session>> sessions_ GUARDED_BY(mutex_);
    std::map<MappingId, std::unique_ptr<Mapping>> mappings_ GUARDED_BY(mutex_);
    std::multimap<InodeNo, Mapping*> by_inode_ GUARDED_BY(mutex_);
    std::vector<Fence> fences_ GUARDED_BY(mutex_);
    std::vector<Fence> concealed_ GUARDED_BY(mutex_);
    std::vector<Fence> held_stores_ GUARDED_BY(mutex_);
    std::uint64_t next_mapping_ GUARDED_BY(mutex_) = 1;
    std::uint64_t next_sequence_ GUARDED_BY(mutex_) = 1;
};

}  // namespace refault::session
