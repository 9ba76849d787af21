// Segments that processes had mapped before the pool was opened. Nothing new is placed in them
// (Store::set_held): through a mapping that this daemon knows nothing of, it could be reached
// without a fence.
//
//   opened, mapped by somebody --> held --> mapped only where this daemon has placed it --> free
//
// A program that comes back gets all its places anew. What it maps at those addresses from then on
// is this daemon's doing, so a segment that is mapped nowhere else is given back: after an upgrade
// all of them within moments, unless somebody has a descriptor of one, or a place is on its way
// still. `set_aside` before anybody may connect; `start` once; the rest on the thread
// `held-segments`, which ends when nothing is held.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "base/event.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "session/registry.h"
#include "store/store.h"

namespace refault::failure {

class HeldSegments {
  public:
    HeldSegments(store::Store& store, base::EventSink& events) : store_(store), events_(events) {}
    ~HeldSegments();
    HeldSegments(const HeldSegments&) = delete;
    HeldSegments& operator=(const HeldSegments&) = delete;

    // Finds the device's in the kernel's tables.
    void set_aside(const device::Device& device);
    // When all programs are back: who is not has mapped them elsewhere still.
    void start(const session::Registry& registry);

  private:
    using Segments = std::set<base::SegmentNo>;

    void run(const session::Registry& registry);
    // Gives back what is held no more.
    void look(const session::Registry& registry);
    // Nothing is known when the tables cannot be read: all are held still.
    Segments still_held(const device::Device& device, const Segments& held,
                        const session::Registry& registry) const;

    store::Store& store_;
    base::EventSink& events_;
    std::map<base::DeviceId, Segments> held_;  // before start(): the opener's; then the thread's
    base::Mutex mutex_;
    base::CondVar changed_;
    bool must_stop_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::failure
