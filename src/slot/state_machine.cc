// Transitions and what each state shows, as one table.
#include "slot/state_machine.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

namespace refault::slot {

using base::Code;
using base::Error;
using base::MutexLock;
using base::Status;

namespace {

constexpr std::size_t kStates = 5;
constexpr std::size_t kEvents = 5;

struct Row {
    std::string_view name;
    Indicator power;
    Indicator attention;
    std::array<std::optional<SlotState>, kEvents> next;  // by event; nothing: not allowed
};

const Row& row_of(SlotState state) noexcept {
    using enum SlotState;
    constexpr auto kNo = std::nullopt;
    constexpr auto kOn = Indicator::On;
    constexpr auto kOff = Indicator::Off;
    constexpr auto kBlink = Indicator::Blinking;
    // In the order of SlotState and of Event.
    // clang-format off
    static constexpr std::array<Row, kStates> kRows = {{
        // name          power   attention  begin    restore    proved      unproven  failed
        {"in-service",   kOn,    kOff,     {Leaving, kNo,       kNo,        kNo,      Failed}},
        {"leaving",      kBlink, kOff,     {kNo,     InService, SafeToPull, Unproven, Failed}},
        {"unproven",     kBlink, kOn,      {kNo,     InService, SafeToPull, kNo,      Failed}},
        {"safe-to-pull", kOff,   kOff,     {kNo,     kNo,       kNo,        kNo,      kNo}},
        {"failed",       kOn,    kOn,      {Leaving, InService, kNo,        kNo,      Failed}},
    }};
    // clang-format on
    return kRows[static_cast<std::size_t>(state)];
}

constexpr std::array<std::string_view, kEvents> kEventNames = {
    "begin a removal", "go back into service", "become safe to pull", "become unproven", "fail"};

}  // namespace

std::string_view slot_state_name(SlotState state) noexcept {
    return row_of(state).name;
}

SlotMachine::SlotMachine(std::unique_ptr<Slot> slot) : slot_(std::move(slot)) {}

Status SlotMachine::begin_removal() {
    return change(Event::BeginRemoval);
}
Status SlotMachine::restore() {
    return change(Event::Restore);
}
Status SlotMachine::proved() {
    return change(Event::Proved);
}
Status SlotMachine::unproven() {
    return change(Event::Unproven);
}
Status SlotMachine::failed() {
    return change(Event::Failed);
}

SlotState SlotMachine::state() const {
    MutexLock lock(mutex_);
    return state_;
}

Status SlotMachine::change(Event event) {
    MutexLock lock(mutex_);
    const auto column = static_cast<std::size_t>(event);
    const auto next = row_of(state_).next[column];
    if (!next)
        return Error(Code::Invalid, "a slot that is " + std::string(slot_state_name(state_)) +
                                        " cannot " + std::string(kEventNames[column]));
    state_ = *next;
    return show_locked(state_);
}

Status SlotMachine::show_locked(SlotState state) {
    const Row& row = row_of(state);
    const auto attention = slot_->set_attention(row.attention);
    const auto power = slot_->set_power(row.power);
    return power ? attention : power;
}

}  // namespace refault::slot
