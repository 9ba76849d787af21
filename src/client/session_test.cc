// Files and mappings through the C API, as a program uses them.
#include "client/session.h"

#include <fcntl.h>

#include <filesystem>
#include <fstream>

#include "client/test_session.h"

namespace refault::client::testing {
namespace {

TEST_F(SessionTest, MappingShowsTheFileBothWays) {
    daemon_->write(kPath, 5 * kPartBytes + 3, std::vector<std::uint8_t>{42});
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    auto* const bytes = bytes_of(mapping);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(bytes) % base::kHugePageBytes, 0u);
    EXPECT_EQ(rf_length(mapping), kFileBytes);
    EXPECT_EQ(bytes[5 * kPartBytes + 3], 42);
    bytes[kFileBytes - 1] = 24;
    EXPECT_EQ(daemon_->read(kPath, kFileBytes - 1, 1)[0], 24);
    EXPECT_EQ(rf_unmap(mapping), 0);
    EXPECT_EQ(signal_of_read(bytes), SIGSEGV);
    EXPECT_TRUE(daemon_->mappings().empty());
}

TEST_F(SessionTest, MappingOfAPartBeginsThere) {
    daemon_->write(kPath, 3 * kPartBytes + base::kPageBytes, std::vector<std::uint8_t>{9});
    rf_mapping* const mapping = map(RF_READ, 3 * kPartBytes + base::kPageBytes, 2 * kPartBytes);
    ASSERT_NE(mapping, nullptr);
    EXPECT_EQ(bytes_of(mapping)[0], 9);
}

TEST_F(SessionTest, MoreThanOneMessageOfPlaces) {
    constexpr std::uint64_t kParts = 3 * wire::kPlacesMax + 5;
    daemon_->set_file(kPath, kParts * kPartBytes);
    // Each part in a segment of its own, so that none can be merged and each message is full of
    // descriptors.
    for (std::uint64_t i = 0; i < kParts; ++i) {
        daemon_->move(kPath, base::FileRange::of_length(i * kPartBytes, kPartBytes));
        daemon_->write(kPath, i * kPartBytes,
                       std::vector<std::uint8_t>{static_cast<std::uint8_t>(i)});
    }
    rf_mapping* const mapping = map(RF_READ | RF_WRITE, 0, kParts * kPartBytes);
    ASSERT_NE(mapping, nullptr);
    for (std::uint64_t i = 0; i < kParts; ++i)
        ASSERT_EQ(bytes_of(mapping)[i * kPartBytes], static_cast<std::uint8_t>(i)) << i;
}

TEST_F(SessionTest, NeighboursInOneSegmentAreOneMappingOfTheKernel) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    std::ifstream maps("/proc/self/maps");
    int segments = 0;
    for (std::string line; std::getline(maps, line);)
        segments += line.find(kSegmentName) != std::string::npos ? 1 : 0;
    EXPECT_EQ(segments, 1);
}

// The process holds no descriptor of a segment when everything is in place: it could reach the
// segment past a fence.
TEST_F(SessionTest, DescriptorsOfSegmentsAreClosed) {
    const auto count = [] {
        std::size_t open = 0;
        for ([[maybe_unused]] const auto& entry :
             std::filesystem::directory_iterator("/proc/self/fd"))
            ++open;
        return open;
    };
    const auto before = count();
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    daemon_->finish_move(kPath);  // the pager has reported, so it is done with the message
    EXPECT_EQ(count(), before);
}

TEST_F(SessionTest, ReadOnlyMappingFollowsTheFileAndCannotBeWritten) {
    rf_close(file_);
    open(RF_READ);
    rf_mapping* mapping = nullptr;
    EXPECT_EQ(rf_map(file_, 0, kFileBytes, RF_READ | RF_WRITE, &mapping), -EACCES);
    EXPECT_EQ(mapping, nullptr);
    mapping = map(RF_READ);
    ASSERT_NE(mapping, nullptr);
    auto* const bytes = bytes_of(mapping);
    for (std::uint8_t value = 1; value < 10; ++value) {
        daemon_->write(kPath, 7, std::vector<std::uint8_t>{value});
        EXPECT_EQ(bytes[7], value);
        daemon_->move(kPath, {0, kFileBytes});
        EXPECT_EQ(bytes[7], value);
    }
    EXPECT_EQ(signal_of_write(bytes), SIGSEGV);
}

