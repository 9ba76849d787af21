// Reads and writes that fail, and copies that somebody has changed behind the daemon's back.
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/failing_directory.h"

namespace refault::tests {
namespace {

TEST(IoError, ReadsGoOnFromTheOtherCopyAndWhatFailedIsNotUsedAnyMore) {
#ifdef REFAULT_SANITIZED
    GTEST_SKIP() << "a sanitizer must be loaded first";
#endif
    FailingDirectory disk;
    Pool pool({"ram=ram:64M", "disk=dir:" + disk.path() + ",size=64M"});
    make_file(pool, "/two", 2);
    make_file(pool, "/one", 1);
    put_bytes(pool, "/two", std::string(kFileBytes, 'v'));
    const bool is_primary_on_disk = place_of(pool, "/two", 0).device == "disk";
    disk.begin_to_fail();
    auto bytes = pool.control().get_bytes("/v1/files/data?path=/two&offset=0&length=1048576");
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_TRUE(*bytes == std::string(kFileBytes, 'v'));
    // The scrub meets what nobody has read.
    pool.post("/v1/scrub", Json::object());
    EXPECT_TRUE(eventually([&] { return !pool.get("/v1/scrub").value("is_running", true); }));
    EXPECT_TRUE(eventually([&] { return place_of(pool, "/two", 0, 0).device == "ram"; }))
        << pool.get("/v1/failures").dump();
    EXPECT_TRUE(eventually([&] { return place_of(pool, "/two", 0, 1).device.empty(); }))
        << is_primary_on_disk;
    bytes = pool.control().get_bytes("/v1/files/data?path=/two&offset=0&length=1048576");
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_TRUE(*bytes == std::string(kFileBytes, 'v'));
    // The pool is up and writable, and says what it has lost.
    put_bytes(pool, "/two", std::string(kFileBytes, 'w'));
    if (place_of(pool, "/one", 0).device == "disk") {
        EXPECT_FALSE(pool.control().get_bytes("/v1/files/data?path=/one&offset=0&length=4096"));
        EXPECT_TRUE(eventually([&] { return pool.get("/v1/lost")["lost"].size() == 1; }));
    }
}

// A page that cannot be read costs that page, and nothing where another copy of it can be read.
class BadPages : public ::testing::Test {
  protected:
    void SetUp() override {
#ifdef REFAULT_SANITIZED
        GTEST_SKIP() << "a sanitizer must be loaded first";
#endif
        std::vector<std::string> devices;
        for (const char* name : {"a", "b"}) {
            const auto path = disk_.path() + "/" + name;
            std::filesystem::create_directory(path);
            devices.push_back(std::string(name) + "=dir:" + path + ",size=64M");
        }
        pool_ = std::make_unique<Pool>(devices);
    }
    void make(unsigned replicas) {
        make_file(*pool_, "/f", replicas);
        put_bytes(*pool_, "/f", std::string(kFileBytes, 'v'));
    }
    void scrub() {
        pool_->post("/v1/scrub", Json::object());
        EXPECT_TRUE(eventually([&] { return !pool_->get("/v1/scrub").value("is_running", true); }));
    }
    Json lost() {
        return pool_->get("/v1/lost")["lost"];
    }

    FailingDirectory disk_;
    std::unique_ptr<Pool> pool_;
};

TEST_F(BadPages, OneCopyLosesThatPageAlone) {
    make(1);
    disk_.make_bad(*pool_, place_of(*pool_, "/f", 9 * kPage));
    scrub();
    EXPECT_TRUE(eventually([&] { return lost().size() == 1; })) << lost().dump();
    const auto all = lost();
    EXPECT_EQ(all[0].value("file_begin", 0ull), 9 * kPage);
    EXPECT_EQ(all[0].value("file_end", 0ull), 10 * kPage);
    EXPECT_EQ(all[0].value("kind", ""), "io-error");
}

TEST_F(BadPages, CopiesThatAreBadAtDifferentPagesLoseNothing) {
    make(2);
    disk_.make_bad(*pool_, place_of(*pool_, "/f", 9 * kPage, 0));
    disk_.make_bad(*pool_, place_of(*pool_, "/f", 99 * kPage, 1));
    const auto bytes = pool_->control().get_bytes("/v1/files/data?path=/f&offset=0&length=1048576");
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_TRUE(*bytes == std::string(kFileBytes, 'v'));
    scrub();
    EXPECT_TRUE(eventually([&] { return pool_->get("/v1/failures")["failures"].size() >= 2; }));
    wait_for_resync(*pool_);
    EXPECT_TRUE(lost().empty()) << lost().dump();
}

TEST(Scrub, MakesCopiesEqualThatSomebodyHasChangedBehindTheDaemonsBack) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    make_file(pool, "/two", 2);
    put_bytes(pool, "/two", std::string(kFileBytes, 'v'));
    const auto copy = place_of(pool, "/two", 0, 1);
    const int fd = ::open(segment_file(pool, copy).c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::pwrite(fd, "damage", 6, static_cast<off_t>(copy.offset % (2ull << 20) + 12345)), 6);
    ::close(fd);
    const auto scrubbed = run_refault(pool, {"pool", "scrub"});
    EXPECT_EQ(scrubbed.status, 0) << scrubbed.err;
    EXPECT_NE(scrubbed.out.find("differed and were made equal"), std::string::npos) << scrubbed.out;
    const auto last = pool.get("/v1/scrub")["last"];
    EXPECT_GT(last.value("differing_bytes", 0ull), 0u) << last.dump();
    pool.post("/v1/scrub", Json::object());
    EXPECT_TRUE(eventually([&] { return !pool.get("/v1/scrub").value("is_running", true); }));
    EXPECT_EQ(pool.get("/v1/scrub")["last"].value("differing_bytes", 1ull), 0u);
}

}  // namespace
}  // namespace refault::tests
