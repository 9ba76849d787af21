// Asking until nobody holds it.
#include "failure/loss_proof.h"

#include <utility>

#include "sys/file.h"

namespace refault::failure {

using base::MutexLock;
using std::chrono::steady_clock;

namespace {
constexpr std::chrono::milliseconds kInterval{500};

// What cannot be counted may be held.
device::Device::HeldSegments count_held(int directory) {
    const auto hidden = count_hidden_inodes(directory);
    return {hidden.value_or(1), hidden.has_value()};
}

}  // namespace

LossProof::~LossProof() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
        changed_.notify_all();
    }
    thread_.join();
}

void LossProof::start() {
    thread_ = base::NamedThread("loss-proof", [this] { run(); });
}

// Most of its files have no names any more; those that are mapped or open still show the directory.
void LossProof::watch(const device::Device& device, std::uint64_t record) {
    Lost lost;
    lost.name = device.name();
    lost.record = record;
    if (auto files = list_segment_files(device)) lost.files = std::move(*files);
    lost.files.directory = device.directory();
    if (device.is_private_mount())
        if (auto directory = sys::open_directory(device.directory()))
            lost.private_mount = std::move(*directory);
    // It has no path any more when the device has gone.
    lost.files.is_private_mount = false;
    {
        MutexLock lock(mutex_);
        lost_.push_back(std::move(lost));
    }
    changed_.notify_all();
}

void LossProof::forget(const std::string& directory, bool is_proven) {
    std::vector<std::uint64_t> records;
    {
        MutexLock lock(mutex_);
        std::erase_if(lost_, [&](const Lost& lost) {
            if (lost.files.directory != directory) return false;
            records.push_back(lost.record);
            return true;
        });
    }
    if (is_proven)
        for (const auto record : records) book_.proven(record);
}

void LossProof::run() {
    for (;;) {
        std::vector<Lost> lost;
        {
            MutexLock lock(mutex_);
            while (!must_stop_ && lost_.empty()) changed_.wait(mutex_);
            if (must_stop_) return;
            lost.swap(lost_);
        }
        std::vector<Lost> held;
        for (auto& one : lost)
            if (!is_let_go(one)) held.push_back(std::move(one));
        MutexLock lock(mutex_);
        for (auto& one : held) lost_.push_back(std::move(one));
        const auto again = steady_clock::now() + kInterval;
        while (!must_stop_ && !held.empty() && steady_clock::now() < again)
            (void)changed_.wait_until(mutex_, again);
    }
}

bool LossProof::is_let_go(const Lost& lost) {
    ProofTarget target{lost.files, nullptr};
    if (lost.private_mount)
        target.held_segments = [&lost] { return count_held(lost.private_mount.get()); };
    const auto report = prove(target);
    if (!report || !report->is_proven()) return false;
    book_.proven(lost.record);
    events_.publish(
        {"device-loss-proven",
         {{"device", lost.name}, {"failure", lost.record}, {"proof", report->summary()}}});
    return true;
}

}  // namespace refault::failure
