// Transactions without a pause for the demo's database: a thread, `demo-sql`, inserts rows through
// sqlite3 and counts what is acknowledged, by what happens to the pool meanwhile. The owner is one
// thread; start() to stop() the feeder alone talks to sqlite3.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "cli/demo_rows.h"
#include "cli/demo_rules.h"
#include "cli/demo_sqlite.h"

namespace refault::cli {

class DemoFeeder {
  public:
    // `rows` are in the table; it keeps at most `rows_max`, the newest.
    DemoFeeder(Sqlite& sqlite, const DemoRows& rows, std::uint64_t rows_max)
        : sqlite_(sqlite), rows_max_(rows_max), rows_(rows) {}
    // Kills sqlite3 when the feeder was not stopped.
    ~DemoFeeder();
    DemoFeeder(const DemoFeeder&) = delete;
    DemoFeeder& operator=(const DemoFeeder&) = delete;

    void start();
    // What happens from here on, until the next spell.
    void begin_spell(const std::string& what) EXCLUDES(mutex_);
    // Until so many transactions were acknowledged in this spell.
    base::Status wait_for_transactions(std::uint64_t count) EXCLUDES(mutex_);
    // After the transaction under way; an error when one failed.
    base::Status stop() EXCLUDES(mutex_);

    base::Status check() const EXCLUDES(mutex_);
    // Which rows the table has to have.
    DemoRows rows() const EXCLUDES(mutex_);
    std::vector<DemoSpell> spells() const EXCLUDES(mutex_);

  private:
    void run() EXCLUDES(mutex_);
    // False when nothing more can be asked.
    bool insert() EXCLUDES(mutex_);

    Sqlite& sqlite_;
    const std::uint64_t rows_max_;
    std::atomic<bool> must_stop_{false};
    mutable base::Mutex mutex_;
    DemoRows rows_ GUARDED_BY(mutex_);
    std::vector<DemoSpell> spells_ GUARDED_BY(mutex_);
    std::optional<base::Error> error_ GUARDED_BY(mutex_);
    base::NamedThread thread_;
};

}  // namespace refault::cli
