// The command line as a person uses it: statuses, one-line reasons, --json and --help everywhere,
// files in and out.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <sstream>

#include "tests/support.h"

namespace refault::tests {
namespace {

TEST(Cli, FilesGoInAndOutUnchanged) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    TemporaryDirectory scratch;
    std::mt19937_64 random(test_seed());
    std::string content(9'000'001, '\0');
    for (auto& byte : content) byte = static_cast<char>(random());
    std::ofstream(scratch.path() + "/in", std::ios::binary) << content;
    EXPECT_EQ(run_refault(pool, {"mkdir", "-p", "/deep/down"}).status, 0);
    EXPECT_EQ(run_refault(pool, {"cp", scratch.path() + "/in", "pool:/deep/down/file"}).status, 0);
    EXPECT_EQ(run_refault(pool, {"cp", "pool:/deep/down/file", scratch.path() + "/out"}).status, 0);
    std::ifstream out(scratch.path() + "/out", std::ios::binary);
    const std::string back((std::istreambuf_iterator<char>(out)), {});
    EXPECT_TRUE(back == content);
    EXPECT_TRUE(run_refault(pool, {"cat", "/deep/down/file"}).out == content);
    // A shorter file over a longer one leaves nothing of the longer one.
    std::ofstream(scratch.path() + "/in", std::ios::binary | std::ios::trunc) << "short";
    EXPECT_EQ(run_refault(pool, {"cp", scratch.path() + "/in", "pool:/deep/down/file"}).status, 0);
    EXPECT_EQ(run_refault(pool, {"cat", "/deep/down/file"}).out, "short");
    EXPECT_EQ(run_refault(pool, {"mv", "/deep/down/file", "/deep/moved"}).status, 0);
    EXPECT_NE(run_refault(pool, {"ls", "-l", "/deep"}).out.find("moved"), std::string::npos);
    EXPECT_EQ(run_refault(pool, {"rm", "/deep/moved"}).status, 0);
    EXPECT_EQ(run_refault(pool, {"rmdir", "/deep/down"}).status, 0);
    EXPECT_EQ(run_refault(pool, {"pool", "check"}).status, 0);
}

TEST(Cli, FailuresSayWhyInOneLineAndExitNonZero) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    const std::vector<std::pair<std::vector<std::string>, int>> cases = {
        {{"cat", "/missing"}, 1},
        {{"rm", "/missing"}, 1},
        {{"ls", "/missing"}, 1},
        {{"cp", "/one", "/two"}, 1},
        {{"device", "pull", "nobody"}, 1},
        {{"device", "cancel", "a"}, 1},
        {{"device", "add", "a=ram:64M"}, 1},
        {{"device", "add", "c=ram:lots"}, 1},
        {{"device", "add", "c=dir:/does/not/exist"}, 1},
        {{"locate", "a", "0", "1T"}, 1},
        {{"locate", "a", "zero", "1"}, 2},
        {{"locate", "a", "1T", "--by", "pages"}, 1},
        {{"device", "pull", "a", "--rate", "fast"}, 2},
        {{"resize", "/missing", "1"}, 1},
        {{"pool", "create", "second", "--device", "x=ram:64M"}, 1},
    };
    for (const auto& [arguments, status] : cases) {
        const auto result = run_refault(pool, arguments);
        EXPECT_EQ(result.status, status) << arguments.back() << ": " << result.err;
        EXPECT_TRUE(result.err.starts_with("refault: ")) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    }
}

TEST(Cli, WrongUsageNamesTheWordAndWhoseHelpToRead) {
    Pool pool({"a=ram:64M"});
    const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
        {{"nix"}, "refault: there is no command 'nix'; see: refault --help"},
        {{"device", "pul", "a"}, "refault: there is no command 'pul'; see: refault device --help"},
        {{"rm", "/a", "/b"}, "refault: '/b' is not understood; see: refault rm --help"},
        {{"status", "--nix"}, "refault: '--nix' is not understood; see: refault status --help"},
    };
    for (const auto& [arguments, says] : cases) {
        const auto result = run_refault(pool, arguments);
        EXPECT_EQ(result.status, 2) << says;
        EXPECT_EQ(result.err, says + "\n");
    }
    for (const auto& arguments : std::vector<std::vector<std::string>>{
             {}, {"device"}, {"device", "pull"}, {"locate", "a", "0", "--by", "magic"}}) {
        const auto result = run_refault(pool, arguments);
        EXPECT_EQ(result.status, 2) << result.err;
        EXPECT_TRUE(result.err.starts_with("refault: ")) << result.err;
        EXPECT_NE(result.err.find("; see: refault"), std::string::npos) << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    }
    // In front of the command as well as behind it.
    EXPECT_TRUE(Json::accept(run_refault(pool, {"--json", "status"}).out));
}

