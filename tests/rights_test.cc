// The rights that a running daemon has, by the kernel's word and by its own, and that all it does
// can be done with them.
#include <filesystem>

#include "daemon/capabilities.h"
#include "sys/privileges.h"
#include "tests/mount_support.h"

namespace refault::tests {
namespace {

// Of every thread of the process.
std::vector<sys::Privileges> rights_of(pid_t pid) {
    std::vector<sys::Privileges> found;
    const auto tasks = "/proc/" + std::to_string(pid) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
        const auto rights = sys::read_privileges(task.path() / "status");
        if (rights) found.push_back(*rights);
    }
    return found;
}

TEST(Rights, EveryThreadOfRootsDaemonHasOnlyWhatItNeeds) {
    if (::geteuid() != 0) GTEST_SKIP() << "an ordinary user has nothing to drop";
    Pool pool({"a=ram:64M", "b=ram:64M"});
    const auto own = sys::read_privileges();
    ASSERT_TRUE(own);
    const auto rights = rights_of(pool.daemon().pid());
    EXPECT_GT(rights.size(), 3u);
    const auto needed = daemon::needed_capabilities();
    for (const auto& thread : rights) {
        EXPECT_EQ(thread.effective_capabilities, own->permitted_capabilities & needed);
        EXPECT_EQ(thread.permitted_capabilities & ~needed, 0u);
        EXPECT_EQ(thread.bounding_capabilities & ~needed, 0u);
        EXPECT_TRUE(thread.has_no_new_privileges);
        EXPECT_EQ(thread.seccomp_mode, 2);
    }
    const auto said = pool.get("/v1/status")["rights"];
    EXPECT_TRUE(said["filters_system_calls"]) << said;
    EXPECT_EQ(said["capabilities"].size(),
              daemon::capability_names(own->permitted_capabilities & needed).size())
        << said;
}

TEST(Rights, TheFilterCanBeLeftOff) {
    Pool pool({"a=ram:64M"}, {"--seccomp", "off"});
    const auto own = sys::read_privileges();
    ASSERT_TRUE(own);
    EXPECT_EQ(pool.get("/v1/status")["rights"]["filters_system_calls"], own->seccomp_mode == 2);
}

TEST(Rights, AnOrdinaryDaemonTakesTheFilterOnRequest) {
    Pool pool({"a=ram:64M"}, {"--seccomp", "on"});
    EXPECT_EQ(pool.get("/v1/status")["rights"]["filters_system_calls"], true);
}

}  // namespace
}  // namespace refault::tests
