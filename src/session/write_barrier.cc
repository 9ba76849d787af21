// The barrier by userfaultfd.
#include "session/write_barrier.h"

#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::session {

using base::Access;
using base::Code;
using base::Status;

namespace {

// Neighbours of one session in one range: fewer system calls.
std::vector<FenceTarget> merged(std::span<const FenceTarget> targets) {
    std::vector<FenceTarget> result;
    for (const auto& target : targets) {
        if (!result.empty() && result.back().session == target.session &&
            result.back().access == target.access && result.back().is_live == target.is_live &&
            result.back().addresses.end() == target.addresses.begin())
            result.back().addresses =
                AddressRange(result.back().addresses.begin(), target.addresses.end());
        else
            result.push_back(target);
    }
    return result;
}

Status stop(const FenceTarget& target, WriteBarrier::Stop stop) {
    const int fd = target.session->userfaultfd();
    // A read-only mapping is private and is never written: only its later touches have to wait.
    const bool writes = target.access == Access::ReadWrite;
    RETURN_IF_ERROR(sys::userfaultfd_register(
        fd, target.addresses,
        {.missing = true, .minor = stop == WriteBarrier::Stop::Refill, .write_protect = writes}));
    if (!writes) return {};
    return sys::userfaultfd_write_protect(fd, target.addresses);
}

// One page that the process has replaced by something else must not let the others go on: halves,
// down to single pages.
void stop_or_split(FenceTarget target, WriteBarrier::Stop what,
                   std::vector<FenceTarget>& unstopped) {
    const auto stopped = stop(target, what);
    if (stopped || stopped.error().code() == Code::Gone) return;
    // A process that keeps changing its mappings is not asked again for each of its pages.
    const bool may_split = stopped.error().code() != Code::Busy;
    const auto pages = target.addresses.length() / base::kPageBytes;
    if (pages <= 1 || !may_split) return unstopped.push_back(std::move(target));
    const auto middle = target.addresses.begin() + pages / 2 * base::kPageBytes;
    auto first = target;
    first.addresses = AddressRange(target.addresses.begin(), middle);
    target.addresses = AddressRange(middle, target.addresses.end());
    stop_or_split(std::move(first), what, unstopped);
    stop_or_split(std::move(target), what, unstopped);
}

// A client that disconnects hangs up its pager channel, then unmaps; the daemon may learn of it
// later.
bool is_leaving(const Session& session) {
    return sys::has_hung_up(session.pager_channel());
}

}  // namespace

std::vector<FenceTarget> UserfaultBarrier::close(std::span<const FenceTarget> targets, Stop stop) {
    std::vector<FenceTarget> unstopped;
    for (auto& target : merged(targets)) stop_or_split(std::move(target), stop, unstopped);
    // What was never mapped, because its client has yet to answer, needs no stopping.
    std::erase_if(unstopped, [](const FenceTarget& target) {
        return !target.is_live || is_leaving(*target.session);
    });
    return merged(unstopped);
}

void UserfaultBarrier::open(std::span<const FenceTarget> targets) {
    // What is not live may wait for an earlier move: its pager ends that.
    for (const auto& target : merged(targets))
        if (target.is_live)
            base::discard(
                sys::userfaultfd_unregister(target.session->userfaultfd(), target.addresses),
                "a process that is gone, or has taken its memory out of reach, waits for nothing");
}

}  // namespace refault::session
