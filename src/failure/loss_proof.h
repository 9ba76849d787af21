// Whether a device that has left without being asked is held by anybody still: asks the kernel's
// tables again and again until nobody does, and notes when that was. One thread, "loss-proof",
// which waits while there is nothing to prove. Thread-safe; its lock is taken before that of the
// book.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/event.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "device/device.h"
#include "failure/failure_book.h"
#include "failure/proof.h"

namespace refault::failure {

class LossProof {
  public:
    LossProof(FailureBook& book, base::EventSink& events) : book_(book), events_(events) {}
    ~LossProof();
    void start();

    // Called while the device is there as an object. It is not kept: it has to go before another
    // instance of it can join.
    void watch(const device::Device& device, std::uint64_t record);

    // Another life of the device begins there; is_proven: after a proof of its own.
    void forget(const std::string& directory, bool is_proven);

  private:
    struct Lost {
        std::string name;
        SegmentFiles files;
        base::UniqueFd private_mount;  // of a ram: device: counts what nobody's table shows
        std::uint64_t record = 0;
    };
    void run();
    // True when it is proven.
    bool is_let_go(const Lost& lost);

    FailureBook& book_;
    base::EventSink& events_;
    base::Mutex mutex_;
    base::CondVar changed_;
    std::vector<Lost> lost_ GUARDED_BY(mutex_);
    bool must_stop_ GUARDED_BY(mutex_) = false;
    base::NamedThread thread_;
};

}  // namespace refault::failure
