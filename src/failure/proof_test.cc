// Proofs against real processes that hold real segments.
#include "failure/proof.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <thread>

#include "failure/test_child.h"
#include "store/fresh_label.h"
#include "sys/process.h"
#include "sys/socket.h"

namespace refault::failure {
namespace {

using base::SegmentNo;

using testing::Child;

class ProofTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
        device::DeviceSpec spec;
        spec.name = "a";
        spec.kind = device::DeviceKind::Dir;
        spec.path = directory_;
        spec.size_bytes = 1 << 20;
        spec.segment_bytes = 64 << 10;
        auto device = device::Device::create(spec, base::Uuid{});
        ASSERT_TRUE(device) << device.error().message();
        device_ = std::move(*device);
        ASSERT_TRUE(device_->create_segment(SegmentNo(3)));
        path_ = directory_ + "/seg-00003";
    }
    void TearDown() override {
        device_.reset();
        std::error_code failure;
        std::filesystem::remove_all(directory_, failure);
    }
    ProofReport proof() {
        auto target = proof_target(*device_);
        EXPECT_TRUE(target);
        auto report = prove(*target);
        EXPECT_TRUE(report);
        return *report;
    }

    std::string directory_ = "/dev/shm/refault-test-XXXXXX";
    std::string path_;
    std::unique_ptr<device::Device> device_;
};

TEST_F(ProofTest, NobodyHoldsIt) {
    ASSERT_TRUE(device_->release_segment(SegmentNo(3)));
    const auto report = proof();
    EXPECT_TRUE(report.holders.empty());
    EXPECT_GT(report.processes_read, 0u);
    EXPECT_EQ(report.hidden_inodes, 0u);
    EXPECT_TRUE(report.is_proven() || ::geteuid() != 0) << report.summary();
}

TEST_F(ProofTest, AMappingIsFoundAlsoAfterTheFileIsGone) {
    Child child([&] {
        const int fd = ::open(path_.c_str(), O_RDWR);
        (void)::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 8192);
        ::close(fd);
    });
    for (const bool is_released : {false, true}) {
        if (is_released) {
            ASSERT_TRUE(device_->release_segment(SegmentNo(3)));
        }
        const auto report = proof();
        ASSERT_EQ(report.holders.size(), 1u) << report.summary();
        EXPECT_EQ(report.holders[0].pid, child.pid());
        EXPECT_EQ(report.holders[0].kind, Holder::Kind::Mapping);
        EXPECT_EQ(report.holders[0].file_range, base::FileRange(8192, 12288));
        EXPECT_FALSE(report.is_proven());
        EXPECT_NE(report.summary().find("pid " + std::to_string(child.pid())), std::string::npos);
    }
    child.end();
    EXPECT_TRUE(proof().holders.empty());
}

TEST_F(ProofTest, ADescriptorIsFound) {
    Child child([&] { (void)::open(path_.c_str(), O_RDONLY); });
    const auto report = proof();
    ASSERT_EQ(report.holders.size(), 1u) << report.summary();
    EXPECT_EQ(report.holders[0].kind, Holder::Kind::Descriptor);
    EXPECT_FALSE(report.is_proven());
}

void run_beside(const std::function<void()>& hold) {
    std::atomic<bool> holds = false;
    std::thread([&] {
        hold();
        holds = true;
        for (;;) ::pause();
    }).detach();
    while (!holds) std::this_thread::yield();
}

TEST_F(ProofTest, AMappingIsFoundAlsoWhenTheFirstThreadHasEnded) {
    Child child(
        [&] {
            run_beside([&] {
                const int fd = ::open(path_.c_str(), O_RDWR);
                (void)::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
                ::close(fd);
            });
        },
        Child::FirstThread::Ends);
    // The tables of the first thread go a moment after it has said that it is ready.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (std::chrono::steady_clock::now() < deadline) {
        const auto maps = sys::read_maps(child.pid());
        if (!maps || maps->empty()) break;
        std::this_thread::yield();
    }
    const auto report = proof();
    ASSERT_EQ(report.holders.size(), 1u) << report.summary();
    EXPECT_EQ(report.holders[0].pid, child.pid());
    EXPECT_EQ(report.holders[0].kind, Holder::Kind::Mapping);
}

TEST_F(ProofTest, ADescriptorOfAThreadWithItsOwnTableIsFound) {
    Child child([&] {
        run_beside([&] {
            (void)::unshare(CLONE_FILES);
            (void)::open(path_.c_str(), O_RDONLY);
        });
    });
    const auto report = proof();
    ASSERT_EQ(report.holders.size(), 1u) << report.summary();
    EXPECT_EQ(report.holders[0].pid, child.pid());
    EXPECT_EQ(report.holders[0].kind, Holder::Kind::Descriptor);
}