TEST(Cli, WhatIsRefusedLeavesNothingBehind) {
    Pool pool({"a=ram:64M"});
    TemporaryDirectory scratch;
    const auto expect_refused = [&](const std::vector<std::string>& arguments,
                                    const std::string& says) {
        const auto result = run_refault(pool, arguments);
        EXPECT_EQ(result.status, 1) << says;
        EXPECT_NE(result.err.find(says), std::string::npos) << result.err;
    };
    expect_refused({"cp", scratch.path(), "pool:/ex"}, "is a directory; cp copies one file");
    expect_refused({"stat", "/ex"}, "there is no /ex");
    expect_refused({"mkdir", "/missing/deep/down"}, "there is no /missing\n");
    std::ofstream(scratch.path() + "/letter") << "of somebody";
    expect_refused({"device", "add", "b=dir:" + scratch.path() + ",size=64M"}, "is not empty");
    EXPECT_FALSE(std::filesystem::exists(scratch.path() + "/lock"));
    expect_refused({"mount", scratch.path() + "/none"}, "there is no " + scratch.path() + "/none");
    expect_refused({"mount", scratch.path() + "/letter"}, "/letter is no directory");
}

TEST(Cli, ADaemonThatRunsNoProgramSaysThatItIsRestartedInstead) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer runs programs, and the filter lets it";
#endif
    Pool pool({"a=ram:64M"}, {"--seccomp", "strict"});
    for (const auto& arguments : std::vector<std::vector<std::string>>{
             {"daemon", "upgrade", "--dry-run"}, {"daemon", "upgrade"}}) {
        const auto result = run_refault(pool, arguments);
        EXPECT_EQ(result.status, 1);
        EXPECT_NE(result.err.find("--seccomp strict"), std::string::npos) << result.err;
        EXPECT_NE(result.err.find("restart it"), std::string::npos) << result.err;
    }
}

TEST(Cli, EmptyListsSaySoAndNumbersAgreeWithTheirNouns) {
    Pool pool({"a=ram:64M"});
    for (const auto* list : {"sessions", "maps", "mounts"}) {
        const auto result = run_refault(pool, {list});
        EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << list << result.out;
    }
    EXPECT_NE(run_refault(pool, {"device", "list"}).out.find(" ram:64M\n"), std::string::npos);
    EXPECT_NE(run_refault(pool, {"status"}).out.find(", 1 copy, "), std::string::npos);
    const MappedFile mapped(pool, "/one", 1 << 20);
    EXPECT_NE(run_refault(pool, {"sessions"}).out.find("  1 mapping, "), std::string::npos);
}

TEST(Cli, WithoutADaemonItSaysHowToStartOne) {
    Pool pool({"a=ram:64M"});
    ASSERT_TRUE(pool.daemon().stop());
    const auto result = run_refault(pool, {"pool", "status"});
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("refaultd --run-dir"), std::string::npos) << result.err;
}

TEST(Cli, EveryCommandAnswersInJson) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 1, 8ull << 20);
    const std::vector<std::vector<std::string>> commands = {{"status"},
                                                            {"doctor"},
                                                            {"pool", "status"},
                                                            {"pool", "check"},
                                                            {"device", "list"},
                                                            {"device", "prove", "a"},
                                                            {"device", "pull", "b", "--dry-run"},
                                                            {"ls", "/"},
                                                            {"stat", "/writer0"},
                                                            {"locate", "a", "0", "64M"},
                                                            {"locate", "a", "0", "--by", "inodes"},
                                                            {"locate", "a", "0", "--by", "pages"},
                                                            {"maps"},
                                                            {"maps", "/writer0"},
                                                            {"sessions"},
                                                            {"mkdir", "/d"},
                                                            {"rmdir", "/d"},
                                                            {"create", "/e"},
                                                            {"rm", "/e"}};
    for (auto command : commands) {
        command.push_back("--json");
        const auto result = run_refault(pool, command);
        const bool is_proof = command[1] == "prove";  // the writer holds the device
        EXPECT_EQ(result.status, is_proof ? 3 : 0) << command[0] << ": " << result.err;
        EXPECT_FALSE(Json::parse(result.out, nullptr, false).is_discarded())
            << command[0] << ": " << result.out;
    }
    const auto failed = run_refault(pool, {"stat", "/missing", "--json"});
    EXPECT_EQ(Json::parse(failed.out, nullptr, false)["error"].value("code", ""), "not-found")
        << failed.out;
    writers.finish();
}

