// One batch of live migration, from fences to lift.
#include <algorithm>
#include <array>
#include <optional>

#include "base/log.h"
#include "failure/mover.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::FileRange;
using base::InodeNo;
using session::FenceTarget;
using session::Registry;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using store::Move;

namespace {

// How long a batch waits for a pager that is in the middle of placing a part of it.
constexpr milliseconds kPagerPatience{100};
constexpr std::size_t kCompareBytes = 128 * 1024;

double ms_since(steady_clock::time_point start) {
    return std::chrono::duration<double, std::milli>(steady_clock::now() - start).count();
}

}  // namespace

// One batch from fences to lift. Ends every move it took, whatever happens.
class Mover::Batch {
  public:
    Batch(Mover& mover, std::span<const Move> moves)
        : mover_(mover), moves_(moves.begin(), moves.end()) {
        std::sort(moves_.begin(), moves_.end(), [](const Move& a, const Move& b) {
            return std::tuple(a.from.inode, a.from.replica, a.copy_as, a.from.file_offset) <
                   std::tuple(b.from.inode, b.from.replica, b.copy_as, b.from.file_offset);
        });
    }

    Result<MoveOutcome> run(Registry::OnSilence on_silence) {
        take_fences(on_silence);
        const auto fenced_since = steady_clock::now();
        Status moved;
        {
            std::vector<InodeNo> inodes;
            for (const auto& move : moves_) inodes.push_back(move.from.inode);
            auto layouts = mover_.store_.lock_layouts(std::move(inodes));
            moved = move_under_locks();
        }
        const bool has_moved = moved.ok() && !moves_.empty();
        for (const auto& fence : fences_)
            if (has_moved && fence.is_copy) mover_.registry_.hold_stores(fence.inode, fence.range);
        for (const auto& fence : fences_)
            mover_.registry_.lift(fence.inode, fence.range, has_moved ? fence.moved : 0);
        if (has_moved) hand_out_copies();
        outcome_.fence_ms = ms_since(fenced_since);
        if (!moved) return moved.error();
        std::erase_if(moves_, [](const Move& move) { return move.copy_as.has_value(); });
        // Not before the lift has made the parts stale: until then every mapping still counts as
        // placed.
        base::MutexLock lock(mover_.mutex_);
        mover_.unreleased_.insert(mover_.unreleased_.end(), moves_.begin(), moves_.end());
        return std::move(outcome_);
    }

  private:
    struct Fence {
        InodeNo inode;
        FileRange range;
        session::LayerMask moved = 0;
        bool is_copy = false;
        std::vector<FenceTarget> targets;
    };

    // Neighbours in a file share a fence. What cannot be fenced now leaves the batch.
    void take_fences(Registry::OnSilence on_silence) {
        std::vector<Move> kept;
        for (std::size_t i = 0; i < moves_.size();) {
            const InodeNo inode = moves_[i].from.inode;
            FileRange range = moves_[i].from.file_range();
            std::size_t end = i + 1;
            for (; end < moves_.size() && moves_[end].from.inode == inode &&
                   moves_[end].from.replica == moves_[i].from.replica &&
                   moves_[end].copy_as == moves_[i].copy_as &&
                   moves_[end].from.file_offset == range.end();
                 ++end)
                range = FileRange(range.begin(), moves_[end].from.file_range().end());
            auto targets = take_fence(inode, range, moves_[i], on_silence);
            if (targets && !targets->empty() && !takes_userfaultfd(moves_[i])) {
                mover_.registry_.lift(inode, range, /*moved=*/0);
                targets = Error(
                    Code::Busy,
                    targets->front().session->describe() +
                        " maps it from a filesystem that takes no userfaultfd; it has to unmap "
                        "first");
            }
            auto& to = targets ? kept : outcome_.later;
            to.insert(to.end(), moves_.begin() + static_cast<std::ptrdiff_t>(i),
                      moves_.begin() + static_cast<std::ptrdiff_t>(end));
            if (targets) {
                fences_.push_back({inode, range, session::layer_mask(moves_[i].target_replica()),
                                   moves_[i].copy_as.has_value(), *targets});
                targets_.insert(targets_.end(), targets->begin(), targets->end());
            } else {
                outcome_.reason = targets.error().message();
            }
            i = end;
        }
        moves_ = std::move(kept);
    }

