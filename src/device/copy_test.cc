// Copies between devices: the right bytes at the right place, holes stay holes, whatever the two
// filesystems are.
#include <algorithm>

#include "device/test_support.h"

namespace refault::device {
namespace {

using base::Code;
using testing::expect_error;
using testing::Place;
using testing::Random;
using testing::TempDirectory;

using Bytes = std::vector<std::uint8_t>;
using Pair = std::tuple<Place, Place>;

constexpr std::uint64_t kSegmentBytes = 4ull << 20;
constexpr std::uint32_t kSegments = 4;

class CopyBetween : public ::testing::TestWithParam<Pair> {
  protected:
    struct Side {
        std::unique_ptr<TempDirectory> home;
        std::unique_ptr<Device> device;
    };

    void SetUp() override {
        const auto [from, to] = GetParam();
        if ((from == Place::HugeTmpfs || to == Place::HugeTmpfs) && ::geteuid() != 0)
            GTEST_SKIP() << "mounting a tmpfs takes root";
        from_ = make(from, "from");
        to_ = make(to, "to");
        ASSERT_TRUE(from_.device && to_.device);
        for (std::uint32_t i = 0; i < kSegments; ++i) {
            ASSERT_OK(from_.device->create_segment(SegmentNo(i)));
            ASSERT_OK(to_.device->create_segment(SegmentNo(i)));
        }
    }
    static Side make(Place place, const std::string& name) {
        const char* disk = std::getenv("TMPDIR");
        Side side;
        side.home = std::make_unique<TempDirectory>(place != Place::Disk ? "/dev/shm"
                                                    : disk != nullptr    ? disk
                                                                         : "/tmp");
        EXPECT_TRUE(place != Place::HugeTmpfs || side.home->mount(64ull << 20).ok());
        auto device = Device::create(
            testing::dir_spec(side.home->path(), kSegmentBytes, kSegments, name), Uuid{});
        EXPECT_TRUE(device.ok()) << device.error().message();
        if (device) side.device = std::move(*device);
        return side;
    }
    static Bytes read(const Device& device, DeviceRange range) {
        Bytes bytes(range.length());
        EXPECT_TRUE(device.read(range.begin(), bytes).ok());
        return bytes;
    }