TEST(Cli, EveryCommandHasHelpWithAnExample) {
    Pool pool({"a=ram:64M"});
    for (const auto* words :
         {"pool create", "pool open",   "pool close",    "pool status",  "pool check", "device add",
          "device list", "device pull", "device cancel", "device prove", "ls",         "cat",
          "cp",          "rm",          "mkdir",         "rmdir",        "mv",         "stat",
          "resize",      "create",      "locate",        "maps",         "sessions",   "events",
          "demo",        "status",      "doctor"}) {
        std::vector<std::string> arguments;
        std::istringstream in(words);
        for (std::string word; in >> word;) arguments.push_back(word);
        arguments.push_back("--help");
        const auto result = run_refault(pool, arguments);
        EXPECT_EQ(result.status, 0) << words;
        EXPECT_NE(result.out.find("Examples:"), std::string::npos) << words;
        EXPECT_NE(result.out.find("--json"), std::string::npos) << words;
    }
}

TEST(Cli, TheDoctorNeedsNoDaemonAndTellsOfOne) {
    Pool pool({"a=ram:64M"});
    const auto of_daemon = [&] {
        const auto result = run_refault(pool, {"doctor", "--json"});
        EXPECT_EQ(result.status, 0) << result.out << result.err;
        const auto answer = Json::parse(result.out, nullptr, false);
        EXPECT_TRUE(answer.value("is_usable", false)) << result.out;
        for (const auto& check : answer["checks"])
            if (check["check"] == "daemon") return check.value("found", "");
        return std::string();
    };
    EXPECT_NE(of_daemon().find("runs, version"), std::string::npos);
    ASSERT_TRUE(pool.daemon().stop());
    EXPECT_NE(of_daemon().find("none runs here"), std::string::npos);
    // No daemon could start where a file is.
    const auto run_dir = pool.daemon().run_dir();
    std::filesystem::rename(run_dir, run_dir + "-aside");
    std::ofstream(run_dir) << "in the way";
    const auto text = run_refault(pool, {"doctor"});
    std::filesystem::remove(run_dir);
    std::filesystem::rename(run_dir + "-aside", run_dir);
    EXPECT_EQ(text.status, 1) << text.out;
    EXPECT_NE(text.out.find("mend:"), std::string::npos) << text.out;
}

TEST(Cli, StatusSaysNothingTwice) {
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    EXPECT_NE(run_refault(pool, {"status"}).out.find("health    ok\n"), std::string::npos);
    ASSERT_EQ(run_refault(pool, {"fail", "b", "--all", "--yes"}).status, 0);
    const auto result = run_refault(pool, {"status"});
    EXPECT_NE(result.out.find("health    degraded\n"), std::string::npos) << result.out;
    std::istringstream in(result.out);
    int lines_of_b = 0;
    std::set<std::string> lines;
    for (std::string line; std::getline(in, line);) {
        EXPECT_TRUE(lines.insert(line).second) << "twice: " << line;
        if (line.find(" b ") != std::string::npos) ++lines_of_b;
    }
    EXPECT_EQ(lines_of_b, 1) << result.out;
    EXPECT_EQ(run_refault(pool, {"pool", "status"}).out, result.out);
}

TEST(Cli, LocateByPagesNamesTheProgramsAndTheSameFiles) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 1, 8ull << 20);
    std::uint64_t mappings = 0;
    for (const auto* device : {"a", "b"}) {
        const auto by_default = run_refault(pool, {"locate", device, "0", "64M"});
        EXPECT_EQ(by_default.status, 0) << by_default.err;
        EXPECT_EQ(run_refault(pool, {"locate", device, "0", "64M", "--by", "rmap"}).out,
                  by_default.out);
        EXPECT_EQ(run_refault(pool, {"locate", device, "0", "64M", "--by", "inodes"}).out,
                  by_default.out);
        const auto by_pages =
            run_refault(pool, {"locate", device, "0", "64M", "--by", "pages", "--json"});
        EXPECT_EQ(by_pages.status, 0) << by_pages.err;
        const auto answer = Json::parse(by_pages.out);
        for (const auto& owner : answer["owners"]) EXPECT_EQ(owner.value("path", ""), "/writer0");
        for (const auto& mapping : answer["mappings"]) {
            ++mappings;
            EXPECT_TRUE(mapping.value("is_client", false)) << mapping;
        }
        const auto text = run_refault(pool, {"locate", device, "0", "64M", "--by", "pages"});
        EXPECT_EQ(text.out.find(" in its page table") != std::string::npos,
                  !answer["mappings"].empty())
            << text.out;
    }
    EXPECT_GT(mappings, 0u);
    writers.finish();
}

