// The thread, and what its owner waits for.
#include "cli/demo_feeder.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/demo_stage.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::MutexLock;
using base::Status;
using std::chrono::steady_clock;

namespace {

constexpr std::uint64_t kRowsEach = 10;
constexpr auto kTransactionsLimit = std::chrono::seconds(30);

}  // namespace

DemoFeeder::~DemoFeeder() {
    must_stop_.store(true);
    if (thread_.joinable()) sqlite_.kill();
    thread_.join();
}

void DemoFeeder::start() {
    thread_ = base::NamedThread("demo-sql", [this] { run(); });
}

void DemoFeeder::begin_spell(const std::string& what) {
    MutexLock lock(mutex_);
    spells_.push_back({.what = what});
}

Status DemoFeeder::check() const {
    MutexLock lock(mutex_);
    if (error_) return *error_;
    return {};
}

Status DemoFeeder::wait_for_transactions(std::uint64_t count) {
    const auto deadline = steady_clock::now() + kTransactionsLimit;
    for (;;) {
        RETURN_IF_ERROR(DemoStage::check_interrupt());
        RETURN_IF_ERROR(check());
        {
            MutexLock lock(mutex_);
            if (spells_.back().transactions >= count) return {};
        }
        if (steady_clock::now() > deadline)
            return Error(Code::TimedOut, "sqlite3 does not get on with its transactions");
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

Status DemoFeeder::stop() {
    must_stop_.store(true);
    thread_.join();
    return check();
}

DemoRows DemoFeeder::rows() const {
    MutexLock lock(mutex_);
    return rows_;
}

std::vector<DemoSpell> DemoFeeder::spells() const {
    MutexLock lock(mutex_);
    return spells_;
}

// A pause is the time from one acknowledgement to the next: it belongs to the spell in which it
// ends, and to that in which it began, as what happened in either may have caused it.
void DemoFeeder::run() {
    auto last = steady_clock::now();
    std::size_t spell_of_last = 0;
    while (!must_stop_.load() && insert()) {
        const auto now = steady_clock::now();
        const double pause_ms = std::chrono::duration<double, std::milli>(now - last).count();
        last = now;
        MutexLock lock(mutex_);
        for (std::size_t i = spell_of_last; i < spells_.size(); ++i)
            spells_[i].longest_pause_ms = std::max(spells_[i].longest_pause_ms, pause_ms);
        spell_of_last = spells_.size() - 1;
        ++spells_.back().transactions;
    }
}

bool DemoFeeder::insert() {
    DemoRows rows = this->rows();
    const DemoRows added{rows.end, rows.end + kRowsEach};
    rows.end = added.end;
    rows.first = std::max(rows.first, rows.end - std::min(rows.end - 1, rows_max_));
    const auto answer = sqlite_.ask(transaction_sql(added, rows.first));
    MutexLock lock(mutex_);
    if (answer && answer->empty()) {
        rows_ = rows;
        return true;
    }
    ++spells_.back().errors;
    error_ = answer ? Error(Code::Io, "sqlite3 says: " + *answer) : answer.error();
    return false;
}

}  // namespace refault::cli
