// Connecting, serving, ending.
#include "mount/mount.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/log.h"
#include "sys/mount.h"

namespace refault::mount {

using base::Code;
using base::Error;
using base::Status;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

// A request may wait for a range that is locked; as many as these may without keeping others out.
constexpr std::size_t kThreads = 64;
// Who comes back finds room among these even when its next request was read by another meanwhile: a
// thread on standby is woken only for more requests at a time, not for each.
constexpr std::size_t kReadersMax = 4;
constexpr milliseconds kFlushPatience{5000};

// libfuse says the same on the daemon's standard error alone.
Status check_is_directory(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        return errno == ENOENT
                   ? Error(Code::NotFound, "there is no " + path + "; make the directory first")
                   : base::sys_error("cannot mount at " + path);
    if (!S_ISDIR(status.st_mode)) return Error(Code::Invalid, path + " is no directory", ENOTDIR);
    return {};
}

// Takes a reader out of its wait for the next request. Does nothing by itself.
int wake_signal() {
    return SIGRTMIN + 3;
}

void install_wake_signal() {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(wake_signal(), &action, nullptr);
}

std::string kernel_options(const MountOptions& options) {
    std::string text = "default_permissions,subtype=refault,fsname=" + options.pool_name;
    if (options.allows_others) text += ",allow_other";
    if (options.is_read_only) text += ",ro";
    for (const auto& option : options.kernel_options) text += "," + option;
    return text;
}

}  // namespace

base::Result<std::unique_ptr<Mount>> Mount::start(store::Store& store, store::Tree& tree,
                                                  session::FileService& files, OpenInodes& opens,
                                                  const MountOptions& options,
                                                  std::function<void()> on_end) {
    std::unique_ptr<Mount> mount(new Mount(store, tree, files, opens, options, std::move(on_end)));
    RETURN_IF_ERROR(mount->connect());
    return mount;
}

Mount::Mount(store::Store& store, store::Tree& tree, session::FileService& files, OpenInodes& opens,
             const MountOptions& options, std::function<void()> on_end)
    : options_(options),
      on_end_(std::move(on_end)),
      opens_(opens),
      remembered_(tree),
      context_{store, tree, files, opens_, remembered_, listings_, options_, channel_, writes_},
      readers_(kThreads) {}

base::Result<std::unique_ptr<Mount>> Mount::resume(store::Store& store, store::Tree& tree,
                                                   session::FileService& files, OpenInodes& opens,
                                                   HandedOver handed_over,
                                                   std::function<void()> on_end) {
    std::unique_ptr<Mount> mount(
        new Mount(store, tree, files, opens, handed_over.options, std::move(on_end)));
    RETURN_IF_ERROR(mount->resume(std::move(handed_over)));
    return mount;
}

Status Mount::make_session() {
    const auto options = kernel_options(options_);
    char* arguments[] = {const_cast<char*>("refault"), const_cast<char*>("-o"),
                         const_cast<char*>(options.c_str()), nullptr};
    fuse_args args = FUSE_ARGS_INIT(3, arguments);
    const auto table = operations();
    session_ = fuse_session_new(&args, &table, sizeof table, &context_);
    fuse_opt_free_args(&args);
    if (session_ == nullptr)
        return Error(Code::Invalid, "libfuse does not take the options " + options);
    return {};
}

// By the kernel's table, as stat(2) of a dead mount fails; and what it has cached it still shows,
// so it is asked for something else.
bool Mount::is_dead(const std::string& directory) {
    struct statvfs status {};
    return sys::mounted_device(directory) != 0 && ::statvfs(directory.c_str(), &status) != 0 &&
           errno == ENOTCONN;
}

Status Mount::connect() {
    RETURN_IF_ERROR(make_session());
    if (is_dead(options_.directory))
        return Error(Code::Busy,
                     "a mount whose daemon is gone is still there; take it away first: "
                     "umount -l " +
                         options_.directory);
    RETURN_IF_ERROR(check_is_directory(options_.directory));
    if (fuse_session_mount(session_, options_.directory.c_str()) != 0)
        return Error(Code::Denied, "cannot mount at " + options_.directory +
                                       "; the daemon's output says why (a missing /dev/fuse, an "
                                       "allow_other that /etc/fuse.conf does not let users have)");
    if (const auto attached = channel_.attach(session_); !attached) {
        fuse_session_unmount(session_);
        return attached;
    }
    start_threads();
    return {};
}

Status Mount::resume(HandedOver handed_over) {
    RETURN_IF_ERROR(make_session());
    RETURN_IF_ERROR(
        channel_.resume(session_, std::move(handed_over.connection), handed_over.agreement));
    remembered_.take_over(handed_over.remembered);
    opens_.take_over(handed_over.opens);
    listings_.take_over(std::move(handed_over.listings));
    start_threads();
    for (const auto& [inode, count] : handed_over.remembered)
        (void)notifier_->drop(inode, base::FileRange(0, UINT64_MAX));
    return {};
}

void Mount::start_threads() {
    device_ = sys::mounted_device(options_.directory);
    install_wake_signal();
    notifier_ = std::make_unique<Notifier>(session_, writes_);
    context_.notifier = notifier_.get();
    notifier_->start();
    for (std::size_t i = 0; i < kThreads; ++i)
        threads_.emplace_back("mount-" + std::to_string(i), [this, i] { serve(i); });
}

