// Recovery's own: several ranges locked out at once.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "failure/recovery.h"

namespace refault::failure {

// Fences of several ranges, the layout locks of their files, and the barrier on who maps them; all
// given back in the opposite order.
class Recovery::Fenced {
  public:
    // How long a failure waits for a pager that is in the middle of placing a part of the range.
    static constexpr std::chrono::milliseconds kPatience{50};

    Fenced(Recovery& recovery, std::vector<std::pair<base::InodeNo, base::FileRange>> ranges,
           session::LayerMask layers, session::WriteBarrier::Stop stop)
        : recovery_(recovery) {
        std::sort(ranges.begin(), ranges.end());
        for (const auto& [inode, range] : ranges) {
            auto targets = recovery_.registry_.fence(inode, range,
                                                     std::chrono::steady_clock::now() + kPatience,
                                                     session::Registry::OnSilence::GoOn, layers);
            if (!targets) continue;
            fences_.push_back({inode, range});
            targets_.insert(targets_.end(), targets->begin(), targets->end());
        }
        std::vector<base::InodeNo> inodes;
        for (const auto& fence : fences_) inodes.push_back(fence.inode);
        layouts_ = recovery_.store_.lock_layouts(std::move(inodes));
        // Who cannot be stopped has taken its memory out of reach itself.
        (void)recovery_.barrier_.close(targets_, stop);
    }
    ~Fenced() {
        // What has moved is woken by its pager; the rest goes on where it is.
        if (moved_ == 0) recovery_.barrier_.open(targets_);
        layouts_ = {};
        for (const auto& fence : fences_)
            recovery_.registry_.lift(fence.inode, fence.range, moved_);
    }
    Fenced(const Fenced&) = delete;
    Fenced& operator=(const Fenced&) = delete;

    bool has(base::InodeNo inode, base::FileRange range) const {
        return std::any_of(fences_.begin(), fences_.end(), [&](const auto& fence) {
            return fence.inode == inode && fence.range.contains(range);
        });
    }
    void set_moved(session::LayerMask layers) { moved_ = layers; }

  private:
    struct Fence {
        base::InodeNo inode;
        base::FileRange range;
    };
    Recovery& recovery_;
    std::vector<Fence> fences_;
    std::vector<session::FenceTarget> targets_;
    store::LayoutLock layouts_;
    session::LayerMask moved_ = 0;
};

}  // namespace refault::failure
