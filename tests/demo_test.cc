// `refault demo`: it passes, with figures that fit; it fails, and says why, when something is not
// as it should be.
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>

#include "tests/support.h"

namespace refault::tests {
namespace {

// Of the third act.
void expect_kept_database(const Json& database) {
    if (database.contains("left_out")) {
        EXPECT_TRUE(::access("/dev/fuse", F_OK) != 0 || cli::find_program("sqlite3").empty() ||
                    ::geteuid() != 0)
            << database.dump();
        return;
    }
    EXPECT_EQ(database["integrity_check"], "ok");
    EXPECT_EQ(database["rows"], database["rows_acknowledged"]);
    EXPECT_EQ(database["checksum"], database["checksum_acknowledged"]);
    EXPECT_EQ(database["errors"], 0);
    ASSERT_EQ(database["spells"].size(), 5u) << database.dump();  // the last is their sum
    std::uint64_t transactions = 0;
    for (const auto& spell : database["spells"]) {
        EXPECT_GT(spell.value("transactions", 0ull), 0u) << spell.dump();
        transactions += spell.value("transactions", 0ull);
    }
    EXPECT_EQ(transactions, 2 * database.value("transactions", 0ull));
    EXPECT_EQ(database["power_indicator"] == "off", ::geteuid() == 0) << database.dump();
}

TEST(Demo, KeepsItsPromisesAndSaysSo) {
    Pool pool({"a=ram:64M"});  // the demo makes one of its own; this one is for run_refault
    const auto result =
        run_refault(pool, {"demo", "--json", "--device-size", "64M", "--seconds", "0.3"});
    const auto document = Json::parse(result.out, nullptr, false);
    ASSERT_TRUE(document.is_object()) << result.out << result.err;
    EXPECT_EQ(result.status, 0) << document["failures"].dump();
    EXPECT_TRUE(document.value("ok", false)) << document["failures"].dump();
    ASSERT_EQ(document["clients"].size(), 4u);
    for (const auto& client : document["clients"]) {
        EXPECT_EQ(client["records_verified"], client["records"]);
        EXPECT_EQ(client.value("signals", 9u), 0u);
    }
    ASSERT_EQ(document["after_loss"].size(), 4u);
    for (const auto& client : document["after_loss"]) {
        const bool has_copy = client.value("copies", 0u) == 2;
        EXPECT_EQ(client.value("records_lost", 0u) == 0, has_copy) << client.dump();
        EXPECT_EQ(client.value("daemon_says", "").ends_with(" lost"), !has_copy) << client.dump();
        EXPECT_TRUE(client.value("address_unchanged", false));
        if (client.value("on_loss", "") == "rollback") {
            EXPECT_EQ(client.value("loss_signals", 9u), 0u);
        }
    }
    std::vector<std::string> kinds;
    for (const auto& record : document["losses"]) {
        kinds.push_back(record.value("kind", ""));
        EXPECT_TRUE(record["unmapped_ms"].is_number()) << record.dump();
        const bool is_lost = record["parts"][0]["outcome"] == "lost" && record["parts"].size() == 1;
        EXPECT_EQ(record["repaired_ms"].is_number(), !is_lost) << record.dump();
    }
    EXPECT_EQ(kinds, (std::vector<std::string>{"poison", "poison", "surprise-removal"}));
    expect_kept_database(document["database"]);
}

// The demo with a program of that name and text as its sqlite3, and no other program to find.
CommandResult demo_with_sqlite3(const std::string& text) {
    Pool pool({"a=ram:64M"});
    TemporaryDirectory programs;
    if (!text.empty()) {
        const auto path = programs.path() + "/sqlite3";
        std::ofstream(path) << text;
        EXPECT_EQ(::chmod(path.c_str(), 0755), 0);
    }
    const std::string before = std::getenv("PATH");
    ::setenv("PATH", programs.path().c_str(), 1);
    auto result = run_refault(pool, {"demo", "--json", "--device-size", "64M", "--seconds", "0.1"});
    ::setenv("PATH", before.c_str(), 1);
    return result;
}

TEST(Demo, LeavesTheDatabaseOutWithoutSqlite3) {
    const auto result = demo_with_sqlite3("");
    const auto document = Json::parse(result.out, nullptr, false);
    ASSERT_TRUE(document.is_object()) << result.out << result.err;
    EXPECT_EQ(result.status, 0) << document["failures"].dump();
    EXPECT_EQ(document["database"].value("left_out", ""), "sqlite3 is not installed");
}

TEST(Demo, FailsAndSaysWhyWhenSqlite3EndsEarly) {
    if (::geteuid() != 0 || ::access("/dev/fuse", F_OK) != 0)
        GTEST_SKIP() << "there is no way to mount without other programs";
    const auto result = demo_with_sqlite3("#!/bin/sh\necho 'disk I/O error' >&2\nexit 7\n");
    const auto document = Json::parse(result.out, nullptr, false);
    ASSERT_TRUE(document.is_object()) << result.out << result.err;
    EXPECT_EQ(result.status, 1);
    ASSERT_FALSE(document["failures"].empty());
    EXPECT_EQ(document["failures"].back(),
              "sqlite3 ended too early, with status 7: disk I/O error");
    EXPECT_FALSE(document["database"].contains("rows"));
}

TEST(Demo, FailsWhenItCannotDoItsPart) {
    Pool pool({"a=ram:64M"});
    const auto result = run_refault(pool, {"demo", "--json", "--device-size", "4M"});
    EXPECT_EQ(result.status, 1);
    const auto document = Json::parse(result.out, nullptr, false);
    ASSERT_TRUE(document.is_object()) << result.out << result.err;
    EXPECT_FALSE(document["failures"].empty());
    EXPECT_FALSE(document.value("ok", true));
}

}  // namespace
}  // namespace refault::tests
