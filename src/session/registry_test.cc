// The registry against a real store: what is handed out, what a fence holds back, what a silent
// pager does.
#include "session/registry.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "sys/socket.h"

namespace refault::session {
namespace {

using base::Access;
using base::Code;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kAddress = 1ull << 40;

class RegistryTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
        device::DeviceSpec spec;
        spec.name = "a";
        spec.kind = device::DeviceKind::Dir;
        spec.path = directory_;
        spec.size_bytes = 64 * kMiB;
        auto device = device::Device::create(spec, base::Uuid{});
        ASSERT_TRUE(device) << device.error().message();
        auto store =
            store::Store::create("test", {store::DevicePtr(std::move(*device))}, base::Cred{});
        ASSERT_TRUE(store) << store.error().message();
        store_ = std::move(*store);
        auto file = store_->create_file("/file", 0644, base::Cred{});
        ASSERT_TRUE(file);
        inode_ = file->inode;
        auto layout = store_->lock_layout(inode_);
        ASSERT_TRUE(store_->resize(inode_, 4 * kMiB));
        registry_ = std::make_unique<Registry>(*store_);
        auto ends = sys::seqpacket_pair();
        ASSERT_TRUE(ends);
        client_ = std::move(ends->second);
        session_ = std::make_shared<Session>(base::SessionId(1), base::Cred{0, 0, {}, ::getpid()},
                                             base::UniqueFd(), std::move(ends->first), true);
        registry_->add_session(session_);
    }
    void TearDown() override {
        registry_.reset();
        store_.reset();
        std::error_code failure;
        std::filesystem::remove_all(directory_, failure);
    }

    MappingId map(FileRange range, Access access = Access::ReadWrite) {
        return registry_->add_mapping(session_, inode_, range, kAddress, access, {});
    }
    // Fetches; the bytes that were handed out.
    std::uint64_t fetch(std::uint64_t placed) {
        auto batch = registry_->next_places(session_, placed);
        EXPECT_TRUE(batch);
        std::uint64_t bytes = 0;
        last_ = batch->places;
        for (const auto& place : last_.places) bytes += place.length;
        return bytes;
    }
    Result<std::vector<FenceTarget>> fence(
        FileRange range, Registry::OnSilence on_silence = Registry::OnSilence::Refuse) {
        return registry_->fence(inode_, range, steady_clock::now() + milliseconds(20), on_silence);
    }

    std::string directory_ = "/dev/shm/refault-test-XXXXXX";
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<Registry> registry_;
    std::shared_ptr<Session> session_;
    base::UniqueFd client_;
    InodeNo inode_;
    wire::Places last_;
};

TEST_F(RegistryTest, AMappingIsHandedOutOnceAndRings) {
    map(FileRange(0, 4 * kMiB));
    auto rung = sys::receive_message(client_.get(), wire::kMessageBytesMax);
    ASSERT_TRUE(rung);
    EXPECT_TRUE(std::holds_alternative<wire::Doorbell>(*wire::decode_pager_message(rung->bytes)));
    EXPECT_EQ(fetch(0), 4 * kMiB);
    EXPECT_EQ(last_.places.front().address, kAddress);
    EXPECT_EQ(fetch(last_.sequence), 0u);
    EXPECT_TRUE(registry_->is_placed(inode_, FileRange(0, 4 * kMiB)));
}

TEST_F(RegistryTest, WhatIsBeyondTheEndHasNoDescriptor) {
    map(FileRange(3 * kMiB, 6 * kMiB));
    EXPECT_EQ(fetch(0), 3 * kMiB);
    std::uint64_t beyond = 0;
    for (const auto& place : last_.places)
        if (place.descriptor == wire::kNoDescriptor) beyond += place.length;
    EXPECT_EQ(beyond, 2 * kMiB);
}

TEST_F(RegistryTest, AFenceStopsHandingOutAndNamesTheLiveParts) {
    map(FileRange(0, 4 * kMiB));
    fetch(0);
    fetch(last_.sequence);
    auto targets = fence(FileRange(kMiB, 2 * kMiB));
    ASSERT_TRUE(targets) << targets.error().message();
    ASSERT_EQ(targets->size(), 1u);
    EXPECT_EQ(targets->front().addresses, AddressRange(kAddress + kMiB, kAddress + 2 * kMiB));
    registry_->mark_stale(inode_, FileRange(0, 4 * kMiB));
    EXPECT_EQ(fetch(0), 3 * kMiB) << "the fenced part has no place";
    registry_->lift(inode_, FileRange(kMiB, 2 * kMiB), /*has_moved=*/true);
    EXPECT_EQ(fetch(last_.sequence), kMiB);
}

