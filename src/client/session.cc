// Connecting, exchanging requests, and the pager thread.
#include "client/session.h"

#include <signal.h>
#include <sys/socket.h>

#include <array>

#include "sys/socket.h"
#include "sys/userfaultfd.h"

namespace refault::client {

using base::Code;
using base::Error;
using base::MutexLock;
using base::UniqueFd;

namespace {

// A thread started while it lives has all signals blocked: the program's handlers never run on the pager.
class BlockAllSignals {
  public:
    BlockAllSignals() {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~BlockAllSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    BlockAllSignals(const BlockAllSignals&) = delete;
    BlockAllSignals& operator=(const BlockAllSignals&) = delete;

  private:
    sigset_t before_;
};

Error daemon_gone() { return Error(Code::Gone, "the daemon is gone; what is mapped keeps working"); }

}  // namespace

Session::Session(UniqueFd channel, UniqueFd pager_channel, UniqueFd userfaultfd, bool handles_kernel_faults)
    : channel_(std::move(channel)),
      pager_channel_(std::move(pager_channel)),
      userfaultfd_(std::move(userfaultfd)),
      handles_kernel_faults_(handles_kernel_faults),
      mappings_(userfaultfd_.get()) {}

Result<std::unique_ptr<Session>> Session::connect(const std::string& socket_path) {
    auto userfaultfd = sys::create_userfaultfd();
    if (!userfaultfd) return userfaultfd.error();
    auto channel = sys::connect_seqpacket(socket_path);
    if (!channel) return channel.error();
    auto pager = sys::seqpacket_pair();
    if (!pager) return pager.error();
    std::unique_ptr<Session> session(new Session(std::move(*channel), std::move(pager->first),
                                                 std::move(userfaultfd->fd), userfaultfd->handles_kernel_faults));
    RETURN_IF_ERROR(session->mappings_.prepare());
    RETURN_IF_ERROR(session->shake_hands(std::move(pager->second)));
    BlockAllSignals blocked;
    session->pager_ = base::NamedThread("refault-pager", [raw = session.get()] { raw->run_pager(); });
    return session;
}

Status Session::shake_hands(UniqueFd daemons_end) {
    const std::array descriptors{userfaultfd_.get(), daemons_end.get()};
    RETURN_IF_ERROR(
        sys::send_message(channel_.get(), wire::encode(wire::Hello{handles_kernel_faults_}), descriptors));
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (!answer) return answer.error();
    auto reply = wire::decode_reply(answer->bytes);
    if (!reply) return reply.error();
    if (reply->error != 0) return Error(base::errno_to_code(reply->error), reply->message, reply->error);
    pool_ = reply->pool;
    return {};
}

Session::~Session() {
    // The pager first: nothing may be placed at addresses that the program may use anew.
    ::shutdown(pager_channel_.get(), SHUT_RDWR);
    pager_.join();
    mappings_.remove_all();
}

Result<wire::Reply> Session::request(const wire::Request& request) {
    MutexLock lock(request_mutex_);
    if (auto sent = sys::send_message(channel_.get(), wire::encode(request)); !sent)
        return sent.error().code() == Code::Gone ? daemon_gone() : sent.error();
    auto answer = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
    if (!answer) return answer.error().code() == Code::Gone ? daemon_gone() : answer.error();
    auto reply = wire::decode_reply(answer->bytes);
    if (!reply) return reply.error();
    if (reply->error != 0) return Error(base::errno_to_code(reply->error), reply->message, reply->error);
    return reply;
}

void Session::run_pager() {
    auto ended = serve_pager();
    if (!ended && ended.error().code() != Code::Gone) note_failure("the pager has stopped: " + ended.error().message());
    mappings_.end();
}

Status Session::serve_pager() {
    std::uint64_t placed = 0;
    bool is_fetching = false;  // one question at a time
    bool was_rung = false;
    for (;;) {
        auto message = sys::receive_message(pager_channel_.get(), wire::kMessageBytesMax);
        if (!message) return message.error();
        auto decoded = wire::decode_pager_message(message->bytes);
        if (!decoded) return decoded.error();
        bool asks_again = false;
        if (std::holds_alternative<wire::Doorbell>(*decoded)) {
            was_rung = is_fetching;
            asks_again = !is_fetching;
        } else if (const auto* places = std::get_if<wire::Places>(&*decoded)) {
            RETURN_IF_ERROR(mappings_.place(*places, message->descriptors));
            if (!places->places.empty()) placed = places->sequence;
            // Reports what is in force, and asks for the rest.
            asks_again = !places->places.empty() || was_rung;
            is_fetching = false;
            was_rung = false;
        } else {
            return Error(Code::Corrupt, "the daemon sent something else than places");
        }
        if (!asks_again) continue;
        RETURN_IF_ERROR(sys::send_message(pager_channel_.get(), wire::encode(wire::PagerMessage(wire::Fetch{placed}))));
        is_fetching = true;
    }
}

void Session::note_failure(const std::string& sentence) {
    MutexLock lock(failure_mutex_);
    last_failure_ = sentence;
}

std::string Session::last_failure() const {
    MutexLock lock(failure_mutex_);
    return last_failure_;
}

}  // namespace refault::client
