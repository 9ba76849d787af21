// Pools over time: closed and opened again with everything intact; files through the daemon;
// several kinds of devices.
#include <refault/refault.h>
#include <signal.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "base/crc32c.h"
#include "tests/support.h"

namespace refault::tests {
namespace {

std::string random_bytes(std::mt19937_64& random, std::size_t length) {
    std::string bytes(length, '\0');
    for (auto& byte : bytes) byte = static_cast<char>(random());
    return bytes;
}

TEST(PoolLife, DirectoriesOpenAgainWithEverythingIntact) {
    std::mt19937_64 random(test_seed());
    TemporaryDirectory one, two;
    const std::vector<std::string> devices{"one=dir:" + one.path() + ",size=32M",
                                           "two=dir:" + two.path() + ",size=32M"};
    const auto large = random_bytes(random, 5'000'001);
    const auto small = random_bytes(random, 777);
    Json listing;
    {
        Pool pool(devices);
        pool.post("/v1/files/mkdir", {{"path", "/sub"}});
        ASSERT_TRUE(pool.control().put_bytes("/v1/files/data?path=/sub/large&offset=0", large));
        ASSERT_TRUE(pool.control().put_bytes("/v1/files/data?path=/small&offset=0", small));
        pool.post("/v1/files/rename", {{"from", "/small"}, {"to", "/sub/renamed"}});
        listing = pool.get("/v1/files/list?path=/sub");
        ASSERT_TRUE(pool.daemon().stop());
    }
    Pool pool = Pool::open(devices);
    EXPECT_EQ(pool.get("/v1/files/list?path=/sub"), listing);
    auto bytes = pool.control().get_bytes("/v1/files/data?path=/sub/large&offset=0&length=5000001");
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_TRUE(*bytes == large);
    bytes = pool.control().get_bytes("/v1/files/data?path=/sub/renamed&offset=0&length=777");
    ASSERT_TRUE(bytes) << bytes.error().message();
    EXPECT_TRUE(*bytes == small);
    pool.expect_sound();
}

TEST(PoolLife, AMappedFileIsReadBackThroughTheDaemon) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    rf_session* session = nullptr;
    rf_file* file = nullptr;
    rf_mapping* mapping = nullptr;
    ASSERT_EQ(rf_connect(pool.daemon().session_socket().c_str(), &session, nullptr, 0), 0);
    ASSERT_EQ(rf_create(session, "/f", 0600, RF_EXCLUSIVE, &file), 0);
    ASSERT_EQ(rf_resize(file, 6 << 20), 0);
    ASSERT_EQ(rf_map(file, 0, 6 << 20, RF_READ | RF_WRITE | RF_POPULATE, &mapping), 0);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(rf_address(mapping)) % (2 << 20), 0u);
    std::memset(rf_address(mapping), 'm', 6 << 20);
    auto bytes = pool.control().get_bytes("/v1/files/data?path=/f&offset=0&length=6291456");
    ASSERT_TRUE(bytes);
    EXPECT_EQ(*bytes, std::string(6 << 20, 'm'));
    // And the other way round: what a tool writes, the mapping sees.
    ASSERT_TRUE(
        pool.control().put_bytes("/v1/files/data?path=/f&offset=4096", std::string(10, 't')));
    EXPECT_EQ(std::memcmp(static_cast<char*>(rf_address(mapping)) + 4096, "tttttttttt", 10), 0);
    rf_disconnect(session);
}

// The pool stays whole while a program maps, grows, shrinks, unlinks and renames.
TEST(PoolLife, AMappingFollowsItsFilesSize) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    rf_session* session = nullptr;
    rf_file* file = nullptr;
    rf_mapping* mapping = nullptr;
    ASSERT_EQ(rf_connect(pool.daemon().session_socket().c_str(), &session, nullptr, 0), 0);
    ASSERT_EQ(rf_create(session, "/f", 0600, RF_EXCLUSIVE, &file), 0);
    ASSERT_EQ(rf_map(file, 0, 4 << 20, RF_READ | RF_WRITE, &mapping), 0);
    auto* bytes = static_cast<volatile char*>(rf_address(mapping));
    ASSERT_EQ(rf_resize(file, 4 << 20), 0);
    bytes[0] = 1;
    bytes[(4 << 20) - 1] = 2;  // no SIGBUS: the growth has reached the mapping
    ASSERT_EQ(rf_resize(file, 8192), 0);
    EXPECT_EQ(bytes[0], 1);
    ASSERT_EQ(rf_resize(file, 4 << 20), 0);
    EXPECT_EQ(bytes[(4 << 20) - 1], 0) << "cut off bytes come back as zeros";
    ASSERT_EQ(rf_unlink(session, "/f"), 0);
    EXPECT_EQ(bytes[0], 1) << "an unlinked file lives as long as it is mapped";
    ASSERT_EQ(rf_close(file), 0);
    EXPECT_EQ(bytes[0], 1);
    ASSERT_EQ(rf_unmap(mapping), 0);
    EXPECT_TRUE(eventually([&] {
        const auto status = pool.get("/v1/status");
        for (const auto& device : status["devices"])
            if (device.value("data_bytes", 1ull) != 0) return false;
        return true;
    }));
    rf_disconnect(session);
    pool.expect_sound();
}

