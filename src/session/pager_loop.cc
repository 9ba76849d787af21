// The epoll loop over pager channels.
#include "session/pager_loop.h"

#include <array>

#include "base/log.h"
#include "sys/event_fd.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::session {

using base::Code;
using base::Error;
using base::MutexLock;

namespace {
constexpr std::uint64_t kStopTag = 0;                         // session numbers begin at 1
constexpr std::uint64_t kStoresTag = std::uint64_t{1} << 63;  // with the session's number
// When a place could not be had (out of descriptors, say), ask again after this long.
constexpr int kRetryMs = 10;
}  // namespace

Status PagerLoop::start() {
    auto epoll = sys::create_epoll();
    if (!epoll) return epoll.error();
    auto stop = sys::create_event();
    if (!stop) return stop.error();
    epoll_ = std::move(*epoll);
    stop_event_ = std::move(*stop);
    RETURN_IF_ERROR(sys::epoll_add(epoll_.get(), stop_event_.get(), kStopTag));
    thread_ = base::NamedThread("pagers", [this] { run(); });
    return {};
}

PagerLoop::~PagerLoop() {
    if (stop_event_) sys::signal_event(stop_event_.get());
    thread_.join();
}

void PagerLoop::watch(std::shared_ptr<Session> session) {
    const int channel = session->pager_channel();
    const auto id = session->id();
    const int userfaultfd = session->userfaultfd();
    const bool handles_kernel_faults = session->handles_kernel_faults();
    {
        MutexLock lock(mutex_);
        sessions_.emplace(id, std::move(session));
    }
    if (auto added = sys::epoll_add(epoll_.get(), channel, id.raw()); !added)
        base::log_line(base::LogLevel::Error, "cannot watch a pager: " + added.error().message());
    if (handles_kernel_faults)
        base::discard(sys::epoll_add(epoll_.get(), userfaultfd, id.raw() | kStoresTag),
                      "then nothing of it is ever clean");
}

void PagerLoop::forget(SessionId session) {
    MutexLock lock(mutex_);
    const auto at = sessions_.find(session);
    if (at == sessions_.end()) return;
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, at->second->pager_channel(), nullptr);
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, at->second->userfaultfd(), nullptr);
    sessions_.erase(at);
}

void PagerLoop::run() {
    std::array<epoll_event, 64> events;
    for (;;) {
        const int ready = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                       to_retry_.empty() ? -1 : kRetryMs);
        for (int i = 0; i < ready; ++i) {
            const auto& event = events[static_cast<std::size_t>(i)];
            if (event.data.u64 == kStopTag) return;
            if ((event.data.u64 & kStoresTag) != 0) {
                note_stores(SessionId(event.data.u64 & ~kStoresTag));
                continue;
            }
            answer(SessionId(event.data.u64), (event.events & (EPOLLERR | EPOLLHUP)) != 0);
        }
        if (ready == 0) retry();
    }
}

void PagerLoop::retry() {
    MutexLock lock(mutex_);
    for (const auto id : to_retry_)
        if (const auto at = sessions_.find(id); at != sessions_.end()) at->second->ring();
    to_retry_.clear();
}

std::shared_ptr<Session> PagerLoop::find(SessionId id) {
    MutexLock lock(mutex_);
    const auto at = sessions_.find(id);
    return at == sessions_.end() ? nullptr : at->second;
}

void PagerLoop::note_stores(SessionId id) {
    const auto session = find(id);
    if (!session) return;
    const auto events = sys::userfaultfd_read(session->userfaultfd());
    if (!events) {
        // The process is ending.
        (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, session->userfaultfd(), nullptr);
        return;
    }
    for (const auto& event : *events)
        if (event.is_write_protect) registry_.stored(session, event.address);
}

void PagerLoop::answer(SessionId id, bool has_ended) {
    const auto session = find(id);
    if (!session) return;
    const auto refuse = [&](const Error& error) {
        forget(id);
        if (error.code() != Code::Gone) session->hang_up(error.within("pager"));
    };
    auto message = receive(*session);
    if (!message) {
        // Readiness that nothing can be read from would come back at once, for ever.
        if (message.error().code() != Code::Busy || has_ended) refuse(message.error());
        return;
    }
    auto decoded = wire::decode_pager_message(*message);
    if (!decoded) return refuse(decoded.error());
    if (const auto* fault = std::get_if<wire::Fault>(&*decoded)) {
        if (!session->begin_fault(limits_.faults_per_session))
            return refuse(Error(Code::NoSpace, "more faults than --faults-per-session at once"));
        return faults_.fault(session, *fault);
    }
    const auto* fetch = std::get_if<wire::Fetch>(&*decoded);
    if (fetch == nullptr)
        return refuse(Error(Code::Corrupt, "a pager sent something else than Fetch or Fault"));
    if (auto answered = answer_fetch(session, fetch->placed); !answered) refuse(answered.error());
}

// Descriptors are looked for before the message is taken off the queue: the kernel then closes none
// of them here.
Result<std::vector<std::uint8_t>> PagerLoop::receive(const Session& session) const {
    auto has_descriptors = sys::carries_descriptors(session.pager_channel());
    if (!has_descriptors) return has_descriptors.error();
    if (*has_descriptors) return Error(Code::Corrupt, "descriptors where none belong");
    auto message = sys::receive_message(session.pager_channel(), wire::kMessageBytesMax,
                                        /*may_wait=*/false);
    if (!message) return message.error();
    return std::move(message->bytes);
}

Status PagerLoop::answer_fetch(const std::shared_ptr<Session>& session, std::uint64_t placed) {
    if (sys::unread_bytes(session->pager_channel()) > limits_.unread_bytes)
        return Error(Code::Busy, "asks for more places than it reads");
    auto batch = registry_.next_places(session, placed);
    if (!batch) {
        base::log_line(base::LogLevel::Warning,
                       "no place for " + session->describe() + ": " + batch.error().message());
        to_retry_.insert(session->id());
        return sys::send_message(session->pager_channel(),
                                 wire::encode(wire::PagerMessage(wire::Places{})), {}, false);
    }
    std::vector<int> descriptors;
    for (const auto& descriptor : batch->descriptors) descriptors.push_back(descriptor.get());
    return sys::send_message(session->pager_channel(),
                             wire::encode(wire::PagerMessage(batch->places)), descriptors, false);
}

}  // namespace refault::session
