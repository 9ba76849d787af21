// Receiving, placing and reporting.
#include "client/pager.h"

#include <poll.h>
#include <sys/socket.h>

#include <system_error>

#include "client/signal_block.h"

namespace refault::client {

using base::Code;

namespace {

// A kernel that is short of memory or mappings is asked again this often, at this distance.
constexpr int kTriesMax = 100;
constexpr int kRetryMs = 20;

// Neighbours in one segment that continue each other are one mapping for the kernel, and one entry
// of the number that vm.max_map_count allows.
bool continues(const wire::Place& first, const wire::Place& next) {
    return first.mapping == next.mapping && first.descriptor == next.descriptor &&
           first.kind == next.kind && first.replica == next.replica &&
           first.needs_sync == next.needs_sync && first.access == next.access &&
           first.address + first.length == next.address &&
           (first.descriptor == wire::kNoDescriptor ||
            first.segment_offset + first.length == next.segment_offset);
}

// True when the daemon, or our owner, has hung up meanwhile.
bool wait_or_hang_up(int channel) {
    pollfd event{channel, POLLRDHUP, 0};
    return ::poll(&event, 1, kRetryMs) > 0;
}

}  // namespace

Pager::Pager(base::UniqueFd channel, MappingTable& mappings, FaultLine& line, NoticeBox& notices,
             std::function<bool()> come_back, std::function<void()> abandoned)
    : channel_(std::move(channel)),
      mappings_(mappings),
      line_(line),
      notices_(notices),
      come_back_(std::move(come_back)),
      abandoned_(std::move(abandoned)) {
    message_.places.places.reserve(wire::kPlacesMax);
}

Pager::~Pager() {
    if (!thread_.joinable()) return;
    ::shutdown(channel_.get(), SHUT_RDWR);
    thread_.join();
}

Status Pager::start() {
    SignalBlock inherited;
    try {
        thread_ = base::NamedThread("refault-pager", [this] { run(); });
    } catch (const std::system_error& error) {
        return base::sys_error("start the pager thread", error.code().value());
    }
    return {};
}

void Pager::run() noexcept {
    auto ended = serve();
    while ((ended || ended.error().code() == Code::Gone) && come_back_()) {
        line_.renewed();
        ended = serve();
    }
    if (ended || ended.error().code() == Code::Gone)
        end(Error(Code::Gone,
                  "the daemon has dropped this session, its log says why: what is mapped keeps "
                  "working, for the rest connect anew"));
    else
        end(Error(Code::Gone,
                  "this session's memory can no longer be moved, disconnect and connect anew: " +
                      ended.error().message()));
    abandoned_();
}

void Pager::end(const Error& reason) {
    close_descriptors();
    mappings_.end(reason);
    line_.end();
}

// Waits outside of the fork gate, takes the descriptors in inside of it.
Result<sys::ReceivedSizes> Pager::receive() {
    for (;;) {
        pollfd event{channel_.get(), POLLIN, 0};
        (void)::poll(&event, 1, -1);
        ForkGate gate;
        auto sizes = sys::receive_into(channel_.get(), bytes_, descriptors_, /*may_wait=*/false);
        if (sizes || sizes.error().code() != Code::Busy) return sizes;
    }
}

void Pager::close_descriptors() {
    ForkGate gate;
    for (auto& descriptor : descriptors_) descriptor.reset();
}

Status Pager::serve() {
    std::uint64_t placed = 0;
    bool is_fetching = false;  // one question at a time
    bool was_rung = false;     // since the question was asked
    for (;;) {
        auto sizes = receive();
        if (!sizes) return sizes.error();
        RETURN_IF_ERROR(wire::decode_from_daemon(std::span(bytes_).first(sizes->bytes), message_));
        if (take_aside()) continue;
        bool asks = false;
        if (message_.kind == wire::FromDaemon::Kind::Doorbell) {
            was_rung = is_fetching;
            asks = !is_fetching;
        } else {
            RETURN_IF_ERROR(place_all(sizes->descriptors));
            close_descriptors();
            if (!message_.places.places.empty()) placed = message_.places.sequence;
            asks = !message_.places.places.empty() || was_rung;
            is_fetching = false;
            was_rung = false;
        }
        if (!asks) continue;
        RETURN_IF_ERROR(sys::send_message(channel_.get(), wire::encode_fetch({placed})));
        is_fetching = true;
    }
}

bool Pager::take_aside() {
    switch (message_.kind) {
        case wire::FromDaemon::Kind::Verdict:
            line_.answer(message_.verdict);
            return true;
        case wire::FromDaemon::Kind::Notice:
            notices_.put(message_.notice);
            return true;
        case wire::FromDaemon::Kind::Doorbell:
        case wire::FromDaemon::Kind::Places:
            break;
    }
    return false;
}

//   places:  [1: seg 0)[1: seg 0)[1: seg 1)[2: seg 0)     mapping: segment
//   mapped:  [------------------)[--------)[--------)
Status Pager::place_all(std::size_t descriptors) {
    const auto& places = message_.places.places;
    for (std::size_t i = 0; i < places.size();) {
        wire::Place whole = places[i++];
        for (; i < places.size() && continues(whole, places[i]); ++i)
            whole.length += places[i].length;
        const bool has_segment = whole.descriptor != wire::kNoDescriptor;
        if (has_segment && whole.descriptor >= descriptors)
            return Error(Code::Corrupt, "the daemon named a descriptor that it did not send");
        RETURN_IF_ERROR(
            place_patiently(whole, has_segment ? descriptors_[whole.descriptor].get() : -1));
    }
    return {};
}

Status Pager::place_patiently(const wire::Place& place, int fd) {
    for (int tries = 1;; ++tries) {
        auto placed = mappings_.place(place, fd);
        if (placed) return placed;
        const auto code = placed.error().code();
        if ((code != Code::NoSpace && code != Code::Busy) || tries == kTriesMax ||
            wait_or_hang_up(channel_.get()))
            return placed.error().within("raise vm.max_map_count or the memory limit");
    }
}

}  // namespace refault::client
