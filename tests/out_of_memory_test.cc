// The daemon may take no more memory: a request that needs some is refused, or the daemon ends as
// if it had been killed. Either way what was acknowledged is there, and programs go on.
#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "tests/loss_support.h"
#include "tests/mapper_process.h"
#include "tests/shelf.h"

namespace refault::tests {
namespace {

// Private memory that may be written. RLIMIT_AS would count what the heap's arenas have reserved.
std::uint64_t data_of(pid_t pid) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmData:")) return std::stoull(line.substr(7)) * 1024;
    return 0;
}

void limit_memory(pid_t pid, std::uint64_t more_bytes) {
    const rlimit limit{data_of(pid) + more_bytes, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(pid, RLIMIT_DATA, &limit, nullptr), 0);
}

TEST(OutOfMemory, IsARefusalOrADeathAndNeverWrongData) {
    NEEDS_PROOF();
#ifdef REFAULT_SANITIZED
    GTEST_SKIP() << "a sanitizer needs more addresses than any limit leaves";
#endif
    ::signal(SIGPIPE, SIG_IGN);  // the daemon may end in the middle of a request
    Shelf shelf;
    std::vector<std::string> devices, open;
    for (const char* name : {"a", "b"}) {
        open.insert(open.end(), {"--open", "dir:" + shelf.make(name)});
        devices.push_back(shelf.spec(name));
    }
    Pool pool(devices);
    make_file(pool, "/two", 2);
    Mapper two(pool, "/two", Mapper::Access::Write);
    ASSERT_EQ(two.store(0, 1, kFileBytes), "ok");
    ASSERT_EQ(two.persist(0, kFileBytes), "ok");
    pool.post("/v1/files/create", {{"path", "/big"}, {"mode", 0600}});
    int refused = 0, deaths = 0;
    std::size_t made = 0;
    for (const std::uint64_t more : {16ull << 20, 1ull << 20, 64ull << 10, 0ull}) {
        limit_memory(pool.daemon().pid(), more);
        const auto put = pool.control().put_bytes("/v1/files/data?path=/big&offset=0",
                                                  std::string(24u << 20, 'b'));
        if (!put) ++refused;
        for (int i = 0; i < 50; ++i)
            if (pool.control().post("/v1/files/create",
                                    {{"path", "/" + std::to_string(made)}, {"mode", 0600}}))
                ++made;
        (void)pool.control().post("/v1/scrub", Json::object());
        EXPECT_EQ(two.load(0, kFileBytes), "ok 1");
        if (!pool.control().get("/v1/status")) ++deaths;
        pool.daemon().kill();
        const auto started = pool.daemon().start_again(open);
        ASSERT_TRUE(started) << started.error().message();
        EXPECT_TRUE(eventually([&] { return pool.get("/v1/maps")["mappings"].size() == 1; }));
        EXPECT_EQ(two.load(0, kFileBytes), "ok 1");
        for (std::size_t i = 0; i < made; ++i)
            EXPECT_TRUE(pool.control().get("/v1/files/stat?path=/" + std::to_string(i))) << i;
        pool.expect_sound();
    }
    EXPECT_GT(refused, 0) << "the limit is not felt";
    std::cout << "out of memory: " << refused << " refused, " << deaths << " deaths, " << made
              << " files\n";
}

}  // namespace
}  // namespace refault::tests
