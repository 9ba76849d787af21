// The mount of a pool: at most one, so that the kernel has one cache of each file. (The directory
// can be shown elsewhere as well with mount --bind.) Also what the layers below see of it: as
// session::PageCache it takes from the kernel what others have changed. Thread-safe.
//
// mutex_ guards which mount there is, and is not held while one is made or ends, nor while anything
// waits for the kernel.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "mount/mount.h"
#include "session/page_cache.h"

namespace refault::mount {

class MountService final : public session::PageCache {
  public:
    // Called with what is mounted, and with null when nothing is any more, before the caller of
    // mount or unmount is told: a daemon that dies leaves word of its mount to the next one.
    using Recorder = std::function<void(const MountOptions*)>;
    MountService(store::Store& store, session::Registry& registry, session::FileService& files,
                 base::EventSink& events, Recorder record);
    ~MountService() override { stop(); }
    // Unmounts. Nothing can be mounted any more; what others ask of the kernel's cache is answered.
    void stop();

    base::Status mount(MountOptions options);
    // The same in the place of a mount whose daemon has died, which goes.
    base::Status mount_again(MountOptions options);
    // The mount that there is, if any, for the daemon that takes this one's place: see Mount. Files
    // that clients map are taken for mapped in it until release_claims().
    std::optional<HandedOver> hand_over();
    base::Status resume(HandedOver handed_over);
    void release_claims();
    // Busy while it is in use, unless `is_forced`: then programs get ENOTCONN from what they still
    // have open.
    base::Status unmount(const std::string& directory, bool is_forced);
    std::optional<MountInfo> info() const;
    // True for a path on the mount, which the daemon itself must not use.
    bool contains(const std::string& path) const;

    void drop(base::InodeNo inode, base::FileRange range) override;
    base::Status settle(base::InodeNo inode, base::FileRange range) override;
    void forget_attributes(base::InodeNo inode) override;
    void forget_name(base::InodeNo directory, const std::string& name) override;
    base::Status may_resize(base::InodeNo inode) override;
    base::Status claim(base::InodeNo inode) override;
    void unclaim(base::InodeNo inode) override;

  private:
    // Shared with calls under way, which may outlive its place here.
    std::shared_ptr<Mount> current() const;
    void stop_reaper();
    std::function<void()> on_end();
    void publish(std::unique_ptr<Mount> mount);
    void end(const char* why);
    void forget_names(Mount& mount, base::InodeNo inode);
    void reap();

    store::Store& store_;
    store::Tree tree_;
    session::FileService& files_;
    base::EventSink& events_;
    const Recorder record_;
    OpenInodes opens_;
    base::Mutex change_mutex_{
        base::LockRank::MountChange};  // one mount or unmount at a time; before mutex_
    mutable base::Mutex mutex_;
    base::CondVar changed_;
    std::shared_ptr<Mount> mount_ GUARDED_BY(mutex_);
    bool has_lost_connection_ GUARDED_BY(mutex_) = false;
    bool is_ending_ GUARDED_BY(mutex_) = false;
    std::vector<base::InodeNo> claims_ GUARDED_BY(mutex_);  // of clients that are not back yet
    base::NamedThread reaper_;  // ends a mount whose connection has ended from outside
};

}  // namespace refault::mount
