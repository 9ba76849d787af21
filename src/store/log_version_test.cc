// Pools of older log versions open, also without any header, and are of the newest version from
// then on; what is too old or too new is refused.
#include <gtest/gtest.h>

#include "store/log_record.h"
#include "store/test_log.h"

namespace refault::store {
namespace {

using namespace testing;

class LogVersion : public ::testing::Test {
  protected:
    void SetUp() override {
        pool.create(2);
        file = pool.make_file("/f", 50'000);
        ASSERT_TRUE(pool->rename("/f", "/g", root()).ok());
        pool.close();
    }

    std::vector<DevicePtr> devices() const { return open_all(pool.directory()); }

    // Frames all records of all copies anew.
    void reframe(std::uint32_t version, bool has_header = true) {
        for (const auto& device : devices()) {
            const auto label = device->label();
            if (label.metadata_segments.empty()) continue;
            CopyBytes copy(device);
            const LogFrame from(label.pool, label.metadata_epoch);
            const LogFrame to(label.pool, label.metadata_epoch, version);
            Bytes stream = to.header();
            for (std::uint64_t sequence = 0;;) {
                const auto record = from.parse(copy.bytes, stream.size(), sequence);
                if (!record) break;
                const Bytes payload(record->payload.begin(), record->payload.end());
                sequence = record->sequence;
                to.append(stream, stream.size(), sequence, record->kind, payload);
            }
            ASSERT_GT(stream.size(), kLogHeaderBytes);
            if (!has_header) std::fill_n(stream.begin(), kLogHeaderBytes, std::uint8_t{0});
            std::copy(stream.begin(), stream.end(), copy.bytes.begin());
            copy.store();
            ++reframed;
        }
    }
    void expect_whole() {
        const auto opened = pool.open();
        ASSERT_TRUE(opened.ok()) << opened.error().message();
        EXPECT_EQ(pool->stat("/g", root())->inode, file);
        EXPECT_EQ(pool.content(file), TestPool::pattern(file, 50'000));
        pool.expect_sound();
        pool.close();
    }

    TestPool pool;
    InodeNo file;
    int reframed = 0;
};

TEST_F(LogVersion, TheOldestIsReadAndWrittenAsTheNewest) {
    reframe(kLogVersionOldest);
    EXPECT_EQ(reframed, 2);
    expect_whole();
    for (const auto& device : devices()) {
        const auto label = device->label();
        const LogFrame newest(label.pool, label.metadata_epoch);
        EXPECT_TRUE(newest.check_header(CopyBytes(device).bytes).ok());
    }
    expect_whole();
}

TEST_F(LogVersion, RecordsSayTheirVersionWhereNoHeaderDoes) {
    reframe(kLogVersionOldest, /*has_header=*/false);
    expect_whole();
    reframe(kLogVersion, /*has_header=*/false);
    expect_whole();
}

TEST_F(LogVersion, OthersAreRefused) {
    reframe(kLogVersionOldest - 1);
    const auto old = pool.open();
    ASSERT_FALSE(old.ok());
    EXPECT_EQ(old.error().code(), base::Code::NotSupported);
    EXPECT_NE(old.error().message().find("older refault"), std::string::npos);
}

TEST_F(LogVersion, NewerOnesAreRefused) {
    reframe(kLogVersion + 1);
    const auto newer = pool.open();
    ASSERT_FALSE(newer.ok());
    EXPECT_EQ(newer.error().code(), base::Code::NotSupported);
}

}  // namespace
}  // namespace refault::store
