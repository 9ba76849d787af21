// One mount: the connection to the kernel, the threads that answer its requests, and the thread
// that tells it what to forget.
//
//   mount-0 ... mount-N   read a request from the connection, do it, reply; each may wait, bounded,
//                         for a layout lock or a client, never for the notifier. Four at a time
//                         read (the same threads over and over stay warm); the others stand by for
//                         when those are busy
//   mount-notify          see notifier.h
//
// The connection ends from outside (umount, the abort file of the kernel, its end) or by stop(). In
// each case all threads come to an end, everything that programs had open is closed, and nothing is
// left in the tree of mounts. Thread-safe but for stop().
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/thread.h"
#include "mount/context.h"
#include "mount/handed_over.h"
#include "mount/notifier.h"

namespace refault::mount {

struct MountInfo {
    std::string directory;
    std::string options;
    std::uint64_t open_files = 0;
    std::uint64_t requests = 0;          // of the kernel, since it is mounted
    std::uint64_t requests_running = 0;  // of which not answered yet
    bool has_ended = false;
};

class Mount {
  public:
    // `on_end` is called once, by a thread of the mount, when the connection has ended.
    static base::Result<std::unique_ptr<Mount>> start(store::Store& store, store::Tree& tree,
                                                      session::FileService& files,
                                                      OpenInodes& opens,
                                                      const MountOptions& options,
                                                      std::function<void()> on_end);
    // Goes on with the connection of a mount that was handed over: what programs have open stays
    // open, and they never learn of it. What the kernel has cached is taken from it, since devices
    // may have failed meanwhile.
    static base::Result<std::unique_ptr<Mount>> resume(store::Store& store, store::Tree& tree,
                                                       session::FileService& files,
                                                       OpenInodes& opens, HandedOver handed_over,
                                                       std::function<void()> on_end);
    ~Mount() { stop(); }
    Mount(const Mount&) = delete;
    Mount& operator=(const Mount&) = delete;

    // True for the mount of a daemon that is gone.
    static bool is_dead(const std::string& directory);

    Notifier& notifier() { return *notifier_; }
    const Remembered& remembered() const { return remembered_; }
    const MountOptions& options() const { return options_; }
    MountInfo info() const;
    bool has_ended() const { return has_ended_.load(); }
    // Busy while programs have files open or their working directory on it; with `is_lazy` it goes
    // out of sight at once, and ends when they let go of it.
    base::Status unmount(bool is_lazy);
    // Answers what it was asked, tells the kernel what it has to forget, and ends, instead of
    // stop(); the connection stays. The store must go on without being told to let go of anything:
    // its process is about to be replaced. Gone when the connection has ended.
    base::Result<HandedOver> hand_over();
    // Writes back what programs have stored through mappings, unmounts, ends. What programs still
    // have open fails with ENOTCONN from here on. Once.
    void stop();

  private:
    Mount(store::Store& store, store::Tree& tree, session::FileService& files, OpenInodes& opens,
          const MountOptions& options, std::function<void()> on_end);
    base::Status make_session();
    base::Status connect();
    base::Status resume(HandedOver handed_over);
    void start_threads();
    void serve(std::size_t number);
    // False when the mount is ending.
    bool begin_reading();
    void end_reading();
    void flush_all();
    void stop_threads();

    const MountOptions options_;
    const std::function<void()> on_end_;
    OpenInodes& opens_;
    Remembered remembered_;
    Listings listings_;
    KernelChannel channel_;
    WritesUnderWay writes_;
    Context context_;
    fuse_session* session_ = nullptr;
    std::uint64_t device_ = 0;  // st_dev of what is mounted
    std::unique_ptr<Notifier> notifier_;
    // Thread numbers of those that still read requests; 0 when one has ended.
    std::vector<std::atomic<pid_t>> readers_;
    base::Mutex turn_mutex_;  // a leaf
    base::CondVar turn_;
    std::size_t reading_ GUARDED_BY(turn_mutex_) = 0;
    std::vector<base::NamedThread> threads_;
    // Only for people: nothing is ordered by them.
    std::atomic<std::uint64_t> requests_{0};
    std::atomic<std::uint64_t> answered_{0};
    std::atomic<bool> is_stopping_{false};
    std::atomic<bool> has_ended_{false};
};

}  // namespace refault::mount
