// Live migration of extents under running programs: one batch at a time,
//
//   fence (no new places) -> barrier (no stores) -> copy -> journal -> punch (no page-table entry
//   is left, anywhere)
//     -> lift (pagers fetch the new places, their waiters go on) -> release, once every session has
//     let go
//
// The old pages are punched before anybody can map the new ones: no process ever sees two versions.
// A batch may also add copies: then the old pages stay, and the clients' stores stay stopped until
// each has the new copy beside the old one, so that everything it persists afterwards reaches both.
//
// A client that does not answer is not waited for: its next touch waits in the kernel until its
// pager has fetched the new place. Thread-safe; one batch holds the layout locks of its inodes, no
// other lock while copying.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "base/result.h"
#include "failure/fault_points.h"
#include "failure/pin_watch.h"
#include "session/file_service.h"
#include "session/registry.h"
#include "session/write_barrier.h"
#include "store/store.h"

namespace refault::failure {

using base::Result;
using base::Status;

struct MoveOutcome {
    std::uint64_t bytes_moved = 0;   // in extents moved
    std::uint64_t bytes_copied = 0;  // without holes
    double fence_ms = 0;             // how long the ranges were locked out
    // A client has yet to map a new copy: what it persists until then may miss it.
    bool has_laggards = false;
    std::vector<store::Move>
        later;           // could not be fenced now: a pager is silent in the middle of placing them
    std::string reason;  // why, naming the process
};

class Mover final : public session::Isolator {
  public:
    Mover(store::Store& store, session::Registry& registry, session::WriteBarrier& barrier,
          base::EventSink& events, FaultPoints& faults);
    ~Mover() override;

    // Moves as far as possible; moves that are not current any more are dropped (aborted). On an
    // error nothing of the batch has moved and all of it is aborted. Every move of `batch` is ended
    // on return, except those in `later`.
    Result<MoveOutcome> move_batch(
        std::span<const store::Move> batch,
        session::Registry::OnSilence on_silence = session::Registry::OnSilence::Refuse);

    Status isolate(base::InodeNo inode) override;

    // Takes over the release of extents that were dropped by Store::drop_copies.
    void release_later(std::vector<store::Move> dropped);
    // The same for places that are not to be used again as long as the device is in the pool.
    void retire(const store::Move& dropped);

    // Gives back the old space of earlier moves that no session's mapping shows any more. Until
    // then it is neither given to other files (a mapping that lags would show them) nor truncated
    // (a lagging touch would be SIGBUS instead of waiting for the new place).
    void release_placed();
    // Lets the stores go on of clients that have mapped their new copies by now. True when some
    // have yet to.
    bool open_placed();
    // The same for all of a device, whatever the sessions have reported: for when the kernel's own
    // tables show that no process maps it. Returns how many moves were released.
    std::size_t release_unmapped(base::DeviceId device);

    // Pages of the system that the kernel holds now, if some may be of this device: they were held
    // while a part of it was moved, and not all have been let go of since. A transfer into such a
    // page goes to memory that belongs to no file any more. 0 also when the counts cannot be had,
    // which takes root.
    std::uint64_t pinned_pages(base::DeviceId device);
    // An earlier daemon may have moved what the kernel held, and told nobody.
    void suspect_pins(base::DeviceId device);

  private:
    class Batch;
    // A range whose barrier stays closed until its new copy is mapped by everybody.
    struct Unopened {
        base::InodeNo inode;
        base::FileRange range;
        std::vector<session::FenceTarget> targets;
    };
    // True when nobody waits any more.
    bool open_those_placed(Unopened& unopened);
    // Releases those that `is_free` picks; takes mutex_.
    std::size_t release_if(const std::function<bool(const store::Move&)>& is_free);
    // Copy buffers are kept between batches: fresh memory would be cleared page by page each time.
    std::unique_ptr<std::vector<std::uint8_t>> take_buffer();
    void give_back_buffer(std::unique_ptr<std::vector<std::uint8_t>> buffer);

    store::Store& store_;
    session::Registry& registry_;
    session::WriteBarrier& barrier_;
    base::EventSink& events_;
    FaultPoints& faults_;
    PinWatch pins_;
    base::Mutex mutex_{
        base::LockRank::Mover};  // taken before Registry::mutex_, never held while copying
    std::vector<store::Move> unreleased_ GUARDED_BY(mutex_);
    std::vector<store::Move> retired_ GUARDED_BY(mutex_);
    std::vector<Unopened> unopened_ GUARDED_BY(mutex_);
    std::set<base::DeviceId> maybe_pinned_ GUARDED_BY(mutex_);  // a batch off it met pinned pages
    std::vector<std::unique_ptr<std::vector<std::uint8_t>>> buffers_ GUARDED_BY(mutex_);
};

}  // namespace refault::failure