TEST(Cli, PullTellsTheWholeStory) {
    NEEDS_PROOF();
    Pool pool({"a=ram:64M", "b=ram:64M", "c=ram:64M"});
    Writers writers(pool, 2, 16ull << 20);
    const auto plan = run_refault(pool, {"device", "pull", "b", "--dry-run"});
    EXPECT_EQ(plan.status, 0) << plan.err;
    EXPECT_NE(plan.out.find("possible    yes"), std::string::npos) << plan.out;
    EXPECT_NE(plan.out.find("affected"), std::string::npos) << plan.out;
    const auto pulled = run_refault(pool, {"device", "pull", "b"});
    EXPECT_EQ(pulled.status, 0) << pulled.err;
    EXPECT_NE(pulled.out.find("100 %"), std::string::npos) << pulled.out;
    EXPECT_NE(pulled.out.find("proven: "), std::string::npos) << pulled.out;
    EXPECT_NE(pulled.out.find("safe to pull: b (power indicator off)"), std::string::npos)
        << pulled.out;
    const auto events = run_refault(pool, {"events", "--json"});
    std::vector<std::string> kinds;
    std::uint64_t last = 0;
    std::istringstream lines(events.out);
    for (std::string line; std::getline(lines, line);) {
        const auto event = Json::parse(line);
        EXPECT_EQ(event.value("seq", 0ull), last + 1) << "events are numbered without gaps";
        last = event.value("seq", 0ull);
        kinds.push_back(event.value("kind", ""));
    }
    for (const auto* kind :
         {"pool-created", "session-opened", "device-leaving", "removal-phase", "device-safe"})
        EXPECT_NE(std::find(kinds.begin(), kinds.end(), kind), kinds.end()) << kind;
    writers.finish();
}

TEST(Cli, FollowedEventsArriveAsTheyHappen) {
    Pool pool({"a=ram:64M"});
    std::vector<std::string> kinds;
    pool.post("/v1/devices", {{"spec", "b=ram:64M"}});
    const auto done = pool.control().follow_events(0, [&](const Json& event) {
        kinds.push_back(event.value("kind", ""));
        return kinds.back() != "device-added";
    });
    EXPECT_TRUE(done);
    EXPECT_EQ(kinds, (std::vector<std::string>{"pool-created", "device-added"}));
}

TEST(Cli, BadInputToTheControlApiIsAnAnswerNotACrash) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    for (const auto& [target, body] : std::vector<std::pair<std::string, Json>>{
             {"/v1/pull", {{"devices", "a"}}},
             {"/v1/pull", {{"devices", Json::array({1, 2})}}},
             {"/v1/pull", {{"devices", {"a"}}, {"rate_bytes_per_s", -5}}},
             {"/v1/pull", {{"devices", {"a"}}, {"timeout_ms", "x"}}},
             {"/v1/pull", Json::array()},
             {"/v1/devices", {{"spec", 7}}},
             {"/v1/devices", {{"spec", std::string(100000, 'x')}}},
             {"/v1/files/mkdir", {{"path", "relative"}}},
             {"/v1/files/mkdir", {{"path", std::string("/a\0b", 4)}}},
             {"/v1/files/mkdir", {{"path", "/" + std::string(300, 'n')}}},
             {"/v1/files/resize", {{"path", "/"}, {"size_bytes", 1}}},
             {"/v1/files/rename", {{"from", "/"}, {"to", "/x"}}},
             {"/v1/no/such/thing", Json::object()}}) {
        const auto answer = pool.control().post(target, body);
        EXPECT_FALSE(answer) << target << " " << body.dump().substr(0, 100);
    }
    for (const auto* target :
         {"/v1/locate?device=a&offset=-1&length=4096",
          "/v1/locate?device=a&offset=0&length=99999999999999999999",
          "/v1/locate?device=zz&offset=0&length=1", "/v1/files/data?path=/none", "/v1/files/stat",
          "/v1/removals/none", "/v1/devices/none", "/v1/events/list?after=x"})
        EXPECT_FALSE(pool.control().get(target)) << target;
    EXPECT_EQ(pool.get("/v1/status").value("pool", ""), "test");
}

}  // namespace
}  // namespace refault::tests
