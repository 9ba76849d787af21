// The daemon's program is replaced while programs use its memory and its mount: they go on, see no
// error, and find everything as it was. And what stays after a daemon that died: its mount.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "tests/daemon_death.h"
#include "tests/loss_support.h"
#include "tests/mapper_process.h"
#include "tests/mount_support.h"
#include "tests/shelf.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;
using base::UniqueFd;

std::uint64_t upgrades(Pool& pool) {
    const auto status = pool.control().get("/v1/status");
    return status && status->contains("upgrades") ? (*status)["upgrades"]["count"].get<unsigned>()
                                                  : 0;
}

void upgrade(Pool& pool, const Json& body = Json::object()) {
    const auto before = pool.post("/v1/upgrade", body).value("upgrades", std::uint64_t{0});
    ASSERT_TRUE(eventually([&] { return upgrades(pool) == before + 1; }));
}

class Upgrade : public ::testing::Test {
  protected:
    Pool pool_{{"a=ram:64M", "b=ram:64M", "c=ram:64M"}};
};

// Memory that a crash would have taken, and records that are checked all the time.
TEST_F(Upgrade, WritersGoOnAndRamStays) {
    Writers writers(pool_, 3, 4ull << 20);
    const auto pid = pool_.daemon().pid();
    for (std::uint64_t round = 1; round <= 5; ++round) {
        writers.let_run(50);
        upgrade(pool_);
        EXPECT_EQ(upgrades(pool_), round);
        EXPECT_EQ(pool_.get("/v1/status").value("pid", 0), pid);
        EXPECT_TRUE(are_clients_back(pool_));
        writers.let_run(50);
    }
    EXPECT_EQ(pool_.get("/v1/devices")["devices"].size(), 3u);
    // The new daemon knows where everything is.
    if (::geteuid() == 0) {
        pool_.pull({"b"});
        EXPECT_TRUE(eventually([&] {
            const auto phase = pool_.get("/v1/removals/b").value("phase", "");
            return phase == "unproven" || phase == "safe";
        }));
    }
    writers.finish();
    pool_.expect_sound();
}

// Calls of the library again and again, on a thread of their own, until one fails.
class Caller {
  public:
    explicit Caller(const std::function<std::string(int)>& call)
        : thread_([this, call] {
              while (goes_on_ && failure_.empty()) {
                  failure_ = call(rounds_);
                  ++rounds_;
              }
              has_failed_ = !failure_.empty();
          }) {}
    ~Caller() { (void)finish(); }
    // True also when one has failed.
    bool has_done(int rounds) const { return rounds_ >= rounds || has_failed_; }
    int rounds() const { return rounds_; }
    std::string finish() {
        goes_on_ = false;
        if (thread_.joinable()) thread_.join();
        return failure_;
    }

  private:
    std::atomic<bool> goes_on_{true};
    std::atomic<int> rounds_{0};
    std::atomic<bool> has_failed_{false};
    std::string failure_;
    std::thread thread_;
};

std::string make_and_unlink(rf_session* session, const std::string& path) {
    rf_file* file = nullptr;
    if (const int failed = rf_create(session, path.c_str(), 0644, RF_EXCLUSIVE, &file); failed != 0)
        return "create " + std::to_string(failed);
    const int resized = rf_resize(file, 3 * kPage);
    const int closed = rf_close(file);
    const int unlinked = rf_unlink(session, path.c_str());
    if (resized == 0 && closed == 0 && unlinked == 0) return "";
    return "resize, close, unlink: " + std::to_string(resized) + ", " + std::to_string(closed) +
           ", " + std::to_string(unlinked);
}

// Those among them that cannot be made twice would fail if their answer were lost.
TEST_F(Upgrade, CallsOfTheLibraryNeverFail) {
    const auto socket = pool_.daemon().session_socket();
    rf_session* session = nullptr;
    ASSERT_EQ(rf_connect(socket.c_str(), &session, nullptr, 0), 0);
    Caller maker(
        [&](int round) { return make_and_unlink(session, "/made-" + std::to_string(round)); });
    Caller connecter([&](int) {
        rf_session* fresh = nullptr;
        const int failed = rf_connect(socket.c_str(), &fresh, nullptr, 0);
        if (fresh != nullptr) rf_disconnect(fresh);
        return failed == 0 ? std::string() : "connect " + std::to_string(failed);
    });
    for (int round = 0; round < 10; ++round) {
        const auto made = maker.rounds(), connected = connecter.rounds();
        EXPECT_TRUE(eventually(
            [&] { return maker.has_done(made + 5) && connecter.has_done(connected + 2); }));
        upgrade(pool_);
    }
    EXPECT_EQ(maker.finish(), "");
    EXPECT_EQ(connecter.finish(), "");
    rf_disconnect(session);
    pool_.expect_sound();
}

