// The steps of the failure pipeline that may go wrong, in one table. Every step passes its point;
// tests make it fail there (control API, debug/fault-points; docs/control-api.md) and see that what
// was promised is kept, and that no point is left that no test has reached.
//
// Thread-safe. A point that is not armed costs two relaxed atomic operations.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace refault::failure {

using base::Result;
using base::Status;

enum class FaultPoint : std::uint8_t {
    RecoverFence,
    RecoverRepair,
    RecoverFill,
    RecoverDrop,
    RecoverMarkLost,
    RecoverMetadata,
    LoseMetadata,
    LoseFence,
    LoseSettle,
    MoveFence,
    MovePrepare,
    MoveCopy,
    MoveJournal,
    MovePunch,
    MoveRelease,
    ResyncReserve,
    ResyncMark,
    ResyncCompare,
    ResyncWrite,
    TrackFence,
    TrackProtect,
    PullMetadata,
    PullProve,
    PullForget,
    DetachMetadata,
    DetachProve,
    DetachWrite,
};

struct FaultPointInfo {
    FaultPoint point;
    std::string_view name;
    std::string_view failing;  // what it looks like when it fails here
};

inline constexpr std::array kFaultPoints{
    FaultPointInfo{FaultPoint::RecoverFence, "recover-fence",
                   "another operation holds the range that failed"},
    FaultPointInfo{FaultPoint::RecoverRepair, "recover-repair", "the hole cannot be punched"},
    FaultPointInfo{FaultPoint::RecoverFill, "recover-fill",
                   "the memory was dropped and the copy's bytes cannot be written in its place"},
    FaultPointInfo{FaultPoint::RecoverDrop, "recover-drop",
                   "the journal does not take that a copy is gone"},
    FaultPointInfo{FaultPoint::RecoverMarkLost, "recover-mark-lost",
                   "the journal does not take that a range is lost"},
    FaultPointInfo{FaultPoint::RecoverMetadata, "recover-metadata",
                   "the pool's metadata cannot be written anew"},
    FaultPointInfo{FaultPoint::LoseMetadata, "lose-metadata",
                   "metadata cannot be written to another device than the one that is gone"},
    FaultPointInfo{FaultPoint::LoseFence, "lose-fence",
                   "another operation holds a part of the device that is gone"},
    FaultPointInfo{FaultPoint::LoseSettle, "lose-settle",
                   "the journal does not take that the device is gone"},
    FaultPointInfo{FaultPoint::MoveFence, "move-fence", "another operation holds the range"},
    FaultPointInfo{FaultPoint::MovePrepare, "move-prepare",
                   "the target's segment file cannot be made"},
    FaultPointInfo{FaultPoint::MoveCopy, "move-copy", "reading or writing the bytes fails"},
    FaultPointInfo{FaultPoint::MoveJournal, "move-journal", "the journal does not take the move"},
    FaultPointInfo{FaultPoint::MovePunch, "move-punch", "the old pages cannot be dropped"},
    FaultPointInfo{FaultPoint::MoveRelease, "move-release",
                   "the journal does not take that the old space is free"},
    FaultPointInfo{FaultPoint::ResyncReserve, "resync-reserve", "no place for a copy"},
    FaultPointInfo{FaultPoint::ResyncMark, "resync-mark",
                   "the journal does not take that copies are equal"},
    FaultPointInfo{FaultPoint::ResyncCompare, "resync-compare",
                   "another operation holds the range that is compared"},
    FaultPointInfo{FaultPoint::ResyncWrite, "resync-write", "a copy cannot be written"},
    FaultPointInfo{FaultPoint::TrackFence, "track-fence",
                   "another operation holds the region that is to be tracked"},
    FaultPointInfo{FaultPoint::TrackProtect, "track-protect",
                   "the kernel does not write-protect the region"},
    FaultPointInfo{FaultPoint::PullMetadata, "pull-metadata",
                   "the metadata cannot be moved to another device"},
    FaultPointInfo{FaultPoint::PullProve, "pull-prove", "the kernel's tables cannot be read"},
    FaultPointInfo{FaultPoint::PullForget, "pull-forget",
                   "the journal does not take that the device has left"},
    FaultPointInfo{FaultPoint::DetachMetadata, "detach-metadata",
                   "the metadata cannot be moved to another device"},
    FaultPointInfo{FaultPoint::DetachProve, "detach-prove", "the kernel's tables cannot be read"},
    FaultPointInfo{FaultPoint::DetachWrite, "detach-write",
                   "the pool of its own cannot be written"},
};

std::optional<FaultPoint> fault_point_of(std::string_view name) noexcept;

class FaultPoints {
  public:
    // What an armed point does: its step fails, or the daemon ends there as by kill -9, or the
    // thread stays there, with whatever it has locked, until the point is armed anew (at most a
    // minute).
    enum class Action : std::uint8_t { Fail, Kill, Hold };
    // The next `times` passes of the point do that; with 0, none.
    void arm(FaultPoint point, std::uint64_t times, Action action = Action::Fail) noexcept;
    // Io when the point is armed.
    Status pass(FaultPoint point) noexcept;
    std::uint64_t passed(FaultPoint point) const noexcept;  // failed ones included
    std::uint64_t failed(FaultPoint point) const noexcept;  // held ones included

  private:
    struct Counts {
        std::atomic<std::uint64_t> armed{0};
        std::atomic<std::uint64_t> arming{0};  // counts the calls of arm()
        std::atomic<Action> action{Action::Fail};
        std::atomic<std::uint64_t> passed{0};
        std::atomic<std::uint64_t> failed{0};
    };
    std::array<Counts, kFaultPoints.size()> counts_;
};

}  // namespace refault::failure
