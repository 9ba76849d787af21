// For tests: pools on directories in shared memory, random numbers that can be replayed, and small
// helpers. REFAULT_SEED in the environment replays a random test.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "device/device.h"
#include "store/store.h"

namespace refault::store::testing {

inline std::uint64_t test_seed() {
    const char* replay = std::getenv("REFAULT_SEED");
    const std::uint64_t seed =
        replay != nullptr ? std::strtoull(replay, nullptr, 10) : std::random_device{}();
    std::cout << "REFAULT_SEED=" << seed << std::endl;
    return seed;
}

class Random {
  public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }

  private:
    std::mt19937_64 engine_;
};

// A directory that goes with its contents.
class TempDirectory {
  public:
    TempDirectory() {
        std::string path = "/dev/shm/refault-store-test-XXXXXX";
        path_ = ::mkdtemp(path.data());
    }
    ~TempDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDirectory(const TempDirectory&) = delete;
    TempDirectory& operator=(const TempDirectory&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

struct Shape {
    std::uint64_t segment_bytes = 64 * 1024;
    std::uint32_t segments = 16;
};

inline Cred root() {
    return {};
}
inline Cred user(uid_t uid, gid_t gid = 0) {
    return {uid, gid == 0 ? uid : gid, {}, 1};
}

// The devices "a", "b", ... of one pool, and the pool's store while it is open.
class TestPool {
  public:
    device::DeviceSpec spec(const std::string& name, Shape shape) const {
        device::DeviceSpec spec;
        spec.name = name;
        spec.kind = device::DeviceKind::Dir;
        spec.path = directory_.path() / name;
        spec.size_bytes = shape.segment_bytes * shape.segments;
        spec.segment_bytes = shape.segment_bytes;
        return spec;
    }
    DevicePtr make_device(const std::string& name, Shape shape) {
        const auto wanted = spec(name, shape);
        std::filesystem::create_directory(wanted.path);
        auto made = device::Device::create(wanted, *base::Uuid::random());
        EXPECT_TRUE(made.ok()) << (made ? "" : made.error().message());
        names_.push_back(name);
        return std::move(*made);
    }
    void create(std::size_t devices, Shape shape = {}, const Cred& owner = root()) {
        std::vector<DevicePtr> made;
        for (std::size_t i = 0; i < devices; ++i)
            made.push_back(make_device(std::string(1, char('a' + i)), shape));
        auto created = Store::create("pool", made, owner);
        ASSERT_TRUE(created.ok()) << created.error().message();
        store_ = std::move(*created);
    }
    Result<DeviceId> add(const std::string& name, Shape shape = {}) {
        return store_->add_device(make_device(name, shape));
    }
    void close() { store_.reset(); }
    Status open() {
        auto opened = open_at(directory_.path());
        if (!opened) return opened.error();
        store_ = std::move(*opened);
        return {};
    }
    // As --degraded does.
    Status open_without(const std::string& name) {
        auto opened = open_at(directory_.path(), name);
        if (!opened) return opened.error();
        store_ = std::move(*opened);
        return {};
    }
    void reopen() {
        close();
        const auto opened = open();
        ASSERT_TRUE(opened.ok()) << opened.error().message();
    }
    // Opens what lies at `base`, a copy of this pool's directory, all of it or but for one device.
    Result<std::unique_ptr<Store>> open_at(const std::filesystem::path& base,
                                           const std::string& missing = "") const {
        std::vector<DevicePtr> devices;
        for (const auto& name : names_) {
            if (name == missing) continue;
            device::DeviceSpec there;
            there.name = name;
            there.kind = device::DeviceKind::Dir;
            there.path = base / name;
            auto device = device::Device::open(there);
            if (!device) return device.error();
            devices.push_back(std::move(*device));
        }
        return Store::open(std::move(devices), /*allow_missing=*/!missing.empty());
    }
    void forget(const std::string& name) { std::erase(names_, name); }
    const std::filesystem::path& directory() const { return directory_.path(); }
    Store& operator*() { return *store_; }
    Store* operator->() { return store_.get(); }

    DeviceId id(const std::string& name) {
        const auto found = store_->find_device(name);
        EXPECT_TRUE(found.ok());
        return *found;
    }
    DeviceUsage usage(const std::string& name) {
        for (const auto& usage : store_->usage())
            if (usage.name == name) return usage;
        ADD_FAILURE() << "no device " << name;
        return {};
    }
    std::uint64_t free_bytes() {
        std::uint64_t sum = 0;
        for (const auto& usage : store_->usage()) sum += usage.free_bytes;
        return sum;
    }
    // Free, or taken by a log that a checkpoint will shorten.
    std::uint64_t room_bytes() {
        std::uint64_t sum = free_bytes();
        for (const auto& usage : store_->usage()) sum += usage.metadata_bytes;
        return sum;
    }
    // A file of this size with a pattern of its own in it.
    InodeNo make_file(const std::string& path, std::uint64_t size, const Cred& who = root()) {
        const auto made = store_->create_file(path, 0644, who);
        EXPECT_TRUE(made.ok()) << (made ? "" : made.error().message());
        const auto layout = store_->lock_layout(made->inode);
        const auto resized = store_->resize(made->inode, size);
        EXPECT_TRUE(resized.ok()) << (resized ? "" : resized.error().message());
        const auto written = store_->write(made->inode, 0, pattern(made->inode, size));
        EXPECT_TRUE(written.ok() && *written == size);
        return made->inode;
    }
    static std::vector<std::uint8_t> pattern(InodeNo inode, std::uint64_t size) {
        std::vector<std::uint8_t> bytes(size);
        for (std::uint64_t i = 0; i < size; ++i)
            bytes[i] = static_cast<std::uint8_t>(inode.raw() * 37 + i / 512 + 1);
        return bytes;
    }
    std::vector<std::uint8_t> content(InodeNo inode) {
        const auto layout = store_->lock_layout(inode);
        std::vector<std::uint8_t> bytes(store_->stat(inode)->size_bytes);
        const auto read = store_->read(inode, 0, bytes);
        EXPECT_TRUE(read.ok() && *read == bytes.size()) << (read ? "" : read.error().message());
        return bytes;
    }
    void expect_sound() {
        for (const auto& line : store_->check()) ADD_FAILURE() << line;
    }
    // What the mover does with a batch, without programs.
    Status move(const std::vector<Move>& moves) {
        std::vector<InodeNo> inodes;
        for (const auto& move : moves) inodes.push_back(move.from.inode);
        const auto layouts = store_->lock_layouts(inodes);
        for (const auto& move : moves) {
            RETURN_IF_ERROR(store_->prepare_target(move));
            auto from = *store_->device(move.from.device);
            auto to = *store_->device(move.to_device);
            auto copied = device::copy_range(*from, move.from.device_range(), *to, move.to_offset);
            if (!copied) return copied.error();
        }
        RETURN_IF_ERROR(store_->commit_moves(moves));
        for (const auto& move : moves) {
            auto from = *store_->device(move.from.device);
            RETURN_IF_ERROR(from->punch(move.from.device_range()));
        }
        return store_->release_moved(moves);
    }

  private:
    TempDirectory directory_;
    std::vector<std::string> names_;
    std::unique_ptr<Store> store_;
};

}  // namespace refault::store::testing