// A shrink that is refused, because a process that maps the file is stopped, has taken nothing from
// the others: a touch of the part in question would be SIGBUS, and end this test.
TEST(PoolLife, ARefusedShrinkTakesNothingFromAnybody) {
    constexpr std::uint64_t kBytes = 16ull << 20;
    Pool pool({"a=ram:64M", "b=ram:64M"});
    Writers writers(pool, 1, kBytes);
    writers.let_run(10);
    MappedFile file(pool, "/writer0");
    ASSERT_NE(file.bytes(), nullptr);
    writers.stop_one(0);
    std::atomic<bool> must_stop = false;
    std::atomic<std::uint64_t> reads = 0;
    std::thread reader([&] {
        for (; !must_stop; ++reads) (void)file.bytes()[kBytes - 1];
    });
    EXPECT_EQ(rf_resize(file.file(), 1 << 20), -EBUSY);
    const auto seen = reads.load();
    EXPECT_TRUE(eventually([&] { return reads > seen; }));
    must_stop = true;
    reader.join();
    rf_stat stat;
    ASSERT_EQ(rf_file_stat(file.file(), &stat), 0);
    EXPECT_EQ(stat.size_bytes, kBytes);
    // What was handed out again is still mapped in the stopped process: a move must fence it.
    pool.pull({"a"});
    EXPECT_TRUE(eventually([&] {
        const auto status = pool.get("/v1/removals/a");
        return status.value("bytes_done", 0ull) == status.value("bytes_total", 1ull);
    }));
    ::kill(writers.pid(0), SIGCONT);
    writers.let_run(100);
    writers.finish();
    pool.expect_sound();
}

TEST(PoolLife, NoSpaceIsSaidAtResizeAndChangesNothing) {
    Pool pool({"a=ram:32M"});
    rf_session* session = nullptr;
    rf_file* file = nullptr;
    ASSERT_EQ(rf_connect(pool.daemon().session_socket().c_str(), &session, nullptr, 0), 0);
    ASSERT_EQ(rf_create(session, "/f", 0600, RF_EXCLUSIVE, &file), 0);
    EXPECT_EQ(rf_resize(file, 64ull << 20), -ENOSPC);
    char detail[256];
    EXPECT_GT(rf_error_detail(session, detail, sizeof detail), 0u);
    EXPECT_EQ(rf_resize(file, UINT64_MAX), -EFBIG);
    rf_stat stat;
    ASSERT_EQ(rf_file_stat(file, &stat), 0);
    EXPECT_EQ(stat.size_bytes, 0u);
    rf_disconnect(session);
}

TEST(PoolLife, APlainDiskDirectoryHoldsFilesAndIsDrainedWhenNobodyMapsThem) {
    NEEDS_PROOF();
    char pattern[] = "/var/tmp/refault-test-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern), nullptr);
    {
        Pool pool({"ram=ram:64M", "disk=dir:" + std::string(pattern) + ",size=64M"});
        const std::string content(3 << 20, 'd');
        for (int i = 0; i < 8; ++i)
            ASSERT_TRUE(pool.control().put_bytes(
                "/v1/files/data?path=/f" + std::to_string(i) + "&offset=0", content));
        pool.pull({"disk"});
        pool.wait_for_phase("disk", "safe");
        for (int i = 0; i < 8; ++i) {
            auto bytes = pool.control().get_bytes("/v1/files/data?path=/f" + std::to_string(i) +
                                                  "&offset=0&length=3145728");
            ASSERT_TRUE(bytes);
            EXPECT_TRUE(*bytes == content);
        }
        pool.expect_sound();
    }
    std::error_code failure;
    std::filesystem::remove_all(pattern, failure);
}

}  // namespace
}  // namespace refault::tests