// A program lets go while the daemon is away, and its pagers are about to take up the next one.
TEST_F(Upgrade, ADisconnectMayMeetTheReturn) {
    const auto socket = pool_.daemon().session_socket();
    for (int round = 0; round < 5; ++round) {
        std::array<int, 2> connected{}, away{};
        ASSERT_TRUE(::pipe(connected.data()) == 0 && ::pipe(away.data()) == 0);
        Child child([&] {
            std::vector<rf_session*> sessions(32);
            for (auto& session : sessions)
                if (rf_connect(socket.c_str(), &session, nullptr, 0) != 0) return 1;
            char byte = 0;
            if (::write(connected[1], "c", 1) != 1 || ::read(away[0], &byte, 1) != 1) return 2;
            for (auto* session : sessions) rf_disconnect(session);
            return 0;
        });
        char byte = 0;
        ASSERT_EQ(::read(connected[0], &byte, 1), 1);
        const auto before = upgrades(pool_);
        pool_.post("/v1/upgrade", Json::object());
        EXPECT_TRUE(eventually([&] { return !pool_.control().get("/v1/status"); }));
        ASSERT_EQ(::write(away[1], "a", 1), 1);
        EXPECT_EQ(child.wait(), 0) << "round " << round;
        EXPECT_TRUE(eventually([&] { return upgrades(pool_) == before + 1; }));
        for (const int fd : {connected[0], connected[1], away[0], away[1]}) ::close(fd);
    }
}

