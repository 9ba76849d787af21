// The removal states of one slot and the indicator each one shows. The only code that sets
// indicators.
//
//     InService --begin--> Leaving --prove ok--> SafeToPull
//         ^                   |  \--failed--> Failed (attention on) --restored--> InService
//         +------cancel/refused+
//     Leaving --not provable--> Unproven (amber: power blinking, attention on); --proved-->
//     SafeToPull
// Invariant (rule 8): SafeToPull, and with it power Off, is reached only through proved().
// SafeToPull is final: the next device in the slot gets a machine of its own.
// Thread-safe; holds its own leaf lock.
#pragma once

#include <memory>
#include <string_view>

#include "base/mutex.h"
#include "base/result.h"
#include "slot/slot.h"

namespace refault::slot {

enum class SlotState { InService, Leaving, Unproven, SafeToPull, Failed };

std::string_view slot_state_name(
    SlotState state) noexcept;  // "in-service", "leaving", "unproven", ...

class SlotMachine {
  public:
    explicit SlotMachine(std::unique_ptr<Slot> slot);

    // Each gives Invalid and changes nothing when the state does not allow it. An indicator that
    // cannot be set is returned as an error, after the state has changed.
    base::Status begin_removal();  // InService, Failed -> Leaving
    base::Status restore();        // Leaving, Unproven, Failed -> InService
    base::Status proved();         // Leaving, Unproven -> SafeToPull
    base::Status unproven();       // Leaving -> Unproven
    base::Status failed();         // any but SafeToPull -> Failed

    SlotState state() const;
    const Slot& slot() const { return *slot_; }

  private:
    enum class Event { BeginRemoval, Restore, Proved, Unproven, Failed };
    base::Status change(Event event);
    base::Status show_locked(SlotState state) REQUIRES(mutex_);

    const std::unique_ptr<Slot> slot_;
    mutable base::Mutex mutex_{base::LockRank::SlotMachine};
    SlotState state_ GUARDED_BY(mutex_) = SlotState::InService;
};

}  // namespace refault::slot