    Side from_;
    Side to_;
};

std::string pair_name(const ::testing::TestParamInfo<Pair>& info) {
    const auto name = [&](Place place) { return testing::place_name({place, 0}); };
    return name(std::get<0>(info.param)) + "To" + name(std::get<1>(info.param));
}
constexpr Place kPlaces[] = {Place::HugeTmpfs, Place::SharedMemory, Place::Disk};
INSTANTIATE_TEST_SUITE_P(Places, CopyBetween,
                         ::testing::Combine(::testing::ValuesIn(kPlaces),
                                            ::testing::ValuesIn(kPlaces)),
                         pair_name);

TEST_P(CopyBetween, EveryByteArrives) {
    Random random;
    const auto data = random.bytes(kSegmentBytes);
    ASSERT_OK(from_.device->write(kSegmentBytes, data));
    const auto copied =
        copy_range(*from_.device, DeviceRange::of_length(kSegmentBytes, kSegmentBytes), *to_.device,
                   2 * kSegmentBytes);
    ASSERT_OK(copied);
    EXPECT_EQ(*copied, kSegmentBytes);
    EXPECT_EQ(read(*to_.device, DeviceRange::of_length(2 * kSegmentBytes, kSegmentBytes)), data);
}

TEST_P(CopyBetween, RangesOfAnyAlignmentArriveAndNothingElseChanges) {
    constexpr std::uint64_t kWindow = 256 * 1024;
    Random random;
    const auto data = random.bytes(kWindow);
    ASSERT_OK(from_.device->write(0, data));
    for (int round = 0; round < 20; ++round) {
        ASSERT_OK(to_.device->punch(DeviceRange(0, kWindow)));
        const auto begin = random.below(kWindow);
        const auto length = random.below(kWindow - begin) + 1;
        const auto at = random.below(kWindow - length + 1);
        const auto copied =
            copy_range(*from_.device, DeviceRange::of_length(begin, length), *to_.device, at);
        ASSERT_OK(copied);
        EXPECT_EQ(*copied, length);
        Bytes expected(kWindow, 0);
        std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(begin), length,
                    expected.begin() + static_cast<std::ptrdiff_t>(at));
        ASSERT_EQ(read(*to_.device, DeviceRange(0, kWindow)), expected)
            << begin << "+" << length << " to " << at;
    }
}

TEST_P(CopyBetween, HolesStayHoles) {
    constexpr std::uint64_t kIsland = 64 * 1024;
    const Bytes data(kIsland, 0x31);
    // Far apart, so that a huge page of one island does not reach the other.
    ASSERT_OK(from_.device->write(0, data));
    ASSERT_OK(from_.device->write(3ull << 20, data));
    const auto copied = copy_range(*from_.device, DeviceRange(0, kSegmentBytes), *to_.device, 0);
    ASSERT_OK(copied);
    EXPECT_GE(*copied, 2 * kIsland);
    EXPECT_EQ(read(*to_.device, DeviceRange(0, kSegmentBytes)),
              read(*from_.device, DeviceRange(0, kSegmentBytes)));
    if (std::get<0>(GetParam()) == Place::HugeTmpfs) return;
    EXPECT_EQ(*copied, 2 * kIsland) << "only data is copied";
    if (std::get<1>(GetParam()) == Place::HugeTmpfs) return;
    const auto hole = to_.device->next_data(DeviceRange(kIsland, 3ull << 20));
    ASSERT_OK(hole);
    EXPECT_FALSE(*hole) << "the hole was filled";
}

TEST_P(CopyBetween, NothingButHolesCopiesNothing) {
    const auto copied = copy_range(*from_.device, DeviceRange(0, kSegmentBytes), *to_.device, 0);
    ASSERT_OK(copied);
    EXPECT_EQ(*copied, 0u);
    const auto at_the_end =
        DeviceRange(from_.device->capacity_bytes(), from_.device->capacity_bytes());
    EXPECT_EQ(*copy_range(*from_.device, at_the_end, *to_.device, 0), 0u);
}

TEST_P(CopyBetween, AMissingSegmentNamesItsDevice) {
    ASSERT_OK(from_.device->release_segment(SegmentNo(0)));
    ASSERT_OK(to_.device->release_segment(SegmentNo(1)));
    expect_error(copy_range(*from_.device, DeviceRange(0, 4096), *to_.device, 0), Code::NotFound,
                 "device from");
    expect_error(copy_range(*from_.device, DeviceRange::of_length(kSegmentBytes, 4096), *to_.device,
                            kSegmentBytes),
                 Code::NotFound, "device to");
}

TEST(Copy, WithinOneDevice) {
    const TempDirectory home;
    auto device = Device::create(testing::dir_spec(home.path(), 65536, 4), Uuid{});
    ASSERT_OK(device);
    for (std::uint32_t i = 0; i < 4; ++i) ASSERT_OK((*device)->create_segment(SegmentNo(i)));
    ASSERT_OK((*device)->write(100, Bytes(1000, 5)));
    ASSERT_EQ(*copy_range(**device, DeviceRange(0, 65536), **device, 3 * 65536), 4096u);
    Bytes found(1000);
    ASSERT_OK((*device)->read(3 * 65536 + 100, found));
    EXPECT_EQ(found, Bytes(1000, 5));
}

TEST(Copy, AFullTargetIsNoSpace) {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting a tmpfs takes root";
    const TempDirectory from_home;
    TempDirectory to_home;
    ASSERT_OK(to_home.mount(2 << 20));
    auto from = Device::create(testing::dir_spec(from_home.path(), kSegmentBytes, 4), Uuid{});
    auto to = Device::create(testing::dir_spec(to_home.path(), kSegmentBytes, 4, "full"), Uuid{});
    ASSERT_OK(from);
    ASSERT_OK(to);
    ASSERT_OK((*from)->create_segment(SegmentNo(0)));
    ASSERT_OK((*to)->create_segment(SegmentNo(0)));
    ASSERT_OK((*from)->write(0, Bytes(kSegmentBytes, 1)));
    expect_error(copy_range(**from, DeviceRange(0, kSegmentBytes), **to, 0), Code::NoSpace,
                 "to full");
    expect_error((*to)->populate(DeviceRange(0, kSegmentBytes)), Code::NoSpace, "device full");
    expect_error((*to)->write(0, Bytes(kSegmentBytes, 1)), Code::NoSpace, "device full");
}

}  // namespace
}  // namespace refault::device