    Result<std::vector<FenceTarget>> take_fence(InodeNo inode, FileRange range, const Move& move,
                                                Registry::OnSilence on_silence) {
        RETURN_IF_ERROR(mover_.faults_.pass(FaultPoint::MoveFence));
        return mover_.registry_.fence(inode, range, steady_clock::now() + kPagerPatience,
                                      on_silence, session::layer_mask(move.from.replica));
    }

    bool takes_userfaultfd(const Move& move) const {
        auto device = mover_.store_.device(move.from.device);
        return device && (*device)->memory_kind() == device::MemoryKind::Shmem;
    }

    // Layout locks are held: extents stay as they are. Nothing has moved when it fails.
    Status move_under_locks() {
        drop_outdated();
        if (moves_.empty()) return {};
        auto ready = prepare();
        if (ready) {
            close_barrier();
            ready = copy();
            if (ready) ready = mover_.faults_.pass(FaultPoint::MoveJournal);
            if (ready) ready = mover_.store_.commit_moves(moves_);
            if (!ready) mover_.barrier_.open(targets_);
        }
        if (!ready) {
            mover_.store_.abort_moves(moves_);
            moves_.clear();
            return ready;
        }
        carry_over_late_writes();
        drop_old_pages();
        return {};
    }

    void drop_outdated() {
        std::vector<Move> outdated;
        std::erase_if(moves_, [&](const Move& move) {
            if (mover_.store_.is_current(move)) return false;
            outdated.push_back(move);
            return true;
        });
        mover_.store_.abort_moves(outdated);
    }

    Status prepare() {
        RETURN_IF_ERROR(mover_.faults_.pass(FaultPoint::MovePrepare));
        for (const auto& move : moves_) {
            RETURN_IF_ERROR(mover_.store_.prepare_target(move));
            RETURN_IF_ERROR(check_source(move));
        }
        return {};
    }

    // A client that may write a file can cut its segments short. What is missing is lost, or has
    // another copy: not for a move to decide.
    Status check_source(const Move& move) {
        auto from = mover_.store_.device(move.from.device);
        if (!from) return from.error();
        const auto segment = (*from)->segment_at(move.from.device_offset);
        if (!(*from)->probe_segment(segment).missing.overlaps(move.from.device_range())) return {};
        const Error gone(Code::Busy, "a segment of device " + (*from)->name() +
                                         " is not whole any more: repairing it first");
        mover_.store_.report_media_error(move.from.device, (*from)->segment_range(segment),
                                         store::MediaAccess::Read, gone);
        return gone;
    }

    void close_barrier() {
        std::set<base::SessionId> told;  // once a session and batch
        for (const auto& target : mover_.barrier_.close(targets_)) {
            if (!told.insert(target.session->id()).second) continue;
            // The process itself has unmapped or re-registered its memory: only its own later
            // stores can be lost.
            base::log_line(base::LogLevel::Warning,
                           target.session->describe() + " has taken its mapping out of reach");
            mover_.events_.publish({"mapping-out-of-reach",
                                    {{"session", target.session->id().raw()},
                                     {"pid", std::uint64_t(target.session->cred().pid)}}});
        }
        // From here on nobody can pin a page of the range for writing without waiting.
        pins_ = mover_.pins_.ask();
    }

    Status copy() {
        RETURN_IF_ERROR(mover_.faults_.pass(FaultPoint::MoveCopy));
        auto buffer = mover_.take_buffer();
        auto copied = copy_with(*buffer);
        mover_.give_back_buffer(std::move(buffer));
        return copied;
    }

