// When the journal is written to, and what the entries hold.
#include "daemon/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace refault::daemon {
namespace {

using ::testing::ElementsAre;

TEST(Journal, IsWhereTheVariableAndTheDescriptorAgree) {
    std::FILE* file = std::tmpfile();
    ASSERT_NE(file, nullptr);
    const int fd = ::fileno(file);
    struct stat status {};
    ASSERT_EQ(::fstat(fd, &status), 0);
    const auto right = std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
    EXPECT_TRUE(is_journal_stream(fd, right.c_str()));
    EXPECT_FALSE(is_journal_stream(fd, (right + "1").c_str()));
    EXPECT_FALSE(is_journal_stream(fd, ""));
    EXPECT_FALSE(is_journal_stream(fd, nullptr));
    EXPECT_FALSE(is_journal_stream(-1, right.c_str()));
    std::fclose(file);
}

TEST(Journal, ALineHasItsPriority) {
    EXPECT_THAT(journal_fields(base::LogLevel::Error, "a\nb"),
                ElementsAre("MESSAGE=a\nb", "PRIORITY=3", "SYSLOG_IDENTIFIER=refaultd"));
    EXPECT_EQ(journal_fields(base::LogLevel::Warning, "x")[1], "PRIORITY=4");
    EXPECT_EQ(journal_fields(base::LogLevel::Info, "x")[1], "PRIORITY=6");
}

TEST(Journal, AnEventHasItsFields) {
    const EventLog::Numbered event{7,
                                   {},
                                   {"file-range-lost",
                                    {{"device", std::string("a")},
                                     {"inode", std::uint64_t(12)},
                                     {"was_open", true},
                                     {"paths", std::vector<std::string>{"/x", "/y=z"}}}}};
    EXPECT_THAT(
        journal_fields(event),
        ElementsAre(
            "MESSAGE=file-range-lost device=a inode=12 was_open=true paths=[\"/x\",\"/y=z\"]",
            "PRIORITY=3", "SYSLOG_IDENTIFIER=refaultd", "REFAULT_EVENT=file-range-lost",
            "REFAULT_SEQ=7", "REFAULT_DEVICE=a", "REFAULT_INODE=12", "REFAULT_WAS_OPEN=true",
            "REFAULT_PATHS=/x", "REFAULT_PATHS=/y=z"));
}

TEST(Journal, NobodyFollowsWhereStderrIsNoJournal) {
    EventLog events;
    EXPECT_EQ(follow_in_journal(events), nullptr);
}

}  // namespace
}  // namespace refault::daemon
