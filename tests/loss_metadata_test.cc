// The pool's own records under memory that fails: one copy that is left is enough, and without any
// the pool says so and writes nothing.
#include "tests/loss_support.h"

namespace refault::tests {
namespace {

using Access = Mapper::Access;

TEST(Loss, AFailureUnderTheMetadataCostsNothing) {
    Pool pool(kThree);
    make_file(pool, "/kept", 1);
    std::string device;
    const auto devices = pool.get("/v1/devices");
    for (const auto& one : devices["devices"])
        if (one.value("has_metadata", false)) device = one.value("name", "");
    ASSERT_NE(device, "");
    std::uint64_t offset = 0;
    const auto owners = pool.get("/v1/locate?device=" + device + "&offset=0&length=67108864");
    for (const auto& owner : owners["owners"])
        if (owner.value("owner", "") == "metadata") offset = owner.value("device_begin", 0ull);
    const auto record = poison(pool, {device, offset});
    EXPECT_EQ(record["parts"][0].value("outcome", ""), "metadata-rewritten") << record.dump();
    EXPECT_EQ(pool.get("/v1/status")["metadata"].value("copies", 0), 2);
    pool.post("/v1/files/create", {{"path", "/after"}});
    yank(pool, device);
    EXPECT_TRUE(is_gone(pool, device));
    EXPECT_EQ(pool.get("/v1/status")["metadata"].value("copies", 0), 2);
    pool.post("/v1/files/create", {{"path", "/later"}});
    pool.expect_sound();
}

// The last device that could take the metadata is about to leave. What is mapped on it goes on.
TEST(Loss, WithoutMetadataWhatIsMappedGoesOnWhereItsMemoryIs) {
    Pool pool({"a=ram:64M", "b=ram:64M"});
    std::string on_b;
    for (int i = 0; i < 50 && on_b.empty(); ++i) {
        const auto path = "/file" + std::to_string(i);
        make_file(pool, path, 1);
        if (place_of(pool, path, 0).device == "b") on_b = path;
    }
    Mapper mapper(pool, on_b, Access::Write);
    ASSERT_EQ(mapper.store(0, 5, kFileBytes), "ok");
    pool.pull({"b"}, {{"rate_bytes_per_s", 1}});
    ASSERT_TRUE(eventually([&] { return !pool.get("/v1/devices/b").value("has_metadata", true); }));
    yank(pool, "a");
    EXPECT_TRUE(is_gone(pool, "a"));
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 5");
    EXPECT_FALSE(pool.control().post("/v1/files/create", Json{{"path", "/new"}}))
        << "nothing is written";
    EXPECT_EQ(pool.get("/v1/status").value("state", ""), "open");
}

TEST(Loss, LosingAllMetadataIsSaidAndNothingHangs) {
    Pool pool(std::vector<std::string>{"a=ram:64M"});
    make_file(pool, "/one", 1);
    Mapper mapper(pool, "/one", Access::Write);
    ASSERT_EQ(mapper.store(0, 1, kFileBytes), "ok");
    yank(pool, "a");
    EXPECT_EQ(mapper.load(0), lost_at(0));
    EXPECT_TRUE(eventually([&] {
        const auto events = pool.get("/v1/events/list");
        for (const auto& event : events["events"])
            if (event.value("kind", "") == "metadata-lost") return true;
        return false;
    }));
    EXPECT_FALSE(pool.control().post("/v1/files/create", Json{{"path", "/new"}}));
    EXPECT_EQ(pool.get("/v1/status").value("state", ""), "open");
    EXPECT_FALSE(pool.get("/v1/lost")["lost"].empty());
    // Another device makes the pool whole again, as far as memory knows it.
    pool.post("/v1/devices", {{"spec", "b=ram:64M"}});
    pool.post("/v1/files/create", {{"path", "/new"}});
    EXPECT_EQ(mapper.say("punch 0 1048576"), "ok");
    EXPECT_EQ(mapper.load(0, kFileBytes), "ok 0");
}

}  // namespace
}  // namespace refault::tests
