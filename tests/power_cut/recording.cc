// Recording of calls, and of what is expected while they are made.
#include "tests/power_cut/recording.h"

namespace refault::power_cut {

using device::Device;
using device::MediumCall;

device::DeviceSpec Recording::spec(const std::string& directory) const {
    device::DeviceSpec spec;
    spec.name = directory;
    spec.kind = device::DeviceKind::Dir;
    spec.path = home_.path() / directory;
    spec.size_bytes = kSegmentBytes * kSegments;
    spec.segment_bytes = kSegmentBytes;
    return spec;
}

device::MediumTrace Recording::trace_of(const std::string& directory) {
    return [this, directory](const MediumCall& call) {
        Event event{directory, call, {call.bytes.begin(), call.bytes.end()}, 0};
        event.expectation = expectations_.size();
        events_.push_back(std::move(event));
        // Where the bytes lie does not change when the event itself is moved.
        events_.back().call.bytes = events_.back().bytes;
    };
}

store::DevicePtr Recording::make_device(const std::string& directory) {
    std::filesystem::create_directory(home_.path() / directory);
    auto made = Device::create(spec(directory), *base::Uuid::random(), trace_of(directory));
    EXPECT_TRUE(made.ok()) << (made ? "" : made.error().message());
    return made ? store::DevicePtr(std::move(*made)) : nullptr;
}

store::DevicePtr Recording::open_device(const std::string& directory) {
    auto opened = Device::open(spec(directory), trace_of(directory));
    EXPECT_TRUE(opened.ok()) << (opened ? "" : opened.error().message());
    return std::move(*opened);
}

void Recording::step(const Step& step) {
    if (::testing::Test::HasFailure()) return;
    if (step.promise) step.promise();
    auto during = now_;
    during.step = step.name;
    const auto first = events_.size();
    step.action();
    const auto before = view_;
    if (store) {
        view_ = view_of(*store);
        for (const auto& line : store->check()) ADD_FAILURE() << step.name << ": " << line;
    }
    if (step.keep) step.keep();
    during.views = extra_views_;
    during.views.push_back(before);
    during.views.push_back(view_);
    extra_views_.clear();
    now_.step = step.name + ", done";
    now_.views = {view_};
    // What was acknowledged with the last call must be there from that call on.
    expectations_.push_back(std::move(during));
    if (events_.size() > first) events_.back().expectation = expectations_.size();
    expectations_.push_back(now_);
    if (::testing::Test::HasFailure()) std::cerr << "in step: " << step.name << std::endl;
}

}  // namespace refault::power_cut
