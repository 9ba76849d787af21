// Making the database, harming the pool, reading everything back.
#include "cli/demo_database.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/range.h"
#include "base/units.h"
#include "cli/demo_feeder.h"
#include "cli/demo_harm.h"
#include "cli/demo_mount.h"
#include "cli/demo_places.h"
#include "cli/demo_removal.h"
#include "cli/demo_rows.h"
#include "cli/demo_rules.h"
#include "cli/demo_sqlite.h"
#include "cli/local_daemon.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::format_size;
using base::Status;

namespace {

const std::string kDirectory = "/db";
const std::string kDatabase = "/db/orders.db";
const std::string kFresh[] = {"dimm4", "dimm5"};
// After each harm so many are waited for: a pause that it causes is over then.
constexpr std::uint64_t kTransactionsEach = 50;
constexpr std::uint64_t kFillBytesMax = 8ull << 20;
constexpr std::uint64_t kRowsAtOnce = 2000;  // of the fill; the statement stays below 1 MB

// Empty when nothing is in the way.
std::string why_left_out() {
    if (find_program("sqlite3").empty()) return "sqlite3 is not installed";
    if (::access("/dev/fuse", F_OK) != 0) return "there is no /dev/fuse";
    if (::access("/dev/fuse", R_OK | W_OK) != 0) return "this user may not open /dev/fuse";
    if (::geteuid() != 0 && find_program("fusermount3").empty())
        return "fusermount3, by which ordinary users mount, is not installed";
    return {};
}

class DatabaseAct {
  public:
    explicit DatabaseAct(DemoStage& stage)
        : stage_(stage),
          report_(stage.report()),
          mount_(stage.control(),
                 std::filesystem::weakly_canonical(stage.run_dir()).string() + "/mount") {}

    Status play() {
        if (const auto why = why_left_out(); !why.empty()) return leave_out(why);
        if (const auto mounted = mount_.mount(); !mounted) {
            if (mounted.error().code() == Code::Denied) return leave_out(mounted.error().message());
            return mounted.error();
        }
        RETURN_IF_ERROR(renew_pool());
        RETURN_IF_ERROR(make_database());
        RETURN_IF_ERROR(harm());
        RETURN_IF_ERROR(end_feeding());
        return judge();
    }

  private:
    Status leave_out(const std::string& why) {
        report_.step("the third act, a database on a mount, is left out: " + why);
        report_.leave_out_database(why);
        return {};
    }

    // Of four devices two are left.
    Status renew_pool() {
        for (std::size_t i = 0; i < kDemoClients; ++i) {
            auto removed =
                stage_.control().post("/v1/files/remove", {{"path", DemoStage::file_of(i)}});
            if (!removed) return removed.error();
        }
        for (const auto& name : kFresh) {
            auto added = stage_.control().post(
                "/v1/devices",
                {{"spec", name + "=ram:" + std::to_string(stage_.options().device_bytes)}});
            if (!added) return added.error();
        }
        report_.step("two fresh devices join for the two that are gone: " + kFresh[0] + " and " +
                     kFresh[1]);
        return {};
    }

    Status make_database() {
        auto made = stage_.control().post("/v1/files/mkdir", {{"path", kDirectory}});
        if (!made) return made.error();
        auto set = stage_.control().post("/v1/files/set", {{"path", kDirectory}, {"replicas", 2}});
        if (!set) return set.error();
        RETURN_IF_ERROR(start_sqlite());
        auto mode =
            sqlite_->ask("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA synchronous;");
        if (!mode) return mode.error();
        if (*mode != "wal\n2\n")
            return Error(Code::Io, "sqlite3 takes no write-ahead log with FULL: " + *mode);
        auto created = sqlite_->ask("CREATE TABLE rows(id INTEGER PRIMARY KEY, text TEXT);");
        if (!created) return created.error();
        const auto bytes = std::min(stage_.options().device_bytes / 32, kFillBytesMax);
        DemoRows rows;
        while (rows.count() < bytes / kRowTextBytes) {
            const DemoRows added{rows.end, rows.end + kRowsAtOnce};
            auto inserted = sqlite_->ask(transaction_sql(added, 1));
            if (!inserted) return inserted.error();
            rows.end = added.end;
        }
        report_.step("sqlite3 (pid " + std::to_string(sqlite_->pid()) + ") has " +
                     std::to_string(rows.count()) +
                     " rows in a database on the mount: two copies, journal_mode=WAL, "
                     "synchronous=FULL");
        // So that a long run has room on the two devices that will be left.
        feeder_.emplace(*sqlite_, rows, stage_.options().device_bytes / 8 / kRowTextBytes);
        return {};
    }

    Status start_sqlite() {
        auto sqlite = Sqlite::start(find_program("sqlite3"), mount_.path() + kDatabase);
        if (!sqlite) return sqlite.error();
        sqlite_.emplace(std::move(*sqlite));
        return {};
    }