TEST_F(SessionTest, BeyondTheEndIsSigbusUntilTheFileGrowsAndAgainWhenItShrinks) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE | RF_POPULATE, 0, 2 * kFileBytes);
    ASSERT_NE(mapping, nullptr);
    auto* const bytes = bytes_of(mapping);
    EXPECT_EQ(signal_of_read(bytes + kFileBytes - 1), 0);
    EXPECT_EQ(signal_of_read(bytes + kFileBytes), SIGBUS);
    ASSERT_EQ(rf_resize(file_, 2 * kFileBytes), 0);
    daemon_->finish_move(kPath);
    bytes[2 * kFileBytes - 1] = 1;
    EXPECT_EQ(daemon_->read(kPath, 2 * kFileBytes - 1, 1)[0], 1);
    ASSERT_EQ(rf_resize(file_, kFileBytes), 0);
    daemon_->finish_move(kPath);
    EXPECT_EQ(signal_of_read(bytes + kFileBytes), SIGBUS);
    EXPECT_EQ(signal_of_read(bytes + kFileBytes - 1), 0);
}

// Bit 63 of an entry of /proc/self/pagemap: the page table has it.
bool is_in_page_table(const volatile std::uint8_t* byte) {
    base::UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    std::array<std::uint8_t, 8> entry{};
    must(sys::read_fully(pagemap.get(),
                         reinterpret_cast<std::uintptr_t>(byte) / base::kPageBytes * 8, entry));
    return (entry[7] & 0x80) != 0;
}

TEST_F(SessionTest, PopulateFillsThePageTables) {
    for (const int access : {+RF_READ, RF_READ | RF_WRITE}) {
        rf_mapping* const lazy = map(access);
        rf_mapping* const ready = map(access | RF_POPULATE);
        ASSERT_TRUE(lazy != nullptr && ready != nullptr);
        for (std::uint64_t at = 0; at < kFileBytes; at += base::kPageBytes) {
            EXPECT_FALSE(is_in_page_table(bytes_of(lazy) + at));
            EXPECT_TRUE(is_in_page_table(bytes_of(ready) + at));
        }
    }
}

TEST_F(SessionTest, PersistTakesAnyRangeInsideTheMapping) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    auto* const begin = static_cast<std::uint8_t*>(rf_address(mapping));
    EXPECT_EQ(rf_persist(mapping, begin, kFileBytes), 0);
    EXPECT_EQ(rf_persist(mapping, begin + 5000, 1), 0);
    EXPECT_EQ(rf_persist(mapping, begin + kFileBytes, 0), 0);
    EXPECT_EQ(rf_persist(mapping, begin - 1, 1), -EINVAL);
    EXPECT_EQ(rf_persist(mapping, begin + kFileBytes, 1), -EINVAL);
    EXPECT_EQ(rf_persist(mapping, begin + 1, kFileBytes), -EINVAL);
    EXPECT_EQ(rf_persist(mapping, begin + 1, SIZE_MAX), -EINVAL);
    EXPECT_EQ(rf_persist(mapping, nullptr, 0), -EINVAL);
}

TEST_F(SessionTest, MappingOutlivesItsFile) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    ASSERT_EQ(rf_close(file_), 0);
    bytes_of(mapping)[0] = 1;
    daemon_->move(kPath, {0, kFileBytes});
    EXPECT_EQ(bytes_of(mapping)[0], 1);
    EXPECT_EQ(rf_unmap(mapping), 0);
}

TEST_F(SessionTest, DisconnectUnmapsEverything) {
    rf_mapping* const mapping = map(RF_READ | RF_WRITE);
    ASSERT_NE(mapping, nullptr);
    const auto* const bytes = bytes_of(mapping);
    rf_disconnect(session_);
    session_ = nullptr;
    EXPECT_EQ(signal_of_read(bytes), SIGSEGV);
    daemon_->wait_for_mappings(0);
}

TEST_F(SessionTest, TheDaemonsRefusalArrivesWithItsSentence) {
    EXPECT_EQ(rf_open(session_, "/none", RF_READ, &file_), -ENOENT);
    EXPECT_EQ(file_, nullptr);
    EXPECT_EQ(detail_of(session_), "there is no /none: create it");
    EXPECT_EQ(rf_create(session_, kPath, 0600, RF_EXCLUSIVE, &file_), -EEXIST);
    EXPECT_EQ(rf_create(session_, kPath, 0600, 0, &file_), 0);
    char small[6];
    EXPECT_EQ(rf_error_detail(session_, small, sizeof small),
              std::string("it exists: choose another").size());
    EXPECT_STREQ(small, "it ex");
}

