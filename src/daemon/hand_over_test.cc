// What one daemon writes for the next: read back whole, and refused when it is anything else.
#include "daemon/hand_over.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/mount_record.h"
#include "sys/file.h"

namespace refault::daemon {
namespace {

using base::Code;
using base::UniqueFd;
using Json = nlohmann::json;

UniqueFd some_file() {
    return UniqueFd(::memfd_create("some", MFD_CLOEXEC));
}

bool is_inherited(int fd) {
    return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
}

mount::MountOptions some_options() {
    mount::MountOptions options;
    options.directory = "/mnt";
    options.pool_name = "pool";
    options.has_writeback = true;
    options.patience = std::chrono::milliseconds(1234);
    options.kernel_options = {"nosuid", "noexec"};
    return options;
}

HandOver some_hand_over() {
    HandOver made;
    made.run_dir = some_file();
    made.listener = some_file();
    made.upgrades = 3;
    made.last_event = 1ull << 40;
    auto spec = device::parse_device_spec("a=ram:64M");
    made.devices.push_back({*spec, "/run/somewhere", true, true, some_file()});
    made.slots = {"emulated"};
    made.mount.emplace();
    made.mount->options = some_options();
    made.mount->connection = some_file();
    made.mount->agreement = {{1, 2, 255}, {0, 128}};
    made.mount->remembered = {{base::InodeNo(7), 1ull << 33}};
    made.mount->opens = {{base::InodeNo(7), 1, 2, true, false, true}};
    made.mount->listings = {{9, {"", "no text \xff\xfe"}}};
    return made;
}

UniqueFd file_of(const std::vector<std::uint8_t>& bytes) {
    auto file = some_file();
    EXPECT_TRUE(sys::write_fully(file.get(), 0, bytes));
    return file;
}

Code refusal(const Json& json) {
    auto file = file_of(Json::to_cbor(json));
    const auto read = read_hand_over(file.release());
    EXPECT_FALSE(read);
    return read ? Code::Gone : read.error().code();
}

TEST(HandOver, IsReadAsItWasWritten) {
    auto file = write_hand_over(some_hand_over());
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_TRUE(is_inherited(file->get()));
    const auto read = read_hand_over(file->release());
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read->upgrades, 3u);
    EXPECT_EQ(read->last_event, 1ull << 40);
    ASSERT_EQ(read->devices.size(), 1u);
    const auto& device = read->devices[0];
    EXPECT_EQ(device.spec.name, "a");
    EXPECT_EQ(device.spec.size_bytes, 64u << 20);
    EXPECT_EQ(device.directory, "/run/somewhere");
    EXPECT_TRUE(device.is_private_mount && device.owns_directory);
    ASSERT_TRUE(read->mount);
    const auto& mount = *read->mount;
    EXPECT_EQ(mount.options.pool_name, "pool");
    EXPECT_EQ(mount.options.patience, std::chrono::milliseconds(1234));
    EXPECT_EQ(mount.agreement.request, (std::vector<std::uint8_t>{1, 2, 255}));
    EXPECT_EQ(mount.remembered[0].second, 1ull << 33);
    EXPECT_EQ(mount.opens[0].direct, 2u);
    EXPECT_TRUE(mount.opens[0].is_claimed);
    EXPECT_EQ(mount.listings[0].starts[1], "no text \xff\xfe");
    for (const auto* fd : {&read->run_dir, &read->listener, &device.lock, &mount.connection}) {
        ASSERT_TRUE(*fd);
        EXPECT_FALSE(is_inherited(fd->get())) << "the programs that it starts would have it";
    }
}

TEST(HandOver, WithoutAPoolItIsShort) {
    HandOver made;
    made.run_dir = some_file();
    auto file = write_hand_over(std::move(made));
    ASSERT_TRUE(file);
    const auto read = read_hand_over(file->release());
    ASSERT_TRUE(read);
    EXPECT_TRUE(read->devices.empty());
    EXPECT_FALSE(read->mount || read->listener);
}

TEST(HandOver, AnythingElseIsRefused) {
    EXPECT_FALSE(read_hand_over(-1));
    EXPECT_FALSE(read_hand_over(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
    EXPECT_FALSE(read_hand_over(file_of({}).release()));
    EXPECT_FALSE(read_hand_over(file_of({0xff, 0x00, 0x12}).release()));
    EXPECT_EQ(refusal(Json::array()), Code::Corrupt);
    EXPECT_EQ(refusal({{"format", kHandOverFormat + 1}}), Code::NotSupported);
    // Each field is missing once, and of another type once.
    const Json whole{{"format", kHandOverFormat}, {"run_dir", -1},  {"upgrades", 0},
                     {"last_event", 0},           {"listener", -1}, {"devices", Json::array()}};
    for (const auto& [name, value] : whole.items()) {
        if (name == "format") continue;
        auto without = whole;
        without.erase(name);
        EXPECT_EQ(refusal(without), Code::Corrupt) << name;
        auto other = whole;
        other[name] = name == "devices" ? Json{"text"} : Json("text");
        EXPECT_EQ(refusal(other), Code::Corrupt) << name;
    }
    auto with_mount = whole;
    with_mount["mount"] = {{"options", Json::object()}};
    EXPECT_EQ(refusal(with_mount), Code::Corrupt);
}

TEST(MountRecord, IsOfOnePoolAndGoesWithTheMount) {
    std::string run_dir = "/tmp/refault-record-XXXXXX";
    ASSERT_NE(::mkdtemp(run_dir.data()), nullptr);
    const auto pool = *base::Uuid::random(), other = *base::Uuid::random();
    const auto options = some_options();
    EXPECT_FALSE(load_mount_record(run_dir, pool)->has_value());
    ASSERT_TRUE(save_mount_record(run_dir, pool, &options));
    const auto loaded = load_mount_record(run_dir, pool);
    ASSERT_TRUE(loaded && *loaded);
    EXPECT_EQ((*loaded)->directory, "/mnt");
    EXPECT_TRUE((*loaded)->has_writeback);
    EXPECT_EQ((*loaded)->kernel_options, options.kernel_options);
    EXPECT_FALSE(load_mount_record(run_dir, other)->has_value());
    ASSERT_TRUE(save_mount_record(run_dir, pool, nullptr));
    EXPECT_FALSE(load_mount_record(run_dir, pool)->has_value());
    const auto path = run_dir + "/mount.json";
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(::write(file.get(), "{", 1), 1);
    EXPECT_EQ(load_mount_record(run_dir, pool).error().code(), Code::Corrupt);
    ::unlink(path.c_str());
    ::rmdir(run_dir.c_str());
}

}  // namespace
}  // namespace refault::daemon
