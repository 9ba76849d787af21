// Devices that come back, or are used for something else: what is still valid is kept, nothing
// stale is served, and nothing that is stored later is reached through a mapping of an earlier
// life.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/unique_fd.h"
#include "tests/loss_support.h"
#include "tests/shelf.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

class Returning : public ::testing::Test {
  protected:
    Returning() {
        for (const char* name : {"a", "b", "c"}) {
            shelf_.make(name);
            specs_.push_back(shelf_.spec(name));
        }
    }
    void start() { pool_ = std::make_unique<Pool>(specs_); }
    // A file of one copy of which the device has the first page.
    void make_single_on(const std::string& device) {
        for (int i = 0; i < 50; ++i) {
            single_ = "/one" + std::to_string(i);
            make_file(*pool_, single_, 1);
            if (place_of(*pool_, single_, 0).device == device) return;
        }
        FAIL() << "no file came to lie on " << device;
    }

    Shelf shelf_;
    std::vector<std::string> specs_;
    std::unique_ptr<Pool> pool_;
    std::string single_;
};

TEST_F(Returning, WhatIsStillValidIsKeptAndWhatHasChangedIsCopied) {
    start();
    make_file(*pool_, "/two", 2);
    const auto device = place_of(*pool_, "/two", 0).device;
    make_single_on(device);
    Mapper two(*pool_, "/two", Access::Write);
    Mapper one(*pool_, single_, Access::Write);
    ASSERT_EQ(two.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    ASSERT_EQ(one.store(0, 7, kFileBytes), "ok");
    shelf_.take(device);
    ASSERT_TRUE(is_gone(*pool_, device));
    EXPECT_EQ(one.load(0), lost_at(0));
    ASSERT_EQ(two.say("accept 0 " + std::to_string(kFileBytes)), "ok");
    ASSERT_EQ(two.store(0, 2, 4 * kPage), "ok");
    ASSERT_EQ(two.persist(0, 4 * kPage), "ok");
    wait_for_resync(*pool_);
    shelf_.bring_back(device);
    pool_->post("/v1/devices", {{"spec", device + "=dir:" + shelf_.path(device)}});
    EXPECT_TRUE(pool_->get("/v1/lost")["lost"].empty());
    EXPECT_EQ(one.load(0, kFileBytes), "ok 7") << "the only copy is there again";
    EXPECT_EQ(two.load(0, 4 * kPage), "ok 2");
    EXPECT_EQ(two.load(4 * kPage, kFileBytes - 4 * kPage), "ok 1");
    wait_for_resync(*pool_);
    pool_->expect_sound();
}

TEST_F(Returning, OldCopiesAreBroughtUpToDateBeforeTheyCount) {
    specs_.pop_back();  // two devices: the copy has nowhere else to go meanwhile
    start();
    make_file(*pool_, "/two", 2);
    const auto device = place_of(*pool_, "/two", 0).device;
    const std::string other = device == "a" ? "b" : "a";
    Mapper two(*pool_, "/two", Access::Write);
    ASSERT_EQ(two.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    shelf_.take(device);
    ASSERT_TRUE(is_gone(*pool_, device));
    ASSERT_EQ(two.say("accept 0 " + std::to_string(kFileBytes)), "ok");
    ASSERT_EQ(two.store(8 * kPage, 2, kPage), "ok");
    ASSERT_EQ(two.persist(8 * kPage, kPage), "ok");
    shelf_.bring_back(device);
    pool_->post("/v1/devices", {{"spec", device + "=dir:" + shelf_.path(device)}});
    wait_for_resync(*pool_);
    EXPECT_EQ(place_of(*pool_, "/two", 0, 1).device, device);
    pool_->expect_sound();
    pool_->post("/v1/devices/" + other + "/fail", {{"all", true}});
    EXPECT_EQ(two.say("remap"), "ok");
    EXPECT_EQ(two.load(8 * kPage), "ok 2") << "nothing stale";
    EXPECT_EQ(two.load(0, 8 * kPage), "ok 1");
}

TEST_F(Returning, ADeviceWhoseOldMemoryIsHeldDoesNotJoin) {
    NEEDS_PROOF();
    start();
    make_file(*pool_, "/two", 2);
    const auto place = place_of(*pool_, "/two", 0);
    base::UniqueFd kept(::open(segment_file(*pool_, place).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(kept);
    shelf_.take(place.device);
    ASSERT_TRUE(is_gone(*pool_, place.device));
    shelf_.bring_back(place.device);
    const Json body = {{"spec", place.device + "=dir:" + shelf_.path(place.device)}};
    auto refused = pool_->control().post("/v1/devices", body);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find("still held"), std::string::npos)
        << refused.error().message();
    kept.reset();
    pool_->post("/v1/devices", body);
    wait_for_resync(*pool_);
    pool_->expect_sound();
}

// Whatever has become of a pull before: it does not keep the device.
TEST_F(Returning, ADeviceThatWasLostWhileItWasPulledJoins) {
    NEEDS_PROOF();
    start();
    make_file(*pool_, "/two", 2);
    for (const bool is_cancelled : {true, false}) {
        const auto place = place_of(*pool_, "/two", 0);
        base::UniqueFd kept(::open(segment_file(*pool_, place).c_str(), O_RDONLY));
        ASSERT_TRUE(kept);
        pool_->pull({place.device});
        pool_->wait_for_phase(place.device, "unproven");
        if (is_cancelled) pool_->post("/v1/devices/" + place.device + "/cancel", Json::object());
        shelf_.take(place.device);
        ASSERT_TRUE(is_gone(*pool_, place.device));
        kept.reset();
        if (!is_cancelled) {
            EXPECT_TRUE(eventually([&] {
                return pool_->get("/v1/removals/" + place.device).value("has_ended", false);
            }));
        }
        shelf_.bring_back(place.device);
        pool_->post("/v1/devices", {{"spec", place.device + "=dir:" + shelf_.path(place.device)}});
        wait_for_resync(*pool_);
    }
    pool_->expect_sound();
}

TEST_F(Returning, AReplacedDeviceJoinsEmptyAndOnlyWhenToldTo) {
    start();
    make_file(*pool_, "/two", 2);
    const auto device = place_of(*pool_, "/two", 0).device;
    shelf_.take(device);
    ASSERT_TRUE(is_gone(*pool_, device));
    // Another pool has it meanwhile.
    const auto elsewhere = shelf_.make("other");
    {
        Pool other({shelf_.spec("other")});
        make_file(other, "/theirs", 1);
        other.post("/v1/pool/close", Json::object());
    }
    const Json body = {{"spec", device + "=dir:" + elsewhere}};
    auto refused = pool_->control().post("/v1/devices", body);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find("--yes"), std::string::npos)
        << refused.error().message();
    Json told = body;
    told["yes"] = true;
    const auto joined = pool_->post("/v1/devices", told);
    EXPECT_EQ(joined.value("data_bytes", 1ull), 0u);
    wait_for_resync(*pool_);
    pool_->expect_sound();
}

TEST_F(Returning, APoolOpensWithoutADeviceWhenToldToAndTakesItBack) {
    start();
    make_file(*pool_, "/two", 2);
    const auto device = place_of(*pool_, "/two", 0).device;
    make_single_on(device);
    put_bytes(*pool_, "/two", std::string(kFileBytes, 'x'));
    put_bytes(*pool_, single_, std::string(kFileBytes, 'y'));
    pool_->post("/v1/pool/close", Json::object());
    std::vector<std::string> rest;
    for (const char* name : {"a", "b", "c"})
        if (name != device) rest.push_back("dir:" + shelf_.path(name));
    auto refused = pool_->control().post("/v1/pool/open", Json{{"devices", rest}});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message().find("--degraded"), std::string::npos);
    pool_->post("/v1/pool/open", Json{{"devices", rest}, {"degraded", true}});
    {
        Mapper two(*pool_, "/two", Access::Read);
        EXPECT_EQ(two.load(0, kFileBytes), "ok 120");
        Mapper one(*pool_, single_, Access::Read);
        EXPECT_EQ(one.load(0), lost_at(0));
    }
    pool_->expect_sound();
    pool_->post("/v1/devices", {{"spec", device + "=dir:" + shelf_.path(device)}});
    Mapper one(*pool_, single_, Access::Read);
    EXPECT_EQ(one.load(0, kFileBytes), "ok 121");
    wait_for_resync(*pool_);
    pool_->expect_sound();
}

// A hand that kept a descriptor and a mapping of a segment through everything that follows.
struct Keeper {
    explicit Keeper(const std::string& path)
        : fd(::open(path.c_str(), O_RDWR | O_CLOEXEC)),
          bytes(::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0)) {}
    ~Keeper() { ::munmap(bytes, kPage); }
    // What it can still read, either way; empty: nothing.
    std::string reaches() const {
        char found[64] = {};
        if (::pread(fd.get(), found, sizeof found, 0) > 0) return std::string(found, sizeof found);
        base::UniqueFd sink(::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
        if (::write(sink.get(), bytes, sizeof found) <= 0) return {};
        (void)!::pread(sink.get(), found, sizeof found, 0);
        return std::string(found, sizeof found);
    }
    base::UniqueFd fd;
    void* bytes;
};

TEST_F(Returning, WhatIsStoredLaterIsNotReachedThroughAnEarlierLife) {
    start();
    make_file(*pool_, "/old", 1);
    put_bytes(*pool_, "/old", std::string(kFileBytes, 'o'));
    const auto place = place_of(*pool_, "/old", 0);
    const Keeper keeper(segment_file(*pool_, place));
    ASSERT_EQ(keeper.reaches()[0], 'o');
    pool_->pull({place.device});
    // It holds on, so the light stays amber; its memory is gone all the same.
    EXPECT_TRUE(eventually([&] { return keeper.reaches().empty(); }));
    pool_->post("/v1/pool/close", Json::object());
    pool_.reset();
    // Another pool is made of the directory, and a file with a secret put on it.
    for (const auto& entry : std::filesystem::directory_iterator(shelf_.path(place.device)))
        std::filesystem::remove(entry.path());
    Pool other({shelf_.spec(place.device)});
    make_file(other, "/secret", 1);
    put_bytes(other, "/secret", std::string(kFileBytes, 's'));
    EXPECT_EQ(keeper.reaches(), "");
    other.expect_sound();
}

TEST_F(Returning, ADetachedDeviceTakesItsFilesAlongAndIsImportedElsewhere) {
    NEEDS_PROOF();
    start();
    make_single_on("b");
    put_bytes(*pool_, single_, std::string(kFileBytes, 'd'));
    make_file(*pool_, "/two", 2);
    put_bytes(*pool_, "/two", std::string(kFileBytes, 't'));
    // What lies on b in part only keeps it from leaving.
    const auto plan = pool_->post("/v1/detach", {{"devices", {"b"}}, {"dry_run", true}});
    EXPECT_TRUE(plan.value("is_possible", false)) << plan.dump();
    Mapper user(*pool_, single_, Access::Write);
    ASSERT_EQ(user.store(0, 'e', kPage), "ok");
    const auto detached =
        run_refault(*pool_, {"device", "detach", "b", "--pool", "moved", "--kill-after", "5s"});
    EXPECT_EQ(detached.status, 0) << detached.out << detached.err;
    EXPECT_NE(detached.out.find("safe to pull, with its data"), std::string::npos);
    EXPECT_EQ(pool_->power("b"), "off");
    EXPECT_FALSE(pool_->control().get("/v1/files/stat?path=" + single_));
    pool_->expect_sound();
    // The other host.
    Pool elsewhere = Pool::open({"dir:" + shelf_.path("b")});
    EXPECT_EQ(elsewhere.get("/v1/status").value("pool", ""), "moved");
    auto bytes =
        elsewhere.control().get_bytes("/v1/files/data?path=" + single_ + "&offset=0&length=8192");
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_TRUE(*bytes == std::string(kPage, 'e') + std::string(kPage, 'd'));
    elsewhere.expect_sound();
}

TEST_F(Returning, WhoDoesNotLetGoOfADetachedDeviceIsKilledWhenThatWasSaid) {
    NEEDS_PROOF();
    start();
    make_single_on("c");
    Mapper deaf(*pool_, single_, Access::Write);
    ASSERT_EQ(deaf.say("deaf"), "ok");
    const auto pid = deaf.pid();
    pool_->post("/v1/detach", {{"devices", {"c"}}, {"kill_after_ms", 200}});
    EXPECT_EQ(deaf.answer(), "") << "it has ended";
    const int status = deaf.wait_for_end();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    EXPECT_TRUE(eventually([&] { return !pool_->get("/v1/detach").value("is_running", true); }));
    const auto done = pool_->get("/v1/detach");
    EXPECT_EQ(done.value("phase", ""), "detached") << done.dump();
    EXPECT_EQ(done["asked_pids"], Json::array({pid}));
    EXPECT_EQ(done["killed_pids"], Json::array({pid}));
}

TEST_F(Returning, FilesThatLieOnSeveralDevicesAreNotDetachedInPart) {
    start();
    pool_->post("/v1/files/create", {{"path", "/big"}, {"mode", 0666}});
    pool_->post("/v1/files/resize", {{"path", "/big"}, {"size_bytes", 100u << 20}});
    const auto plan = pool_->post("/v1/detach", {{"devices", {"a"}}, {"dry_run", true}});
    EXPECT_FALSE(plan.value("is_possible", true)) << plan.dump();
    auto refused = pool_->control().post("/v1/detach", Json{{"devices", {"a"}}});
    EXPECT_FALSE(refused);
    EXPECT_EQ(pool_->get("/v1/devices/a").value("state", ""), "in-service");
}

TEST_F(Returning, ADetachThatIsNotLetGoOfPutsTheDeviceBackInService) {
    start();
    make_single_on("c");
    const int held = ::open((shelf_.path("c") + "/lock").c_str(), O_RDONLY | O_CLOEXEC);
    Mapper user(*pool_, single_, Access::Write);
    // A program that does not care about SIGTERM is not killed unless that was said.
    ::kill(user.pid(), SIGSTOP);
    pool_->post("/v1/detach", {{"devices", {"c"}}, {"timeout_ms", 300}});
    EXPECT_TRUE(eventually([&] { return !pool_->get("/v1/detach").value("is_running", true); }));
    EXPECT_EQ(pool_->get("/v1/detach").value("phase", ""), "failed");
    EXPECT_EQ(pool_->get("/v1/devices/c").value("state", ""), "in-service");
    user.kill();
    ::close(held);
    pool_->expect_sound();
}

}  // namespace
}  // namespace refault::tests
