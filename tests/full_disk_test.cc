// A device in a directory of a filesystem that is smaller than the device says: what finds no room
// is refused with a clear word, what was acknowledged stays, nothing ends, and all works again when
// there is room.
#include <sys/mount.h>
#include <unistd.h>

#include "tests/loss_support.h"
#include "tests/mapper_process.h"

namespace refault::tests {
namespace {

class FullDisk : public ::testing::Test {
  protected:
    static constexpr const char* kSmall = "size=12M";
    static constexpr const char* kRoomy = "size=96M";

    void SetUp() override {
        if (::geteuid() != 0 || ::mount("tmpfs", path().c_str(), "tmpfs", 0, kSmall) != 0)
            GTEST_SKIP() << "needs the right to mount a small tmpfs";
        is_mounted_ = true;
        ASSERT_EQ(::chmod(path().c_str(), 0700), 0);
        pool_ =
            std::make_unique<Pool>(std::vector<std::string>{"disk=dir:" + path() + ",size=64M"});
        make_file(*pool_, "/kept", 1);
        put_bytes(*pool_, "/kept", std::string(kFileBytes, 'k'));
        create("/big");
    }
    void TearDown() override {
        pool_.reset();
        if (is_mounted_) (void)::umount2(path().c_str(), MNT_DETACH);
    }

    const std::string& path() const { return directory_.path(); }
    void create(const std::string& name) {
        pool_->post("/v1/files/create", {{"path", name}, {"mode", 0600}});
    }
    base::Result<Json> write(const std::string& name, std::uint64_t offset, std::uint64_t length) {
        return pool_->control().put_bytes(
            "/v1/files/data?path=" + name + "&offset=" + std::to_string(offset),
            std::string(length, 'b'));
    }
    void fill() {
        pool_->post("/v1/files/resize", {{"path", "/big"}, {"size_bytes", 24u << 20}});
        for (std::uint64_t at = 0; at < 24u << 20; at += kFileBytes) {
            const auto written = write("/big", at, kFileBytes);
            if (written) continue;
            EXPECT_NE(written.error().message().find("No space left"), std::string::npos)
                << written.error().message();
            // The rest of it, too.
            while (write("/big", at, 4096) && at < 24u << 20) at += 4096;
            return;
        }
        ADD_FAILURE() << "the disk does not get full";
    }
    void make_room() {
        ASSERT_EQ(::mount("tmpfs", path().c_str(), "tmpfs", MS_REMOUNT, kRoomy), 0);
    }
    void expect_kept() {
        const auto bytes = pool_->control().get_bytes("/v1/files/data?path=/kept&offset=0&length=" +
                                                      std::to_string(kFileBytes));
        ASSERT_TRUE(bytes) << bytes.error().message();
        EXPECT_TRUE(*bytes == std::string(kFileBytes, 'k'));
    }
    bool start_again() {
        pool_->daemon().kill();
        return pool_->daemon().start_again({"--open", "dir:" + path()}).ok();
    }

    TemporaryDirectory directory_;
    bool is_mounted_ = false;
    std::unique_ptr<Pool> pool_;
};

TEST_F(FullDisk, WritesAreRefusedAndNothingElseHappens) {
    fill();
    expect_kept();
    EXPECT_EQ(pool_->get("/v1/devices/disk").value("state", ""), "in-service");
    EXPECT_TRUE(pool_->get("/v1/lost")["lost"].empty());
    pool_->expect_sound();
    make_room();
    const auto written = write("/big", 20u << 20, kFileBytes);
    EXPECT_TRUE(written) << written.error().message();
    expect_kept();
    pool_->expect_sound();
}

// Names are made until the metadata finds no room, either: what was acknowledged is there
// afterwards.
TEST_F(FullDisk, WhatTheMetadataAcknowledgedIsThereAlsoAfterADeathOfTheDaemon) {
    fill();
    const std::string long_name(200, 'n');
    std::size_t acknowledged = 0;
    for (bool is_full = false; !is_full && acknowledged < 60'000;) {
        const auto made = pool_->control().post(
            "/v1/files/create",
            {{"path", "/" + long_name + std::to_string(acknowledged)}, {"mode", 0600}});
        is_full = !made;
        if (made) ++acknowledged;
    }
    expect_kept();
    // An open writes a label and a checkpoint, so it is refused while there is no room for them.
    if (!start_again()) {
        make_room();
        ASSERT_TRUE(start_again());
    }
    expect_kept();
    const auto listed = pool_->get("/v1/files/list?path=/")["entries"].size();
    EXPECT_GE(listed, acknowledged + 2);
    EXPECT_LE(listed, acknowledged + 3) << "the one that was refused may be there, no other";
    make_room();
    // The first may find the log as it was left; from then on there is room.
    (void)pool_->control().post("/v1/files/create", {{"path", "/a"}, {"mode", 0600}});
    create("/b");
    pool_->expect_sound();
}

// The kernel says SIGBUS where a mapping finds no room: the program is told, and not for ever asked
// to try again.
TEST_F(FullDisk, AStoreIntoAMappingIsToldAndGoesWhenThereIsRoom) {
    pool_->post("/v1/files/resize", {{"path", "/big"}, {"size_bytes", 24u << 20}});
    Mapper mapper(*pool_, "/big", Mapper::Access::Write);
    std::uint64_t at = 0;
    std::string answer;
    for (; at < 24u << 20; at += 65536) {
        answer = mapper.store(at, 7, 65536);
        if (answer != "ok") break;
    }
    EXPECT_TRUE(answer.starts_with("sigbus ")) << answer;
    EXPECT_EQ(mapper.load(0, at), "ok 7");
    expect_kept();
    make_room();
    EXPECT_EQ(mapper.store(at, 8, 65536), "ok");
    EXPECT_EQ(mapper.load(at, 65536), "ok 8");
    EXPECT_EQ(mapper.load(0, at), "ok 7");
}

}  // namespace
}  // namespace refault::tests