// A device that was opened: its count does not cover everything, but what it finds counts.
TEST_F(ProofTest, ADescriptorInFlightOfAReopenedDeviceIsCounted) {
    const auto label = store::fresh_label(*device_, base::Uuid{}, base::DeviceId(1));
    ASSERT_TRUE(label);
    ASSERT_TRUE(device_->write_label(*label));
    device_.reset();
    device::DeviceSpec spec;
    spec.kind = device::DeviceKind::Dir;
    spec.path = directory_;
    auto opened = device::Device::open(spec);
    ASSERT_TRUE(opened) << opened.error().message();
    device_ = std::move(*opened);
    auto ends = sys::seqpacket_pair();
    ASSERT_TRUE(ends);
    {
        base::UniqueFd fd(::open(path_.c_str(), O_RDONLY));
        const int sent[] = {fd.get()};
        ASSERT_TRUE(sys::send_message(ends->first.get(), std::vector<std::uint8_t>{1}, sent));
    }
    ASSERT_TRUE(device_->release_segment(SegmentNo(3)));
    const auto report = proof();
    EXPECT_TRUE(report.holders.empty());
    EXPECT_EQ(report.hidden_inodes, 1u);
    EXPECT_FALSE(report.is_proven());
}

// A descriptor whose process cannot be looked into: stood in for by an empty /proc, so that only
// the kernel's count of openers is left to find it.
TEST_F(ProofTest, WhatNoTableShowsKeepsItUnproven) {
    const std::string no_proc = directory_ + "/proc";
    std::filesystem::create_directory(no_proc);
    Child child([&] { (void)::open(path_.c_str(), O_RDONLY); });
    ASSERT_TRUE(device_->release_segment(SegmentNo(3)));
    auto target = proof_target(*device_);
    ASSERT_TRUE(target);
    auto report = prove(*target, no_proc);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->holders.empty());
    EXPECT_EQ(report->hidden_inodes, 1u);
    EXPECT_FALSE(report->is_proven());
    child.end();
    report = prove(*target, no_proc);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->is_proven()) << report->summary();
}

TEST_F(ProofTest, AMappedFileHasTheNumbersOfStat) {
    const base::UniqueFd fd(::open(path_.c_str(), O_RDWR));
    void* const address = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd.get(), 0);
    ASSERT_NE(address, MAP_FAILED);
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    const auto file = sys::mapped_file(::getpid(), base::AddressRange(begin, begin + 4096));
    ::munmap(address, 4096);
    if (!file && file.error().code() == base::Code::Denied) GTEST_SKIP() << "takes root";
    ASSERT_TRUE(file) << file.error().message();
    const auto identity = device_->segment_identity(SegmentNo(3));
    ASSERT_TRUE(identity);
    EXPECT_EQ(file->first, identity->device);
    EXPECT_EQ(file->second, identity->inode);
}

TEST(ProofReport, AnUnreadableProcessKeepsItUnprovenUnlessTheKernelHasAnswered) {
    ProofReport report;
    report.unreadable = {1};
    EXPECT_FALSE(report.is_proven());
    report.hidden_inodes = 0;
    EXPECT_FALSE(report.is_proven()) << "a count that covers a part alone is no answer";
    report.is_count_complete = true;
    EXPECT_TRUE(report.is_proven());
    report.pinned_pages = 1;
    EXPECT_FALSE(report.is_proven());
    EXPECT_NE(report.summary().find("1 pages"), std::string::npos);
    report.pinned_pages = 0;
    report.hidden_inodes = 2;
    EXPECT_FALSE(report.is_proven());
}

TEST(ProofReport, WhereProcessesDoNotShowOnlyTheKernelsCountProves) {
    ProofReport report;
    EXPECT_TRUE(report.is_proven());
    report.sees_all_processes = false;
    EXPECT_FALSE(report.is_proven());
    EXPECT_NE(report.summary().find("refault doctor"), std::string::npos);
    report.hidden_inodes = 0;
    report.is_count_complete = true;
    EXPECT_TRUE(report.is_proven());
}

TEST(MapsLine, IsParsedAndGarbageIsRefused) {
    sys::MapsEntry entry;
    ASSERT_TRUE(
        sys::parse_maps_line("7f12a000-7f12c000 rw-s 00001000 00:2f 4711                       "
                             "/run/x/seg-00001 (deleted)",
                             entry));
    EXPECT_EQ(entry.addresses, base::AddressRange(0x7f12a000, 0x7f12c000));
    EXPECT_EQ(entry.file_offset, 0x1000u);
    EXPECT_EQ(entry.inode, 4711u);
    EXPECT_EQ(entry.path, "/run/x/seg-00001 (deleted)");
    for (const auto* bad :
         {"", "x", "7f12a000", "7f12a000-", "2-1 rw-s 0 00:00 0", "1-2 rw-s zz 00:00 0", "1-2 rw"})
        EXPECT_FALSE(sys::parse_maps_line(bad, entry)) << bad;
}

}  // namespace
}  // namespace refault::failure
