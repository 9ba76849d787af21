// The parts of the consistency checker, apart from the store so that tests can show them broken
// states. The caller holds the lock of what it passes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "device/device.h"
#include "store/allocator.h"
#include "store/move_book.h"
#include "store/state.h"

namespace refault::store {

// Lines of broken invariants; a broken store has thousands, the first ones tell.
class Report {
  public:
    void add(std::string line) {
        if (lines_.size() < kLinesMax) lines_.push_back(std::move(line));
    }
    std::vector<std::string> take() { return std::move(lines_); }

  private:
    static constexpr std::size_t kLinesMax = 100;
    std::vector<std::string> lines_;
};

// Namespace, sizes and extent maps against the reverse maps. `is_held` says whether an inode may be
// without a name.
void check_inodes(const State& state, const std::function<bool(InodeNo)>& is_held, Report& report);
// Reverse maps against owners, files and the allocator's books.
void check_segments(const State& state, const Allocator& allocator, const MoveBook& moves,
                    Report& report);
// Segment files of one device. `log_segments` are those of its copy of the log; nothing when the
// copy has failed.
void check_files_of(const State& state, const Allocator& allocator, DeviceId id,
                    const device::Device& device,
                    const std::optional<std::vector<SegmentNo>>& log_segments, Report& report);

}  // namespace refault::store
