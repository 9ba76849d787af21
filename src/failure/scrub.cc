// The scrub thread.
#include "failure/scrub.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::MutexLock;

Scrub::~Scrub() {
    {
        MutexLock lock(mutex_);
        must_stop_ = true;
    }
    thread_.join();
}

Status Scrub::start() {
    {
        MutexLock lock(mutex_);
        if (status_.is_running)
            return Error(Code::Busy,
                         "a scrub is running already; see: refault pool scrub --status");
        status_.is_running = true;
        status_.bytes_done = status_.bytes_total = 0;
        must_stop_ = false;
    }
    thread_.join();
    thread_ = base::NamedThread("scrub", [this] {
        auto report = resync_.scrub([this](std::uint64_t done, std::uint64_t total) {
            MutexLock lock(mutex_);
            status_.bytes_done = done;
            status_.bytes_total = total;
            return !must_stop_;
        });
        MutexLock lock(mutex_);
        status_.is_running = false;
        status_.last = report;
    });
    return {};
}

Status Scrub::cancel() {
    MutexLock lock(mutex_);
    if (!status_.is_running) return Error(Code::Invalid, "no scrub is running");
    must_stop_ = true;
    return {};
}

ScrubStatus Scrub::status() const {
    MutexLock lock(mutex_);
    return status_;
}

}  // namespace refault::failure
