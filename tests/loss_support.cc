// Files, places and harm.
#include "tests/loss_support.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace refault::tests {

void make_file(Pool& pool, const std::string& path, unsigned replicas, bool rolls_back) {
    pool.post("/v1/files/create", {{"path", path}, {"mode", 0666}});
    if (replicas > 1) pool.post("/v1/files/set", {{"path", path}, {"replicas", replicas}});
    if (rolls_back) pool.post("/v1/files/set", {{"path", path}, {"on_loss", "rollback"}});
    pool.post("/v1/files/resize", {{"path", path}, {"size_bytes", kFileBytes}});
}

void put_bytes(Pool& pool, const std::string& path, const std::string& bytes,
               std::uint64_t offset) {
    const auto put = pool.control().put_bytes(
        "/v1/files/data?path=" + path + "&offset=" + std::to_string(offset), bytes);
    EXPECT_TRUE(put) << put.error().message();
}

Place place_of(Pool& pool, const std::string& path, std::uint64_t offset, unsigned replica) {
    const auto devices = pool.get("/v1/devices");
    for (const auto& device : devices["devices"]) {
        if (device.value("state", "") == "lost") continue;
        const std::string name = device.value("name", "");
        const auto capacity = device.value("capacity_bytes", 0ull);
        const auto found = pool.control().get("/v1/locate?device=" + name +
                                              "&offset=0&length=" + std::to_string(capacity));
        // Pulled meanwhile.
        if (!found) continue;
        for (const auto& owner : (*found)["owners"]) {
            if (owner.value("path", "") != path || owner.value("replica", 9u) != replica) continue;
            const auto begin = owner.value("file_begin", 0ull);
            if (offset < begin || offset >= owner.value("file_end", 0ull)) continue;
            return {name, owner.value("device_begin", 0ull) + (offset - begin)};
        }
    }
    return {};
}

std::string segment_file(Pool& pool, const Place& place) {
    const auto device = pool.get("/v1/devices/" + place.device);
    char name[32];
    std::snprintf(
        name, sizeof name, "/seg-%05llu",
        static_cast<unsigned long long>(place.offset) / device.value("segment_bytes", 1ull));
    return device.value("directory", "") + name;
}

Json poison(Pool& pool, const Place& place, std::uint64_t length) {
    return pool.post("/v1/devices/" + place.device + "/fail",
                     {{"offset", place.offset}, {"length", length}});
}

void wait_for_resync(Pool& pool) {
    EXPECT_TRUE(eventually([&] { return !pool.get("/v1/resync").value("is_running", true); }));
}

void yank(Pool& pool, const std::string& device) {
    const auto directory = pool.get("/v1/devices/" + device).value("directory", "");
    ASSERT_FALSE(directory.empty());
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        const auto name = entry.path().filename().string();
        if (!name.starts_with("seg-")) continue;
        // First the name, which only an outside hand can take: what is cut alone is no device's
        // end.
        const base::UniqueFd file(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC));
        ASSERT_TRUE(file.valid());
        ASSERT_EQ(::unlink(entry.path().c_str()), 0);
        ASSERT_EQ(::ftruncate(file.get(), 0), 0);
    }
}

bool is_gone(Pool& pool, const std::string& device) {
    const bool is_lost =
        eventually([&] { return pool.get("/v1/devices/" + device).value("state", "") == "lost"; },
                   std::chrono::seconds(20));
    EXPECT_TRUE(is_lost) << pool.get("/v1/devices").dump() << pool.get("/v1/failures").dump();
    return is_lost;
}

void overwrite(Pool& pool, const std::string& path, std::uint64_t offset, char byte) {
    EXPECT_TRUE(pool.control().put_bytes(
        "/v1/files/data?path=" + path + "&offset=" + std::to_string(offset),
        std::string(kPage, byte)));
}

}  // namespace refault::tests