    Status harm() {
        feeder_->begin_spell("nothing happens");
        feeder_->start();
        RETURN_IF_ERROR(go_on("sqlite3 inserts rows"));
        RETURN_IF_ERROR(pull());
        RETURN_IF_ERROR(poison());
        RETURN_IF_ERROR(yank());
        RETURN_IF_ERROR(go_on("sqlite3 goes on"));
        RETURN_IF_ERROR(wait_for_resync(stage_));
        return feeder_->wait_for_transactions(kTransactionsEach);
    }

    Status go_on(const char* what) {
        RETURN_IF_ERROR(stage_.run_for(stage_.options().seconds, what));
        return feeder_->check();
    }

    // The device on which most of what sqlite3 reads lies.
    base::Result<std::string> device_in_use() {
        auto parts = read_parts(stage_.control());
        if (!parts) return parts.error();
        parts_ = std::move(*parts);
        const auto device =
            device_to_yank(parts_, {{kDatabase, 2, false}, {kDatabase + "-wal", 2, false}});
        if (device.empty()) return Error(Code::Io, "no device has any of the database");
        return device;
    }

    Status pull() {
        auto device = device_in_use();
        if (!device) return device.error();
        feeder_->begin_spell(*device + " is pulled");
        RETURN_IF_ERROR(pull_device(stage_, *device, removal_));
        return feeder_->wait_for_transactions(kTransactionsEach);
    }

    Status poison() {
        RETURN_IF_ERROR(wait_for_resync(stage_));
        auto device = device_in_use();
        if (!device) return device.error();
        yanked_ = *device;
        // On another device, where there is one with bytes of the database.
        auto page = page_elsewhere(parts_, kDatabase, yanked_);
        if (!page) page = page_elsewhere(parts_, kDatabase, "");
        if (!page) return Error(Code::Io, "no device has any of the database");
        feeder_->begin_spell("a page of " + page->device + " is bad");
        RETURN_IF_ERROR(poison_page(stage_, *page, "repaired"));
        return feeder_->wait_for_transactions(kTransactionsEach);
    }

    Status yank() {
        std::uint64_t bytes = 0;
        for (const auto& part : parts_)
            if (part.device == yanked_ && part.replica == 0) bytes += part.range.length();
        feeder_->begin_spell(yanked_ + " is torn out");
        return tear_out(stage_, yanked_, format_size(bytes) + " of the database");
    }

    Status end_feeding() {
        RETURN_IF_ERROR(feeder_->stop());
        RETURN_IF_ERROR(sqlite_->close());
        auto parts = read_parts(stage_.control());
        if (!parts) return parts.error();
        auto file = stage_.control().get("/v1/files/stat?path=" + kDatabase);
        if (!file) return file.error();
        RETURN_IF_ERROR(check_copies(
            *parts, {kDatabase, 2, false},
            base::align_up(file->value("size_bytes", std::uint64_t{0}), base::kPageBytes)));
        report_.step("every transaction is done, and the database is closed; it has two copies");
        return {};
    }

    // What the kernel has cached of the database proves nothing.
    Status judge() {
        RETURN_IF_ERROR(mount_.unmount());
        RETURN_IF_ERROR(mount_.mount());
        RETURN_IF_ERROR(start_sqlite());
        DemoDatabase database;
        database.spells = feeder_->spells();
        database.acknowledged = sum_of(feeder_->rows());
        auto checked = sqlite_->ask("PRAGMA integrity_check;");
        if (!checked) return checked.error();
        database.integrity_check = checked->substr(0, checked->find_last_not_of('\n') + 1);
        auto printed = sqlite_->ask("SELECT id, text FROM rows ORDER BY id;");
        if (!printed) return printed.error();
        database.found = sum_of(*printed);
        RETURN_IF_ERROR(sqlite_->close());
        auto lost = stage_.control().get("/v1/lost");
        if (!lost) return lost.error();
        database.lost_ranges = (*lost)["lost"].size();
        RETURN_IF_ERROR(mount_.unmount());
        const auto broken = broken_rules(database);
        for (const auto& rule : broken) report_.fail(rule);
        report_.step(std::string("mounted anew, another sqlite3 has read every row") +
                     (broken.empty() ? "" : "; RULES ARE BROKEN"));
        report_.add_database(kDatabase, database, removal_);
        report_.show_database();
        return {};
    }

    DemoStage& stage_;
    DemoReport& report_;
    DemoMount mount_;
    std::optional<Sqlite> sqlite_;
    std::optional<DemoFeeder> feeder_;  // ends before sqlite3, which ends before the mount
    std::vector<DemoPart> parts_;
    std::string yanked_;
    DemoRemoval removal_;
};

}  // namespace

Status play_database(DemoStage& stage) {
    return DatabaseAct(stage).play();
}

}  // namespace refault::cli