TEST_F(Upgrade, WhatIsOpenOnTheMountStaysOpen) {
    NEEDS_FUSE();
    Mounted mount(pool_);
    const auto connection = mount.connection();
    const UniqueFd open(::open((mount / "f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    const UniqueFd nameless(::open((mount / "g").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    ASSERT_EQ(::write(open.get(), "one", 3), 3);
    ASSERT_EQ(::write(nameless.get(), "two", 3), 3);
    ASSERT_EQ(::unlink((mount / "g").c_str()), 0);
    ASSERT_EQ(::flock(open.get(), LOCK_EX), 0);
    // Known to the kernel, and not open.
    ASSERT_EQ(::mkdir((mount / "gone").c_str(), 0755), 0);
    const UniqueFd known(::open((mount / "gone").c_str(), O_PATH | O_CLOEXEC));
    ASSERT_EQ(::rmdir((mount / "gone").c_str()), 0);
    { std::ofstream(mount / "h") << std::string(2 * kPage, 'h'); }
    SharedFiler shared(mount / "h");
    ASSERT_EQ(shared.store(0, 7), "ok");
    for (int round = 0; round < 2; ++round) {
        upgrade(pool_);
        EXPECT_EQ(mount.connection(), connection);
        char bytes[4] = {};
        EXPECT_EQ(::pread(open.get(), bytes, 3, 0), 3);
        EXPECT_STREQ(bytes, "one");
        EXPECT_EQ(::pread(nameless.get(), bytes, 3, 0), 3);
        EXPECT_STREQ(bytes, "two");
        struct stat status {};
        EXPECT_EQ(::fstat(known.get(), &status), 0) << std::strerror(errno);
        EXPECT_EQ(shared.load(0), "ok 7");
        EXPECT_EQ(shared.store(kPage, 8 + static_cast<unsigned>(round)), "ok");
        const UniqueFd other(::open((mount / "f").c_str(), O_RDWR | O_CLOEXEC));
        EXPECT_EQ(::flock(other.get(), LOCK_EX | LOCK_NB), -1) << "a lock was lost";
    }
    EXPECT_EQ(shared.say("fsync"), "ok");
    EXPECT_EQ(pool_.get("/v1/mounts")["mounts"][0].value("open_files", 0), 3);
    shared.kill();
    struct stat status {};
    ASSERT_EQ(::fstat(nameless.get(), &status), 0);
    EXPECT_EQ(status.st_nlink, 0u);
    pool_.expect_sound();
}

// A listing that is half read goes on where it was; nothing is missed, and nothing seen twice.
TEST_F(Upgrade, AListingThatIsHalfReadGoesOn) {
    NEEDS_FUSE();
    Mounted mount(pool_);
    constexpr int kNames = 3000;
    for (int i = 0; i < kNames; ++i)
        ASSERT_EQ(::mkdir((mount / ("d" + std::to_string(i))).c_str(), 0755), 0);
    DIR* listing = ::opendir(mount.path().c_str());
    ASSERT_NE(listing, nullptr);
    std::multiset<std::string> seen;
    for (const dirent* one; (one = ::readdir(listing)) != nullptr;) {
        seen.insert(one->d_name);
        if (seen.size() % 1000 == 500) upgrade(pool_);
    }
    ::closedir(listing);
    EXPECT_EQ(seen.size(), kNames + 2u);
    for (int i = 0; i < kNames; ++i) ASSERT_EQ(seen.count("d" + std::to_string(i)), 1u) << i;
}

// Programs that write all the time: nothing fails, is lost, or is there twice.
TEST_F(Upgrade, AppendersOnTheMountMissNothing) {
    NEEDS_FUSE();
    Mounted mount(pool_);
    std::vector<std::unique_ptr<Child>> children;
    constexpr int kLines = 2000;
    for (const char* name : {"x", "y"})
        children.push_back(std::make_unique<Child>([path = mount / name] {
            const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
            for (int i = 0; i < kLines; ++i) {
                char line[8];
                std::snprintf(line, sizeof line, "%06d\n", i);
                if (::write(fd, line, 7) != 7) return 1;
                if (i % 50 == 0 && ::fsync(fd) != 0) return 2;
            }
            return ::close(fd) == 0 ? 0 : 3;
        }));
    for (int round = 0; round < 6; ++round) upgrade(pool_);
    for (auto& child : children) EXPECT_EQ(child->wait(), 0);
    for (const char* name : {"x", "y"}) {
        std::ifstream lines(mount / name);
        std::string line;
        int count = 0;
        while (std::getline(lines, line)) EXPECT_EQ(std::stoi(line), count++);
        EXPECT_EQ(count, kLines);
    }
    pool_.expect_sound();
}

// A client that has not come back maps its file still: whoever opens the file on the mount
// meanwhile must not get it through the kernel's cache.
TEST_F(Upgrade, AClientThatIsStoppedKeepsItsFileOutOfTheCache) {
    NEEDS_FUSE();
    NEEDS_PROOF();
    make_file(pool_, "/one", 1);
    Mapper client(pool_, "/one", Access::Write);
    ASSERT_EQ(client.store(0, 1), "ok");
    Mounted mount(pool_);
    client.stop();
    upgrade(pool_);
    const UniqueFd file(::open((mount / "one").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(file);
    char byte = 0;
    ASSERT_EQ(::pread(file.get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 1);
    client.go_on();
    ASSERT_EQ(client.store(0, 2), "ok");
    ASSERT_EQ(::pread(file.get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 2) << "the cache shows what was";
    EXPECT_TRUE(are_clients_back(pool_));
    ASSERT_EQ(client.store(0, 3), "ok");
    ASSERT_EQ(::pread(file.get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 3);
}

TEST_F(Upgrade, WhatCannotTakeOverIsRefused) {
    TemporaryDirectory scratch;
    const auto program = [&](const std::string& name, const std::string& text) {
        const auto path = scratch.path() + "/" + name;
        { std::ofstream(path) << "#!/bin/sh\n" << text << "\n"; }
        EXPECT_EQ(::chmod(path.c_str(), 0755), 0);
        return path;
    };
    const std::string other = R"(echo '{"version": "9", "hand_over_format": 99}')";
    for (const auto& path :
         {std::string("/bin/true"), std::string("/none"), std::string("relative"),
          program("silent", "exec sleep 1000 >/dev/null"), program("other", other)}) {
        const auto refused = pool_.control().post("/v1/upgrade", {{"program", path}});
        ASSERT_FALSE(refused) << path;
        EXPECT_NE(refused.error().message().find(path), std::string::npos);
    }
    // Whoever may change it could have the daemon run anything.
    const auto fit = program("fit", R"(echo '{"version": "9", "hand_over_format": 1}')");
    EXPECT_EQ(pool_.post("/v1/upgrade", {{"program", fit}, {"dry_run", true}})["version"], "9");
    // A link may lead elsewhere a moment later: what it led to is what is run.
    const auto link = scratch.path() + "/link";
    EXPECT_EQ(::symlink(fit.c_str(), link.c_str()), 0);
    EXPECT_EQ(pool_.post("/v1/upgrade", {{"program", link}, {"dry_run", true}})["program"],
              std::filesystem::canonical(fit).string());
    const auto others_may_change = [&](const std::string& what, mode_t mode) {
        EXPECT_EQ(::chmod(what.c_str(), mode), 0);
        const auto refused =
            pool_.control().post("/v1/upgrade", {{"program", fit}, {"dry_run", true}});
        EXPECT_FALSE(refused) << what;
        EXPECT_EQ(::chmod(what.c_str(), 0755), 0);
    };
    others_may_change(fit, 0775);
    others_may_change(scratch.path(), 0777);
    const auto plan = pool_.post("/v1/upgrade", {{"dry_run", true}});
    EXPECT_FALSE(plan.contains("accepted"));
    EXPECT_EQ(upgrades(pool_), 0u);
    const auto shown = run_refault(pool_, {"daemon", "upgrade", "--dry-run"});
    EXPECT_EQ(shown.status, 0) << shown.err;
    const auto done = run_refault(pool_, {"daemon", "upgrade"});
    EXPECT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(upgrades(pool_), 1u);
}

TEST_F(Upgrade, NotWhileADeviceIsBeingPulled) {
    NEEDS_PROOF();
    Writers writers(pool_, 3, 8ull << 20);
    const auto pulled = [&] { return pool_.get("/v1/removals")["removals"].size() > 0; };
    pool_.pull({"a"}, {{"rate_bytes_per_s", 1u << 20}});
    EXPECT_TRUE(eventually(pulled));
    const auto refused = pool_.control().post("/v1/upgrade", Json::object());
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find("device a is being pulled"), std::string::npos)
        << refused.error().message();
    pool_.post("/v1/devices/a/cancel", Json::object());
    upgrade(pool_);
    writers.let_run(50);
    writers.finish();
}

// The devices of a daemon that can die.
class Crash : public ::testing::Test {
  protected:
    void SetUp() override {
        std::vector<std::string> devices;
        for (const char* name : {"a", "b"}) {
            open_.insert(open_.end(), {"--open", "dir:" + shelf_.make(name)});
            devices.push_back(shelf_.spec(name));
        }
        pool_ = std::make_unique<Pool>(devices);
    }
    void start_again() {
        const auto started = pool_->daemon().start_again(open_);
        ASSERT_TRUE(started) << started.error().message();
    }
    Shelf shelf_;
    std::vector<std::string> open_;
    std::unique_ptr<Pool> pool_;
};

TEST_F(Crash, TheMountComesBackByItself) {
    NEEDS_FUSE();
    Mounted mount(*pool_, "patience_ms=1234");
    { std::ofstream(mount / "f") << "before"; }
    const UniqueFd open(::open((mount / "f").c_str(), O_RDONLY | O_CLOEXEC));
    for (int round = 0; round < 2; ++round) {
        pool_->daemon().kill();
        struct stat status {};
        EXPECT_EQ(::stat((mount / "other").c_str(), &status), -1);
        EXPECT_EQ(errno, ENOTCONN);
        start_again();
        std::string text;
        std::ifstream(mount / "f") >> text;
        EXPECT_EQ(text, "before");
    }
    char byte = 0;
    EXPECT_EQ(::pread(open.get(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ENOTCONN) << "what was open says so";
    // What was unmounted is not mounted again.
    const auto unmounted = run_refault(*pool_, {"umount", mount.path()});
    EXPECT_EQ(unmounted.status, 0) << unmounted.err;
    pool_->daemon().kill();
    start_again();
    EXPECT_FALSE(mount.is_mounted());
}

// The program that was found fit does not start. Nothing was closed, so nothing is lost.
TEST_F(Crash, ASuccessorThatFailsIsADaemonThatDied) {
    NEEDS_PROOF();
    NEEDS_FUSE();
    make_file(*pool_, "/one", 1);
    Mapper client(*pool_, "/one", Access::Write);
    ASSERT_EQ(client.store(0, 1), "ok");
    Mounted mount(*pool_);
    const auto program = shelf_.path("refaultd");
    {
        std::ofstream(program) << "#!/bin/sh\n"
                               << "[ \"$1\" = --hand-over-format ] || exit 1\n"
                               << R"(echo '{"version": "9", "hand_over_format": 1}')"
                               << "\n";
    }
    ASSERT_EQ(::chmod(program.c_str(), 0755), 0);
    pool_->post("/v1/upgrade", {{"program", program}});
    EXPECT_TRUE(eventually([&] { return !pool_->control().get("/v1/status"); }));
    ASSERT_EQ(client.store(0, 2), "ok");
    pool_->daemon().kill();
    start_again();
    EXPECT_TRUE(are_clients_back(*pool_));
    EXPECT_EQ(client.load(0), "ok 2");
    EXPECT_TRUE(eventually([&] { return ::access((mount / "one").c_str(), R_OK) == 0; }));
    pool_->expect_sound();
}

}  // namespace
}  // namespace refault::tests
