// The C++ layer: ownership in any order, and errors that carry the daemon's sentence.
#include <refault/refault.hpp>

#include "client/test_session.h"

namespace refault::client::testing {
namespace {

class CppTest : public ::testing::Test {
  protected:
    void SetUp() override { daemon_.set_file("/file", 2 * kPartBytes); }
    refault::Session connect() {
        auto session = refault::Session::connect(daemon_.socket_path());
        EXPECT_TRUE(session) << session.error().message();
        return *std::move(session);
    }
    refault::Mapping map() {
        return *(*connect().open("/file", refault::Access::ReadWrite))
                    .map(refault::Access::ReadWrite);
    }

    TestDaemon daemon_;
};

TEST_F(CppTest, MappingKeepsItsSessionAlive) {
    daemon_.write("/file", 1, std::vector<std::uint8_t>{3});
    refault::Mapping mapping = map();
    ASSERT_EQ(mapping.bytes().size(), 2 * kPartBytes);
    daemon_.move("/file", {0, kPartBytes});
    EXPECT_EQ(mapping.bytes()[1], std::byte{3});
    mapping.bytes()[2] = std::byte{4};
    EXPECT_TRUE(mapping.persist());
    EXPECT_TRUE(mapping.persist(mapping.bytes().subspan(5, 10)));
    EXPECT_EQ(daemon_.read("/file", 2, 1)[0], 4);
    static std::byte elsewhere;
    EXPECT_EQ(mapping.persist({&elsewhere, 1}).error().code(), -EINVAL);
    EXPECT_EQ(daemon_.mappings().size(), 1u);
}

TEST_F(CppTest, AssignmentEndsWhatWasHeldBefore) {
    {
        refault::Mapping mapping = map();
        const auto* const before =
            reinterpret_cast<const volatile std::uint8_t*>(mapping.address());
        // One session at a time is all that this daemon has: the first must be gone for the second
        // to connect.
        TestDaemon other;
        other.set_file("/file", kPartBytes);
        mapping = *(*(*refault::Session::connect(other.socket_path()))
                         .open("/file", refault::Access::Read))
                       .map(refault::Access::Read);
        EXPECT_EQ(signal_of_read(before), SIGSEGV);
        daemon_.wait_for_mappings(0);
        refault::Mapping taken = std::move(mapping);
        EXPECT_EQ(taken.bytes().size(), kPartBytes);
        EXPECT_TRUE(mapping.bytes().empty());  // NOLINT: moved from, and still safe to ask
        EXPECT_FALSE(mapping.persist());
    }
    daemon_.wait_for_mappings(0);
}

TEST_F(CppTest, FilesAndNames) {
    refault::Session session = connect();
    EXPECT_EQ(session.pool_name(), "test-pool");
    auto file = session.create("/new", 0600);
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_TRUE(file->resize(5000));
    EXPECT_EQ(file->stat()->size_bytes, 5000u);
    auto mapping = file->map(refault::Access::ReadWrite, refault::Populate::Yes);
    ASSERT_TRUE(mapping) << mapping.error().message();
    EXPECT_EQ(mapping->bytes().size(), 8192u);
    auto again = session.create("/new");
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code(), -EEXIST);
    EXPECT_EQ(again.error().message(), "it exists: choose another");
    EXPECT_TRUE(session.create("/new", 0600, refault::IfExists::Open));
    EXPECT_EQ(session.open("/none", refault::Access::Read).error().code(), -ENOENT);
    EXPECT_EQ(file->map(1, 4096, refault::Access::Read).error().code(), -EINVAL);
}

TEST_F(CppTest, RequestsReachTheDaemonAsMeant) {
    refault::Session session = connect();
    std::vector<wire::Request> seen;
    daemon_.intercept([&](const wire::Request& request) -> std::optional<wire::Reply> {
        seen.push_back(request);
        wire::Reply reply;
        reply.info.size_bytes = 77;
        if (std::holds_alternative<wire::List>(request))
            reply.entries = {{"a", reply.info}, {"b", reply.info}};
        return reply;
    });
    EXPECT_EQ(session.stat("/s")->size_bytes, 77u);
    EXPECT_EQ(session.list("/l")->at(1).name, "b");
    EXPECT_TRUE(session.unlink("/u"));
    EXPECT_TRUE(session.make_directory("/m", 0750));
    EXPECT_TRUE(session.remove_directory("/r"));
    EXPECT_TRUE(session.rename("/from", "/to"));
    const std::vector<wire::Request> expected{
        wire::StatPath{"/s"},        wire::List{"/l", ""},
        wire::Unlink{"/u"},          wire::MakeDirectory{"/m", 0750},
        wire::RemoveDirectory{"/r"}, wire::Rename{"/from", "/to"}};
    EXPECT_EQ(seen, expected);
}

int g_runs = 0;
void count_run() {
    ++g_runs;
}

TEST_F(CppTest, AnyCallableCanBeTried) {
    struct Counting {
        int* runs;
        void operator()() const { ++*runs; }
    };
    int runs = 0;
    const Counting counting{&runs};
    EXPECT_FALSE(refault::try_access(counting));
    EXPECT_FALSE(refault::try_access([&] { ++runs; }));
    const auto constant = [&runs] { ++runs; };
    EXPECT_FALSE(refault::try_access(constant));
    EXPECT_EQ(runs, 3);
    EXPECT_FALSE(refault::try_access(count_run));
    EXPECT_FALSE(refault::try_access(&count_run));
    EXPECT_EQ(g_runs, 2);
}

TEST_F(CppTest, WithoutADaemonTheErrorSaysWhatToDo) {
    auto session = refault::Session::connect("/tmp/refault-no-such.sock");
    ASSERT_FALSE(session);
    EXPECT_EQ(session.error().code(), -ENOENT);
    EXPECT_NE(session.error().message().find("start refaultd"), std::string::npos);
}

}  // namespace
}  // namespace refault::client::testing
