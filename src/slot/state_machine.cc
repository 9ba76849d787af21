// Transitions and what each state shows.
#include "slot/state_machine.h"

#include <initializer_list>

namespace refault::slot {

using base::Code;
using base::Error;
using base::MutexLock;
using base::Status;

std::string_view slot_state_name(SlotState state) noexcept {
    switch (state) {
        case SlotState::InService: return "in-service";
        case SlotState::Leaving: return "leaving";
        case SlotState::Unproven: return "unproven";
        case SlotState::SafeToPull: return "safe-to-pull";
        case SlotState::Failed: return "failed";
    }
    return "unknown";
}

SlotMachine::SlotMachine(std::unique_ptr<Slot> slot) : slot_(std::move(slot)) {}

SlotState SlotMachine::state() const {
    MutexLock lock(mutex_);
    return state_;
}

Status SlotMachine::change(std::initializer_list<SlotState> from, SlotState to) {
    MutexLock lock(mutex_);
    for (const auto allowed : from) {
        if (state_ != allowed) continue;
        state_ = to;
        return show_locked(to);
    }
    return Error(Code::Invalid, std::string("a slot that is ") + std::string(slot_state_name(state_)) +
                                    " cannot become " + std::string(slot_state_name(to)));
}

Status SlotMachine::begin_removal() { return change({SlotState::InService, SlotState::Failed}, SlotState::Leaving); }

Status SlotMachine::restore() {
    return change({SlotState::Leaving, SlotState::Unproven, SlotState::Failed}, SlotState::InService);
}

Status SlotMachine::proved() { return change({SlotState::Leaving, SlotState::Unproven}, SlotState::SafeToPull); }

Status SlotMachine::unproven() { return change({SlotState::Leaving}, SlotState::Unproven); }

Status SlotMachine::failed() {
    return change({SlotState::InService, SlotState::Leaving, SlotState::Unproven, SlotState::Failed}, SlotState::Failed);
}

Status SlotMachine::show_locked(SlotState state) {
    struct Lights {
        Indicator power;
        Indicator attention;
    };
    const auto lights = [state]() -> Lights {
        switch (state) {
            case SlotState::InService: return {Indicator::On, Indicator::Off};
            case SlotState::Leaving: return {Indicator::Blinking, Indicator::Off};
            case SlotState::Unproven: return {Indicator::Blinking, Indicator::On};
            case SlotState::SafeToPull: return {Indicator::Off, Indicator::Off};
            case SlotState::Failed: return {Indicator::On, Indicator::On};
        }
        return {Indicator::On, Indicator::On};
    }();
    const auto attention = slot_->set_attention(lights.attention);
    const auto power = slot_->set_power(lights.power);
    return power ? attention : power;
}

}  // namespace refault::slot
