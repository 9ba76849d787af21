// A session of libfuse with the mount's operations, served by hand.
#include "fuzz/served.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdarg>
#include <cstring>

namespace refault::fuzz {

namespace {
// Nobody else is there to wait for.
mount::MountOptions impatient() {
    mount::MountOptions options;
    options.patience = std::chrono::milliseconds(0);
    return options;
}
// What libfuse finds wrong is what the script is for.
void say_nothing(fuse_log_level, const char*, va_list) {}
}  // namespace

Served::Served(ServedPool& pool)
    : options_(impatient()),
      opens_(pool.tree(), pool.registry()),
      remembered_(pool.tree()),
      context_{pool.store(), pool.tree(), pool.files(), opens_, remembered_,
               listings_,    options_,    channel_,     writes_},
      session_([this] {
          char name[] = "refault", option[] = "-odefault_permissions";
          char* arguments[] = {name, option, nullptr};
          fuse_args args = FUSE_ARGS_INIT(2, arguments);
          const auto table = mount::operations();
          auto* session = fuse_session_new(&args, &table, sizeof table, &context_);
          fuse_opt_free_args(&args);
          return session;
      }()),
      notifier_(session_, writes_) {
    CHECK(session_ != nullptr);
    fuse_set_log_func(say_nothing);
    context_.notifier = &notifier_;
}

Served::Served(ServedPool& pool, base::UniqueFd connection) : Served(pool) {
    const auto place = "/dev/fd/" + std::to_string(connection.release());
    CHECK(fuse_session_mount(session_, place.c_str()) == 0);
    CHECK(channel_.attach(session_).ok());
}

Served::Served(ServedPool& pool, const Served& before) : Served(pool) {
    base::UniqueFd connection(::fcntl(fuse_session_fd(before.session_), F_DUPFD_CLOEXEC, 0));
    CHECK(connection.valid());
    const auto resumed =
        channel_.resume(session_, std::move(connection), before.channel_.agreement());
    CHECK(resumed.ok());
    remembered_.take_over(before.remembered_.hand_over());
    opens_.take_over(before.opens_.hand_over());
    listings_.take_over(before.listings_.hand_over());
}

Served::~Served() {
    fuse_session_destroy(session_);
    opens_.close_all();
    remembered_.forget_all();
}

void Served::serve(bool is_given_up) {
    // One for all, as a thread of a mount has it. libfuse believes the lengths in a message: behind
    // one that is shorter than it says, there are zeros.
    static Bytes memory(2u << 20);
    static std::size_t used = 0;
    std::memset(memory.data(), 0, used);
    fuse_buf buffer{};
    buffer.mem = memory.data();
    const int got = fuse_session_receive_buf(session_, &buffer);
    CHECK(got > 0);
    used = static_cast<std::size_t>(got);
    if (!is_given_up) return fuse_session_process_buf(session_, &buffer);
    // What takes no replies, in the place of the connection. libfuse complains of none that is lost
    // after the end.
    const int connection = fuse_session_fd(session_);
    const base::UniqueFd kept(::fcntl(connection, F_DUPFD_CLOEXEC, 0));
    const base::UniqueFd nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK(kept.valid() && ::dup3(nothing.get(), connection, O_CLOEXEC) == connection);
    fuse_session_exit(session_);
    fuse_session_process_buf(session_, &buffer);
    fuse_session_reset(session_);
    CHECK(::dup3(kept.get(), connection, O_CLOEXEC) == connection);
}

}  // namespace refault::fuzz
