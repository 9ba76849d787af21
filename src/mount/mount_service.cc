// Making and ending the mount, and handing on what it has to forget.
#include "mount/mount_service.h"

#include <unistd.h>

#include "base/log.h"
#include "sys/mount.h"

namespace refault::mount {

using base::Code;
using base::Error;
using base::FileRange;
using base::InodeNo;
using base::MutexLock;
using base::Status;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {
// How long others wait until the kernel has let go of what they change. It waits there for requests
// under way, each of which has a limit of its own.
constexpr milliseconds kSettlePatience{5000};
constexpr milliseconds kForgetPatience{1000};
}  // namespace

MountService::MountService(store::Store& store, session::Registry& registry,
                           session::FileService& files, base::EventSink& events, Recorder record)
    : store_(store),
      tree_(store),
      files_(files),
      events_(events),
      record_(std::move(record)),
      opens_(tree_, registry) {
    reaper_ = base::NamedThread("mount-reaper", [this] { reap(); });
}

void MountService::stop_reaper() {
    {
        MutexLock lock(mutex_);
        is_ending_ = true;
        changed_.notify_all();
    }
    reaper_.join();
}

void MountService::stop() {
    stop_reaper();
    MutexLock one_at_a_time(change_mutex_);
    end("the pool is being closed");
}

std::shared_ptr<Mount> MountService::current() const {
    MutexLock lock(mutex_);
    return mount_;
}

Status MountService::mount(MountOptions options) {
    MutexLock one_at_a_time(change_mutex_);
    {
        MutexLock lock(mutex_);
        if (is_ending_) return Error(Code::Gone, "the pool is being closed");
    }
    if (const auto mount = current(); mount && mount->has_ended()) end("its connection has ended");
    if (const auto mount = current(); mount && mount->options().directory == options.directory)
        return Error(Code::Busy, "the pool is already mounted at " + options.directory);
    if (const auto mount = current())
        return Error(Code::Busy, "the pool is mounted at " + mount->options().directory +
                                     "; show it elsewhere as well with: mount --bind");
    options.pool_name = store_.pool_name();
    auto made = Mount::start(store_, tree_, files_, opens_, options, on_end());
    if (!made) return made.error();
    publish(std::move(*made));
    events_.publish({"mounted", {{"directory", options.directory}}});
    return {};
}

std::function<void()> MountService::on_end() {
    return [this] {
        MutexLock lock(mutex_);
        has_lost_connection_ = true;
        changed_.notify_all();
    };
}

void MountService::publish(std::unique_ptr<Mount> mount) {
    record_(&mount->options());
    MutexLock lock(mutex_);
    mount_ = std::move(mount);
}

Status MountService::mount_again(MountOptions options) {
    if (Mount::is_dead(options.directory))
        RETURN_IF_ERROR(sys::unmount_fuse(options.directory, /*is_lazy=*/true));
    return mount(std::move(options));
}

std::optional<HandedOver> MountService::hand_over() {
    stop_reaper();
    MutexLock one_at_a_time(change_mutex_);
    const auto mount = current();
    if (!mount) return {};
    auto handed_over = mount->hand_over();
    if (handed_over) return std::move(*handed_over);
    base::log_line(base::LogLevel::Error, "not handed over: " + handed_over.error().message());
    return {};
}

Status MountService::resume(HandedOver handed_over) {
    MutexLock one_at_a_time(change_mutex_);
    std::vector<InodeNo> claims;
    for (const auto& one : handed_over.opens)
        if (one.is_claimed) claims.push_back(one.inode);
    auto resumed = Mount::resume(store_, tree_, files_, opens_, std::move(handed_over), on_end());
    if (!resumed) return resumed.error();
    publish(std::move(*resumed));
    MutexLock lock(mutex_);
    claims_ = std::move(claims);
    return {};
}

void MountService::release_claims() {
    std::vector<InodeNo> claims;
    {
        MutexLock lock(mutex_);
        claims.swap(claims_);
    }
    for (const auto inode : claims) opens_.unclaim(inode);
}

Status MountService::unmount(const std::string& directory, bool is_forced) {
    MutexLock one_at_a_time(change_mutex_);
    {
        const auto mount = current();
        if (!mount || mount->options().directory != directory)
            return Error(Code::NotFound,
                         "the pool is not mounted at " + directory + "; see: refault mounts");
        const auto unmounted = mount->unmount(/*is_lazy=*/false);
        if (!unmounted && !is_forced && !mount->has_ended()) return unmounted;
    }
    end("unmounted");
    return {};
}

// Calls under way keep it alive a little longer; none waits without a limit.
void MountService::end(const char* why) {
    std::shared_ptr<Mount> ending;
    {
        MutexLock lock(mutex_);
        ending.swap(mount_);
        has_lost_connection_ = false;
    }
    if (!ending) return;
    const auto directory = ending->options().directory;
    ending->stop();
    record_(nullptr);
    events_.publish({"unmounted", {{"directory", directory}, {"reason", std::string(why)}}});
}

void MountService::reap() {
    for (;;) {
        {
            MutexLock lock(mutex_);
            while (!has_lost_connection_ && !is_ending_) changed_.wait(mutex_);
            if (is_ending_) return;
        }
        MutexLock one_at_a_time(change_mutex_);
        const auto mount = current();
        if (mount && mount->has_ended()) end("its connection has ended");
        MutexLock lock(mutex_);
        has_lost_connection_ = false;
    }
}

std::optional<MountInfo> MountService::info() const {
    const auto mount = current();
    if (!mount) return {};
    return mount->info();
}

bool MountService::contains(const std::string& path) const {
    const auto mount = current();
    if (!mount) return false;
    const auto& directory = mount->options().directory;
    return path == directory || path.starts_with(directory + "/");
}

void MountService::drop(InodeNo inode, FileRange range) {
    const auto mount = current();
    if (mount && mount->remembered().knows(inode)) mount->notifier().drop(inode, range);
}

Status MountService::settle(InodeNo inode, FileRange range) {
    const auto mount = current();
    if (!mount || range.empty() || !mount->remembered().knows(inode)) return {};
    const auto number = mount->notifier().drop(inode, range);
    if (mount->notifier().wait(number, steady_clock::now() + kSettlePatience) || mount->has_ended())
        return {};
    return Error(Code::Busy, "the kernel does not let go of what it has cached of the file for " +
                                 mount->options().directory + "; try again");
}

void MountService::forget_attributes(InodeNo inode) {
    const auto mount = current();
    if (!mount || !mount->remembered().knows(inode)) return;
    if (mount->options().has_writeback && !opens_.is_open(inode)) forget_names(*mount, inode);
    (void)mount->notifier().wait(mount->notifier().forget_attributes(inode),
                                 steady_clock::now() + kForgetPatience);
}

// A kernel that gathers writes takes the size of a file that it knows from nobody (fs/fuse/inode.c,
// fuse_get_cache_mask). It does not know one any more that has no name and is not open.
void MountService::forget_names(Mount& mount, InodeNo inode) {
    const base::Cred root{0, 0, {}, 0};
    for (const auto& path : store_.paths_of(inode)) {
        const auto slash = path.rfind('/');
        if (slash == path.npos) continue;
        const auto directory = store_.stat(slash == 0 ? "/" : path.substr(0, slash), root);
        if (directory) mount.notifier().forget_name(directory->inode, path.substr(slash + 1));
    }
}

Status MountService::may_resize(InodeNo inode) {
    const auto mount = current();
    if (!mount || !mount->options().has_writeback || !opens_.is_open(inode)) return {};
    return Error(Code::Busy, "the file is open on " + mount->options().directory +
                                 ", which is mounted with 'writeback': the kernel keeps the sizes "
                                 "of open files to itself; close it there first");
}

void MountService::forget_name(InodeNo directory, const std::string& name) {
    const auto mount = current();
    if (!mount || !mount->remembered().knows(directory)) return;
    (void)mount->notifier().wait(mount->notifier().forget_name(directory, name),
                                 steady_clock::now() + kForgetPatience);
}

// What the kernel keeps of a file that is closed goes before the client stores past it.
Status MountService::claim(InodeNo inode) {
    RETURN_IF_ERROR(opens_.claim(inode));
    const auto settled = settle(inode, FileRange(0, UINT64_MAX));
    if (!settled) opens_.unclaim(inode);
    return settled;
}

void MountService::unclaim(InodeNo inode) {
    opens_.unclaim(inode);
}

}  // namespace refault::mount
