// A pool at work whose devices tell every durable call, and what must be found after each of them.
// One thread.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/test_pool.h"
#include "tests/power_cut/model.h"

namespace refault::power_cut {

// A call, and the expectation that holds from then on.
struct Event {
    std::string directory;
    device::MediumCall call;
    std::vector<std::uint8_t> bytes;  // call.bytes look here
    std::size_t expectation = 0;
};

class Recording {
  public:
    // One change of the pool. `promise` says beforehand what may be found while it is under way,
    // `keep` afterwards what must be found from then on; both may be left out.
    struct Step {
        std::string name;
        std::function<void()> promise;
        std::function<void()> action;
        std::function<void()> keep;
    };
    void step(const Step& step);
    void step(const std::string& name, const std::function<void()>& action) {
        this->step({name, {}, action, {}});
    }

    // The expectation for the present and all later steps; views are added by step().
    Expectation& now() { return now_; }
    // Views besides those before and after the present step.
    void also_allow(const View& view) { extra_views_.push_back(view); }

    device::DeviceSpec spec(const std::string& directory) const;
    device::MediumTrace trace_of(const std::string& directory);
    store::DevicePtr make_device(const std::string& directory);
    store::DevicePtr open_device(const std::string& directory);

    std::unique_ptr<Store> store;
    const std::vector<Event>& events() const { return events_; }
    const std::vector<Expectation>& expectations() const { return expectations_; }
    const std::string directory() const { return home_.path().string(); }

  private:
    store::testing::TempDirectory home_;
    std::vector<Event> events_;
    std::vector<Expectation> expectations_;
    Expectation now_;
    std::vector<View> extra_views_;
    View view_;
};

inline constexpr std::uint64_t kSegmentBytes = 8192;
inline constexpr std::uint32_t kSegments = 96;

}  // namespace refault::power_cut
