// Connecting, exchanging requests, mapping.
#include "client/session.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "client/fork_gate.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::client {

using base::Code;
using base::MutexLock;
using base::UniqueFd;

namespace {

// Memory on the move is handed out again within seconds; after this long something is wrong.
constexpr std::chrono::seconds kPlacePatience{60};

constexpr const char* kChildRefused =
    "a child process cannot use its parent's session: connect anew in the child";

Error refusal(const wire::Reply& reply) {
    return Error(base::errno_to_code(reply.error), reply.message, reply.error);
}

Error daemon_gone() {
    return Error(
        Code::Gone,
        "the daemon is gone: what is mapped keeps working, for the rest start it and connect anew");
}

Error no_daemon(const Error& error, const std::string& socket_path) {
    return Error(
        error.code(),
        "no daemon answers at " + socket_path +
            ": start refaultd, or name the session socket of a running one in REFAULT_SOCKET (" +
            error.message() + ")",
        error.sys_errno());
}

}  // namespace

Session::Session(UniqueFd channel, UniqueFd userfaultfd, bool handles_kernel_faults,
                 int pager_channel)
    : process_(::getpid()),
      channel_(std::move(channel)),
      userfaultfd_(std::move(userfaultfd)),
      handles_kernel_faults_(handles_kernel_faults),
      mappings_(userfaultfd_.get()),
      line_(pager_channel) {}

Result<std::unique_ptr<Session>> Session::connect(const std::string& socket_path) {
    RETURN_IF_ERROR(install_fork_gate());
    auto userfaultfd = sys::create_userfaultfd();
    if (!userfaultfd) return userfaultfd.error();
    auto channel = sys::connect_seqpacket(socket_path);
    if (!channel) return no_daemon(channel.error(), socket_path);
    auto pager = sys::seqpacket_pair();
    if (!pager) return pager.error();
    std::unique_ptr<Session> session(new Session(std::move(*channel), std::move(userfaultfd->fd),
                                                 userfaultfd->handles_kernel_faults,
                                                 pager->first.get()));
    RETURN_IF_ERROR(session->mappings_.prepare());
    RETURN_IF_ERROR(install_sigbus_handler());
    session->sigbus_ = std::make_unique<SigbusEntry>(session->mappings_, session->line_);
    RETURN_IF_ERROR(session->shake_hands(pager->second));
    pager->second.reset();  // or the end of the daemon could not be seen
    session->pager_ = std::make_unique<Pager>(std::move(pager->first), session->mappings_,
                                              session->line_, session->notices_);
    RETURN_IF_ERROR(session->pager_->start());
    return session;
}

Status Session::shake_hands(const UniqueFd& daemons_end) {
    const std::array descriptors{userfaultfd_.get(), daemons_end.get()};
    RETURN_IF_ERROR(sys::send_message(
        channel_.get(), wire::encode(wire::Hello{handles_kernel_faults_}), descriptors));
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (!answer && answer.error().code() == Code::Gone)
        return Error(
            Code::Gone,
            "the daemon hung up at once; its log says why (perhaps it is of another version)");
    if (!answer) return answer.error();
    auto reply = wire::decode_reply(answer->bytes);
    if (!reply) return reply.error();
    if (reply->error != 0) return refusal(*reply);
    pool_ = reply->pool;
    return {};
}

Session::~Session() {
    // The pager first, so that nothing is placed at addresses that the program may use anew. Then
    // the mappings, and the channel last: as long as something is mapped the daemon must know of
    // it.
    pager_.reset();
    sigbus_.reset();
    mappings_.remove_all();
}

bool Session::is_in_its_process() const noexcept {
    return ::getpid() == process_;
}

Result<wire::Reply> Session::request(const wire::Request& request) {
    if (!is_in_its_process()) return Error(Code::Gone, kChildRefused);
    // Taking back still reaches the daemon after the pager has stopped: it must not keep what is
    // not there any more.
    const bool takes_back = std::holds_alternative<wire::Unmap>(request) ||
                            std::holds_alternative<wire::CloseFile>(request);
    if (!takes_back)
        if (auto reason = mappings_.end_reason()) return *reason;
    auto reply = exchange(wire::encode(request));
    if (!reply) return reply.error().code() == Code::Gone ? daemon_gone() : reply.error();
    if (reply->error != 0) return refusal(*reply);
    return reply;
}

Result<wire::Reply> Session::exchange(std::span<const std::uint8_t> message) {
    MutexLock lock(exchange_mutex_);
    if (is_out_of_step_) return daemon_gone();
    RETURN_IF_ERROR(sys::send_message(channel_.get(), message));
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (answer) return wire::decode_reply(answer->bytes);
    // The reply may come yet, and would be taken for that to a later request.
    is_out_of_step_ = true;
    return answer.error();
}

Result<Session::Mapped> Session::map(wire::Map map) {
    if (auto reason = mappings_.end_reason()) return *reason;
    auto address = mappings_.reserve(map.length, map.access);
    if (!address) return address.error();
    map.address = *address;
    auto reply = request(map);
    if (!reply) {
        mappings_.remove(*address);
        return reply.error();
    }
    const Mapped mapped{*address, reply->mapping, mappings_.mirrors(*address)};
    auto placed = mappings_.identify(*address, reply->mapping);
    if (placed)
        placed = mappings_.wait_until_placed(*address,
                                             std::chrono::steady_clock::now() + kPlacePatience);
    if (placed) return mapped;
    base::discard(unmap(mapped), "the reason is that it could not be placed");
    return placed.error();
}

Status Session::unmap(const Mapped& mapped) {
    // In a child the addresses are free, or used for something else.
    auto reply = request(wire::Unmap{mapped.id});
    if (!is_in_its_process()) return reply.error();
    // After the daemon's answer no fence acts on the addresses any more; without a daemon none does
    // either.
    mappings_.remove(mapped.address);
    if (!reply && reply.error().code() != Code::Gone) return reply.error();
    return {};
}

// In a child the mutex may be held by a thread that was not inherited.
void Session::note_failure(const std::string& sentence) {
    if (!is_in_its_process()) return;
    MutexLock lock(failure_mutex_);
    last_failure_ = sentence;
}

std::string Session::last_failure() const {
    if (!is_in_its_process()) return kChildRefused;
    MutexLock lock(failure_mutex_);
    return last_failure_;
}

}  // namespace refault::client
