// The seam of durable writes: replacement as a whole, and every call told to who looks on.
#include "device/medium.h"

#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "device/test_support.h"
#include "sys/file.h"

namespace refault::device {
namespace {

using namespace testing;
namespace fs = std::filesystem;
using Kind = MediumCall::Kind;

class MediumTest : public ::testing::Test {
  protected:
    void SetUp() override {
        auto opened = sys::open_directory(home_.path());
        ASSERT_TRUE(opened.ok());
        directory_ = std::move(*opened);
        medium_.set_directory(directory_.get());
    }
    base::Status replace(const std::string& text) {
        return medium_.replace("f",
                               {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()},
                               DurableWrite::LabelJoin);
    }
    std::string text() const {
        std::stringstream all;
        all << std::ifstream(home_.file("f")).rdbuf();
        return all.str();
    }

    TempDirectory home_;
    base::UniqueFd directory_;
    Medium medium_;
};

TEST_F(MediumTest, ReplaceIsAsAWhole) {
    ASSERT_OK(replace("the first text"));
    ASSERT_OK(replace("second"));
    EXPECT_EQ(text(), "second");
    EXPECT_FALSE(fs::exists(home_.file("f.new")));
    // A reader that has the old file open goes on with the old bytes.
    const auto old = sys::open_at(directory_.get(), "f", O_RDONLY);
    ASSERT_OK(replace("third"));
    std::vector<std::uint8_t> found(6);
    ASSERT_OK(sys::read_fully(old->get(), 0, found));
    EXPECT_EQ(std::string(found.begin(), found.end()), "second");
}

TEST_F(MediumTest, ReplaceTakesOverWhatACrashLeft) {
    std::ofstream(home_.file("f.new")) << "half of a very long text";
    ASSERT_OK(replace("whole"));
    EXPECT_EQ(text(), "whole");
}

TEST_F(MediumTest, AFailedReplaceLeavesTheOldFileAndNoOther) {
    fs::create_directory(home_.file("f"));
    const auto replaced = replace("new");
    ASSERT_FALSE(replaced.ok());
    EXPECT_NE(replaced.error().message().find("replace f"), std::string::npos)
        << replaced.error().message();
    EXPECT_TRUE(fs::is_directory(home_.file("f")));
    EXPECT_FALSE(fs::exists(home_.file("f.new")));
}

TEST(MediumTraceTest, ADeviceTellsEveryCallThatSucceeds) {
    TempDirectory home;
    std::vector<std::pair<Kind, DurableWrite>> seen;
    auto device =
        Device::create(dir_spec(home.path(), 4096, 8), *base::Uuid::random(),
                       [&](const MediumCall& call) { seen.emplace_back(call.kind, call.row); });
    ASSERT_OK(device);
    auto label = label_for(**device);
    const auto expect = [&](const std::vector<std::pair<Kind, DurableWrite>>& calls,
                            const std::string& what) {
        EXPECT_TRUE(seen == calls) << what << ": " << seen.size() << " calls";
        seen.clear();
    };
    const auto replaced = [](DurableWrite row) {
        return std::vector<std::pair<Kind, DurableWrite>>{{Kind::Create, row},
                                                          {Kind::Write, row},
                                                          {Kind::Sync, row},
                                                          {Kind::Rename, row},
                                                          {Kind::SyncNames, row}};
    };
    const auto write_label = [&] { ASSERT_OK((*device)->write_label(label)); };
    expect({{Kind::Create, DurableWrite::Lock}}, "create");
    write_label();
    expect(replaced(DurableWrite::LabelJoin), "join");
    label.metadata_epoch = 1;
    label.metadata_segments = {SegmentNo(1)};
    write_label();
    expect(replaced(DurableWrite::LabelEpoch), "epoch");
    label.metadata_segments.push_back(SegmentNo(2));
    write_label();
    expect(replaced(DurableWrite::LabelGrow), "grow");
    ++label.generation;
    write_label();
    expect(replaced(DurableWrite::LabelGeneration), "generation");
    label.metadata_segments.clear();
    write_label();
    expect(replaced(DurableWrite::LabelClear), "clear");
    label.pool = *base::Uuid::random();
    write_label();
    expect(replaced(DurableWrite::LabelHandOver), "hand over");
    label.state = LabelState::Removed;
    write_label();
    expect(replaced(DurableWrite::LabelTombstone), "tombstone");

    const auto make = DurableWrite::SegmentMake, gone = DurableWrite::SegmentRemove;
    ASSERT_OK((*device)->create_segment(SegmentNo(0)));
    expect({{Kind::Create, make}, {Kind::SetSize, make}, {Kind::SyncNames, make}}, "segment");
    ASSERT_OK((*device)->write(0, std::vector<std::uint8_t>(4096, 1)));
    expect({{Kind::Write, DurableWrite::FileBytes}}, "write");
    ASSERT_OK((*device)->sync(DeviceRange(0, 4096)));
    expect({{Kind::Sync, DurableWrite::FileBytes}}, "sync");
    ASSERT_OK((*device)->create_segment(SegmentNo(1), DurableWrite::LogSegmentMake));
    seen.clear();
    ASSERT_OK(copy_range(**device, DeviceRange(0, 4096), **device, 4096));
    expect({{Kind::Write, DurableWrite::FileCopy}}, "copy");
    ASSERT_OK((*device)->punch(DeviceRange(0, 4096)));
    ASSERT_OK((*device)->populate(DeviceRange(0, 4096)));
    expect({{Kind::Punch, DurableWrite::FileHole}, {Kind::Allocate, DurableWrite::FileSpace}},
           "space");
    ASSERT_OK((*device)->release_segment(SegmentNo(0)));
    expect({{Kind::SetSize, gone}, {Kind::Remove, gone}}, "release");
    EXPECT_FALSE((*device)->write(0, std::vector<std::uint8_t>(1, 1)).ok());
    expect({}, "a call that fails");
    ASSERT_OK((*device)->remove_label());
    expect(
        {{Kind::Remove, DurableWrite::LabelRemove}, {Kind::SyncNames, DurableWrite::LabelRemove}},
        "remove");
}

}  // namespace
}  // namespace refault::device
