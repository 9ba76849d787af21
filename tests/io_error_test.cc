// Reads and writes that fail, and copies that somebody has changed behind the daemon's back.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/loss_support.h"

namespace refault::tests {
namespace {

// A directory whose files give EIO to daemons started while this lives, once it begins to fail.
class FailingDirectory {
  public:
    FailingDirectory() {
        std::filesystem::create_directory(path());
        ::setenv("REFAULT_FAIL_DIRECTORY", path().c_str(), 1);
        ::setenv("REFAULT_FAIL_SWITCH", trigger().c_str(), 1);
        ::setenv("LD_PRELOAD", (cli::program_directory() + "/librefault-io-errors.so").c_str(), 1);
    }
    ~FailingDirectory() {
        for (const char* name : {"REFAULT_FAIL_DIRECTORY", "REFAULT_FAIL_SWITCH", "LD_PRELOAD"})
            ::unsetenv(name);
    }
    std::string path() const { return directory_.path() + "/disk"; }
    void begin_to_fail() { std::ofstream(trigger()).close(); }

  private:
    std::string trigger() const { return directory_.path() + "/fail"; }
    TemporaryDirectory directory_;
};

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

TEST(Scrub, MakesCopiesEqualThatSomebodyHasChangedBehindTheDaemonsBack) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    make_file(pool, "/two", 2);
    put_bytes(pool, "/two", std::string(kFileBytes, 'v'));
    const auto copy = place_of(pool, "/two", 0, 1);
    const auto directory = pool.get("/v1/devices/" + copy.device).value("directory", "");
    char name[32];
    std::snprintf(name, sizeof name, "/seg-%05llu", copy.offset / (2ull << 20));
    const int fd = ::open((directory + name).c_str(), O_WRONLY | O_CLOEXEC);
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
