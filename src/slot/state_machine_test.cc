// Every state meets every event. The expectation is written out here a second time, from the
// drawing in the header.
#include "slot/state_machine.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "base/test_random.h"

namespace refault::slot {
namespace {

using base::Code;
using base::Error;
using base::Status;

constexpr SlotState kStates[] = {SlotState::InService, SlotState::Leaving, SlotState::Unproven,
                                 SlotState::SafeToPull, SlotState::Failed};

using Event = Status (SlotMachine::*)();
struct NamedEvent {
    const char* name;
    Event event;
};
constexpr NamedEvent kEvents[] = {{"begin_removal", &SlotMachine::begin_removal},
                                  {"restore", &SlotMachine::restore},
                                  {"proved", &SlotMachine::proved},
                                  {"unproven", &SlotMachine::unproven},
                                  {"failed", &SlotMachine::failed}};

// The allowed transitions; whatever is not here is refused.
const std::map<std::pair<SlotState, std::string>, SlotState> kAllowed = {
    {{SlotState::InService, "begin_removal"}, SlotState::Leaving},
    {{SlotState::InService, "failed"}, SlotState::Failed},
    {{SlotState::Leaving, "restore"}, SlotState::InService},
    {{SlotState::Leaving, "proved"}, SlotState::SafeToPull},
    {{SlotState::Leaving, "unproven"}, SlotState::Unproven},
    {{SlotState::Leaving, "failed"}, SlotState::Failed},
    {{SlotState::Unproven, "restore"}, SlotState::InService},
    {{SlotState::Unproven, "proved"}, SlotState::SafeToPull},
    {{SlotState::Unproven, "failed"}, SlotState::Failed},
    {{SlotState::Failed, "begin_removal"}, SlotState::Leaving},
    {{SlotState::Failed, "restore"}, SlotState::InService},
    {{SlotState::Failed, "failed"}, SlotState::Failed},
};
const std::map<SlotState, std::pair<Indicator, Indicator>> kShown = {
    {SlotState::InService, {Indicator::On, Indicator::Off}},
    {SlotState::Leaving, {Indicator::Blinking, Indicator::Off}},
    {SlotState::Unproven, {Indicator::Blinking, Indicator::On}},
    {SlotState::SafeToPull, {Indicator::Off, Indicator::Off}},
    {SlotState::Failed, {Indicator::On, Indicator::On}},
};

// What is shown, and what was ever shown; its lights can be made to fail.
struct Lamps {
    Indicator power = Indicator::On;
    Indicator attention = Indicator::Off;
    std::vector<Indicator> powers;
    bool is_broken = false;
};

class RecordingSlot final : public Slot {
  public:
    explicit RecordingSlot(Lamps& lamps) : lamps_(lamps) {}
    std::string describe() const override { return "recording"; }
    Status set_power(Indicator state) override {
        lamps_.powers.push_back(state);
        if (lamps_.is_broken) return Error(Code::Io, "the lamp is broken");
        lamps_.power = state;
        return {};
    }
    Status set_attention(Indicator state) override {
        lamps_.attention = state;
        return {};
    }
    Indicator power() const override { return lamps_.power; }
    Indicator attention() const override { return lamps_.attention; }