bool Mount::begin_reading() {
    base::MutexLock lock(turn_mutex_);
    while (reading_ >= kReadersMax && !is_stopping_.load()) turn_.wait(turn_mutex_);
    ++reading_;
    return !is_stopping_.load();
}

void Mount::end_reading() {
    base::MutexLock lock(turn_mutex_);
    if (--reading_ == 0) turn_.notify_one();
}

void Mount::serve(std::size_t number) {
    readers_[number].store(static_cast<pid_t>(::syscall(SYS_gettid)));
    fuse_buf buffer{};
    for (bool goes_on = begin_reading(); goes_on; goes_on = begin_reading()) {
        const int got = fuse_session_receive_buf(session_, &buffer);
        if (got == -EINTR || got == -EAGAIN) {
            end_reading();
            continue;
        }
        // 0: unmounted; an error: the connection was cut.
        if (got <= 0) break;
        end_reading();
        requests_.fetch_add(1, std::memory_order_relaxed);
        fuse_session_process_buf(session_, &buffer);
        answered_.fetch_add(1, std::memory_order_relaxed);
    }
    end_reading();
    std::free(buffer.mem);
    readers_[number].store(0);
    if (!has_ended_.exchange(true) && !is_stopping_.load()) on_end_();
}

MountInfo Mount::info() const {
    MountInfo info;
    info.directory = options_.directory;
    info.options = kernel_options(options_);
    info.open_files = opens_.count();
    // In this order: what is answered was asked.
    const auto answered = answered_.load();
    info.requests = requests_.load();
    info.requests_running = info.requests - std::min(answered, info.requests);
    info.has_ended = has_ended();
    return info;
}

Status Mount::unmount(bool is_lazy) {
    // Whatever else was mounted there since is not ours to take away.
    if (sys::mounted_device(options_.directory) != device_)
        return Error(Code::NotFound, "nothing of ours is mounted at " + options_.directory);
    const auto unmounted = sys::unmount_fuse(options_.directory, is_lazy);
    if (unmounted || unmounted.error().sys_errno() != EBUSY) return unmounted;
    return Error(Code::Busy,
                 "busy: programs have " + std::to_string(opens_.count()) + " files open at " +
                     options_.directory +
                     ", or their working directory; end them (fuser -m lists them), or --force",
                 EBUSY);
}

// What programs have stored through mappings, while there is still somebody to write it.
void Mount::flush_all() {
    std::uint64_t last = 0;
    for (const auto inode : opens_.cached())
        last = notifier_->drop(inode, base::FileRange(0, UINT64_MAX));
    if (last != 0 && !notifier_->wait(last, steady_clock::now() + kFlushPatience))
        base::log_line(base::LogLevel::Error,
                       "mapped files on " + options_.directory + " could not all be written back");
}

void Mount::stop_threads() {
    {
        base::MutexLock lock(turn_mutex_);
        is_stopping_.store(true);
        turn_.notify_all();
    }
    // A reader that was just before its wait when it was woken is woken again.
    for (bool is_done = false; !is_done;) {
        is_done = true;
        for (auto& reader : readers_)
            if (const pid_t thread = reader.load(); thread != 0) {
                is_done = false;
                ::syscall(SYS_tgkill, ::getpid(), thread, wake_signal());
            }
        if (!is_done) ::usleep(1000);
    }
    threads_.clear();
}

base::Result<HandedOver> Mount::hand_over() {
    // Through an unmounted place nobody comes any more; what is open there still ends with us.
    if (has_ended() || sys::mounted_device(options_.directory) != device_)
        return Error(Code::Gone, "the mount at " + options_.directory + " has ended");
    if (!notifier_->wait(notifier_->last(), steady_clock::now() + kFlushPatience))
        base::log_line(base::LogLevel::Warning,
                       "the kernel was not told of all that has changed on " + options_.directory);
    notifier_->stop();
    stop_threads();
    HandedOver handed_over;
    handed_over.options = options_;
    handed_over.connection = base::UniqueFd(::fcntl(fuse_session_fd(session_), F_DUPFD_CLOEXEC, 0));
    if (!handed_over.connection) return base::sys_error("keep the connection to the kernel");
    handed_over.agreement = channel_.agreement();
    handed_over.remembered = remembered_.hand_over();
    handed_over.opens = opens_.hand_over();
    handed_over.listings = listings_.hand_over();
    return handed_over;
}

// The notifier ends while requests are still answered, which it may wait for; then the readers;
// then the connection.
void Mount::stop() {
    if (session_ == nullptr) return;
    if (notifier_) {
        if (!has_ended() && !unmount(/*is_lazy=*/false)) flush_all();
        // Of a connection that was cut its place in the tree of mounts is left.
        base::discard(unmount(/*is_lazy=*/true), "mostly there is nothing left");
        notifier_->stop();
        stop_threads();
    }
    has_ended_.store(true);
    fuse_session_destroy(std::exchange(session_, nullptr));
    opens_.close_all();
    remembered_.forget_all();
}

}  // namespace refault::mount