TEST_F(RegistryTest, AFenceThatMovedNothingLeavesThePartsLive) {
    map(FileRange(0, 4 * kMiB));
    fetch(0);
    fetch(last_.sequence);
    ASSERT_TRUE(fence(FileRange(0, kMiB)));
    registry_->lift(inode_, FileRange(0, kMiB), /*has_moved=*/false);
    EXPECT_EQ(fetch(0), 0u);
}

TEST_F(RegistryTest, ASilentPagerHoldsUpItsPartAloneAndIsNamed) {
    map(FileRange(0, 4 * kMiB));
    fetch(0);  // handed out, never reported
    auto refused = fence(FileRange(0, kMiB));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::TimedOut);
    EXPECT_NE(refused.error().message().find("pid " + std::to_string(::getpid())),
              std::string::npos);
    auto forced = fence(FileRange(0, kMiB), Registry::OnSilence::GoOn);
    ASSERT_TRUE(forced);
    registry_->lift(inode_, FileRange(0, kMiB), /*has_moved=*/true);
    EXPECT_GT(fetch(last_.sequence), 0u) << "what was given up is handed out again";
    EXPECT_EQ(fetch(last_.sequence), 0u);
}

// Handed out again, but its client has yet to answer: the old place may still be live there.
TEST_F(RegistryTest, AFenceStopsAlsoWhatIsHandedOutAgain) {
    map(FileRange(0, 4 * kMiB));
    fetch(0);
    fetch(last_.sequence);
    registry_->mark_stale(inode_, FileRange(0, kMiB));
    const auto targets = fence(FileRange(0, 2 * kMiB));
    ASSERT_TRUE(targets);
    ASSERT_EQ(targets->size(), 2u);
    EXPECT_TRUE((*targets)[0].is_live);
    EXPECT_EQ((*targets)[0].addresses.length(), kMiB);
    EXPECT_FALSE((*targets)[1].is_live);
    EXPECT_EQ((*targets)[1].addresses.length(), kMiB);
    registry_->lift(inode_, FileRange(0, 2 * kMiB), false);
}

TEST_F(RegistryTest, TwoFencesDoNotOverlap) {
    ASSERT_TRUE(fence(FileRange(0, 2 * kMiB)));
    EXPECT_FALSE(fence(FileRange(kMiB, 3 * kMiB)));
    EXPECT_TRUE(fence(FileRange(2 * kMiB, 3 * kMiB)));
}

TEST_F(RegistryTest, ConcealedBytesAreHandedOutAsBeyondTheEnd) {
    map(FileRange(0, 4 * kMiB));
    fetch(0);
    fetch(last_.sequence);
    registry_->conceal(inode_, FileRange(3 * kMiB, 4 * kMiB));
    EXPECT_FALSE(registry_->is_placed(inode_, FileRange(3 * kMiB, 4 * kMiB)));
    EXPECT_EQ(fetch(last_.sequence), kMiB);
    for (const auto& place : last_.places) EXPECT_EQ(place.descriptor, wire::kNoDescriptor);
    fetch(last_.sequence);
    EXPECT_TRUE(registry_->is_placed(inode_, FileRange(3 * kMiB, 4 * kMiB)));
    registry_->reveal(inode_, FileRange(3 * kMiB, 4 * kMiB), /*was_cut=*/false);
    EXPECT_EQ(fetch(last_.sequence), kMiB);
    EXPECT_NE(last_.places.front().descriptor, wire::kNoDescriptor);
}

TEST_F(RegistryTest, UnmappingWaitsForNoFenceAndAForeignMappingIsRefused) {
    const auto id = map(FileRange(0, kMiB));
    EXPECT_EQ(registry_->remove_mapping(base::SessionId(2), id).error().code(), Code::NotFound);
    EXPECT_TRUE(registry_->remove_mapping(base::SessionId(1), id));
    EXPECT_TRUE(registry_->mappings().empty());
}

TEST_F(RegistryTest, DescriptorsOfAnotherUsersSegmentsAreNotHandedOut) {
    auto small = store_->create_file("/small", 0644, base::Cred{});
    ASSERT_TRUE(small);
    {
        auto layout = store_->lock_layout(small->inode);
        ASSERT_TRUE(store_->resize(small->inode, 4096));
    }
    auto ends = sys::seqpacket_pair();
    ASSERT_TRUE(ends);
    auto other =
        std::make_shared<Session>(base::SessionId(2), base::Cred{4711, 4711, {}, ::getpid()},
                                  base::UniqueFd(), std::move(ends->first), true);
    registry_->add_session(other);
    registry_->add_mapping(other, small->inode, FileRange(0, 4096), kAddress, Access::Read, {});
    auto batch = registry_->next_places(other, 0);
    ASSERT_TRUE(batch);
    EXPECT_TRUE(batch->descriptors.empty());
    EXPECT_TRUE(batch->places.places.empty()) << "it waits until the file has segments of its own";
}

}  // namespace
}  // namespace refault::session