TEST_F(SessionTest, MapThatIsRefusedLeavesNoAddressesBehind) {
    const auto count = [] {
        std::ifstream maps("/proc/self/maps");
        return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
    };
    daemon_->intercept([](const wire::Request& request) -> std::optional<wire::Reply> {
        if (!std::holds_alternative<wire::Map>(request)) return std::nullopt;
        wire::Reply reply;
        reply.error = ENOSPC;
        reply.message = "full";
        return reply;
    });
    rf_mapping* mapping = nullptr;
    ASSERT_EQ(rf_map(file_, 0, kFileBytes, RF_READ, &mapping), -ENOSPC);
    const auto before = count();
    for (int i = 0; i < 10; ++i)
        ASSERT_EQ(rf_map(file_, 0, kFileBytes, RF_READ, &mapping), -ENOSPC);
    EXPECT_LE(count(), before + 2);  // the heap may have grown
}

// Two pages of names, then what a careless daemon might send.
TEST_F(SessionTest, ListAsksForMoreUntilThereIsNoMore) {
    daemon_->intercept([](const wire::Request& request) -> std::optional<wire::Reply> {
        const auto* const list = std::get_if<wire::List>(&request);
        if (list == nullptr) return std::nullopt;
        wire::Reply reply;
        if (list->path == "/same") reply.entries = {{"a", {}}, {"a", {}}};
        if (list->path == "/endless") reply.has_more = true;
        if (list->path == "/" && list->after.empty()) {
            reply.entries = {{"a", {}}, {"b", {}}};
            reply.has_more = true;
        } else if (list->path == "/" && list->after == "b") {
            reply.entries = {{"c", {1, true, 0750, 2, 3, 4, 5, 6, 7}}};
        }
        return reply;
    });
    std::vector<std::pair<std::string, rf_stat>> seen;
    const auto visit = [](const char* name, const rf_stat* stat, void* context) {
        static_cast<decltype(seen)*>(context)->emplace_back(name, *stat);
        return std::string(name) == "stop" ? 5 : 0;
    };
    ASSERT_EQ(rf_list(session_, "/", visit, &seen), 0) << detail_of(session_);
    ASSERT_EQ(seen.size(), 3u);
    EXPECT_EQ(seen[0].first + seen[1].first + seen[2].first, "abc");
    const rf_stat& last = seen[2].second;
    EXPECT_EQ(last.inode, 1u);
    EXPECT_EQ(last.is_directory, 1);
    EXPECT_EQ(last.mode, 0750u);
    EXPECT_EQ(last.uid, 2u);
    EXPECT_EQ(last.gid, 3u);
    EXPECT_EQ(last.links, 4u);
    EXPECT_EQ(last.size_bytes, 5u);
    EXPECT_EQ(last.modified_ns, 6u);
    EXPECT_EQ(last.changed_ns, 7u);
    EXPECT_EQ(rf_list(session_, "/same", visit, &seen), -EBADMSG);
    EXPECT_EQ(rf_list(session_, "/endless", visit, &seen), -EBADMSG);
    int visited = 0;
    const auto stop = [](const char*, const rf_stat*, void* context) {
        return ++*static_cast<int*>(context) == 2 ? 7 : 0;
    };
    EXPECT_EQ(rf_list(session_, "/", stop, &visited), 7);
    EXPECT_EQ(visited, 2);
}

TEST_F(SessionTest, WithoutADaemonTheReasonSaysWhatToDo) {
    rf_session* session = nullptr;
    char detail[500] = "";
    EXPECT_EQ(rf_connect("/tmp/refault-no-such.sock", &session, detail, sizeof detail), -ENOENT);
    EXPECT_EQ(session, nullptr);
    EXPECT_NE(std::string(detail).find("start refaultd"), std::string::npos) << detail;
    ASSERT_EQ(::setenv("REFAULT_SOCKET", daemon_->socket_path().c_str(), 1), 0);
    rf_disconnect(session_);
    session_ = nullptr;
    EXPECT_EQ(rf_connect(nullptr, &session_, nullptr, 0), 0);
    EXPECT_STREQ(rf_pool_name(session_), "test-pool");
    ::unsetenv("REFAULT_SOCKET");
}

}  // namespace
}  // namespace refault::client::testing