    Status copy_with(std::vector<std::uint8_t>& buffer) {
        for (const auto& move : moves_) {
            auto from = mover_.store_.device(move.from.device);
            if (!from) return from.error();
            auto to = mover_.store_.device(move.to_device);
            if (!to) return to.error();
            auto copied =
                move.has_old_bytes
                    ? device::copy_changed(**from, move.from.device_range(), **to, move.to_offset)
                    : device::copy_range(**from, move.from.device_range(), **to, move.to_offset,
                                         buffer);
            if (!copied) return copied.error();
            outcome_.bytes_copied += *copied;
            RETURN_IF_ERROR(
                (*to)->sync(base::DeviceRange::of_length(move.to_offset, move.from.length),
                            device::DurableWrite::FileCopy));
        }
        return {};
    }

    // A transfer that held a page before the barrier may have written to it after the copy.
    void carry_over_late_writes() {
        if (mover_.pins_.nothing_was_pinned(pins_)) return;
        {
            base::MutexLock lock(mover_.mutex_);
            for (const auto& move : moves_) mover_.maybe_pinned_.insert(move.from.device);
        }
        std::uint64_t carried = 0;
        for (const auto& move : moves_) carried += carry_over(move);
        if (carried > 0) mover_.events_.publish({"late-writes-carried-over", {{"bytes", carried}}});
    }

    std::uint64_t carry_over(const Move& move) {
        auto from = mover_.store_.device(move.from.device);
        auto to = mover_.store_.device(move.to_device);
        std::uint64_t carried = 0;
        auto rest = move.from.device_range();
        while (from && to && !rest.empty()) {
            auto data = (*from)->next_data(rest);
            if (!data || !*data) break;
            for (auto at = (*data)->begin(); at < (*data)->end(); at += kCompareBytes)
                carried += carry_over_chunk(
                    **from, at, **to, move.to_offset + (at - move.from.device_offset),
                    std::min<std::uint64_t>(kCompareBytes, (*data)->end() - at));
            rest = base::DeviceRange((*data)->end(), rest.end());
        }
        return carried;
    }

    std::uint64_t carry_over_chunk(const device::Device& from, std::uint64_t from_offset,
                                   device::Device& to, std::uint64_t to_offset,
                                   std::uint64_t length) {
        std::vector<std::uint8_t> old_bytes(length), new_bytes(length);
        if (!from.read(from_offset, old_bytes) || !to.read(to_offset, new_bytes)) return 0;
        if (old_bytes == new_bytes) return 0;
        const auto written = to.write(to_offset, old_bytes);
        if (!written)
            base::log_line(base::LogLevel::Error,
                           "a late write could not be kept: " + written.error().message());
        return length;
    }

    // Stores were stopped while the copy was made, and stay so until whoever stores has it, too: a
    // client that is stopped finds them waiting when it goes on, until its pager has come.
    void hand_out_copies() {
        const auto deadline = steady_clock::now() + kPagerPatience;
        for (auto& fence : fences_) {
            if (!fence.is_copy) continue;
            Unopened unopened{fence.inode, fence.range, std::move(fence.targets)};
            (void)mover_.registry_.wait_until_placed(fence.inode, fence.range, deadline);
            if (mover_.open_those_placed(unopened)) continue;
            outcome_.has_laggards = true;
            base::MutexLock lock(mover_.mutex_);
            mover_.unopened_.push_back(std::move(unopened));
        }
    }

    // The bytes live at the new place now. Punching takes the page-table entries of the old place
    // away from every process, also from those that never heard of the move.
    void drop_old_pages() {
        for (const auto& move : moves_) {
            outcome_.bytes_moved += move.from.length;
            if (move.copy_as) continue;
            auto punched = mover_.faults_.pass(FaultPoint::MovePunch);
            auto from = mover_.store_.device(move.from.device);
            if (!from) punched = from.error();
            if (punched) punched = (*from)->punch(move.from.device_range());
            if (!punched)
                base::log_line(base::LogLevel::Error,
                               "old pages could not be dropped: " + punched.error().message());
        }
    }

    Mover& mover_;
    std::vector<Move> moves_;
    std::vector<Fence> fences_;
    std::vector<FenceTarget> targets_;
    PinWatch::Asked pins_;
    MoveOutcome outcome_;
};

Result<MoveOutcome> Mover::move_batch(std::span<const Move> batch, Registry::OnSilence on_silence) {
    release_placed();
    return Batch(*this, batch).run(on_silence);
}

}  // namespace refault::failure