  private:
    Lamps& lamps_;
};

// Leads a new machine into the state by allowed steps.
std::unique_ptr<SlotMachine> machine_in(SlotState state, Lamps& lamps) {
    auto machine = std::make_unique<SlotMachine>(std::make_unique<RecordingSlot>(lamps));
    const auto steps = [&](std::initializer_list<Event> events) {
        for (const auto event : events) EXPECT_TRUE((machine.get()->*event)().ok());
    };
    switch (state) {
        case SlotState::InService:
            break;
        case SlotState::Leaving:
            steps({&SlotMachine::begin_removal});
            break;
        case SlotState::Unproven:
            steps({&SlotMachine::begin_removal, &SlotMachine::unproven});
            break;
        case SlotState::SafeToPull:
            steps({&SlotMachine::begin_removal, &SlotMachine::proved});
            break;
        case SlotState::Failed:
            steps({&SlotMachine::failed});
            break;
    }
    EXPECT_EQ(machine->state(), state);
    return machine;
}

TEST(SlotMachine, EveryStateMeetsEveryEvent) {
    for (const auto state : kStates)
        for (const auto& [name, event] : kEvents) {
            SCOPED_TRACE(std::string(slot_state_name(state)) + " and " + name);
            Lamps lamps;
            const auto machine = machine_in(state, lamps);
            const auto done = (machine.get()->*event)();
            const auto allowed = kAllowed.find({state, name});
            const auto expected = allowed == kAllowed.end() ? state : allowed->second;
            EXPECT_EQ(done.ok(), allowed != kAllowed.end());
            EXPECT_EQ(machine->state(), expected);
            EXPECT_EQ(std::pair(lamps.power, lamps.attention), kShown.at(expected));
            if (done.ok()) continue;
            EXPECT_EQ(done.error().code(), Code::Invalid);
            EXPECT_NE(done.error().message().find(slot_state_name(state)), std::string::npos)
                << done.error().message();
        }
}

// Rule 8, at every step of a long random walk: power Off is shown in SafeToPull alone, which only
// proved() reaches.
TEST(SlotMachine, PowerIsOffInSafeToPullAlone) {
    base::testing::Random random;
    bool was_off = false;
    for (int walk = 0; walk < 200; ++walk) {
        Lamps lamps;
        SlotMachine machine(std::make_unique<RecordingSlot>(lamps));
        for (int step = 0; step < 50; ++step) {
            const auto& [name, event] = kEvents[random.below(std::size(kEvents))];
            const auto before = machine.state();
            const auto seen = lamps.powers.size();
            base::discard((machine.*event)(), "refusals are part of the walk");
            ASSERT_EQ(lamps.power == Indicator::Off, machine.state() == SlotState::SafeToPull)
                << slot_state_name(before) << " and " << name;
            // Not even for a moment on the way to another state.
            for (auto i = seen; i < lamps.powers.size(); ++i) {
                if (lamps.powers[i] != Indicator::Off) continue;
                was_off = true;
                ASSERT_STREQ(name, "proved");
                ASSERT_TRUE(before == SlotState::Leaving || before == SlotState::Unproven);
            }
        }
    }
    EXPECT_TRUE(was_off) << "the walks never came to the end of a removal";
}

TEST(SlotMachine, StatesHaveNamesOfTheirOwn) {
    std::set<std::string_view> names;
    for (const auto state : kStates) names.insert(slot_state_name(state));
    EXPECT_EQ(names, (std::set<std::string_view>{"in-service", "leaving", "unproven",
                                                 "safe-to-pull", "failed"}));
}

TEST(SlotMachine, ALampThatFailsIsToldAfterTheStateHasChanged) {
    Lamps lamps;
    const auto machine = machine_in(SlotState::InService, lamps);
    lamps.is_broken = true;
    const auto done = machine->begin_removal();
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().message(), "the lamp is broken");
    EXPECT_EQ(machine->state(), SlotState::Leaving);
    lamps.is_broken = false;
    EXPECT_TRUE(machine->proved().ok());
    EXPECT_EQ(lamps.power, Indicator::Off);
}

TEST(SlotMachine, OneOfManyThreadsBeginsTheRemoval) {
    Lamps lamps;
    SlotMachine machine(std::make_unique<RecordingSlot>(lamps));
    std::array<bool, 8> begun{};
    {
        std::vector<std::jthread> threads;
        for (auto& mine : begun) threads.emplace_back([&] { mine = machine.begin_removal().ok(); });
    }
    EXPECT_EQ(std::count(begun.begin(), begun.end(), true), 1);
    EXPECT_EQ(lamps.powers.size(), 1u);
}

}  // namespace
}  // namespace refault::slot
