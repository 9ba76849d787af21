// Parts that all commands share.
#include "cli/command.h"

#include <gtest/gtest.h>

namespace refault::cli {
namespace {

TEST(Command, NamesCannotSpeakToTheTerminal) {
    EXPECT_EQ(printable("/plain name-\xc3\xa9"), "/plain name-\xc3\xa9");
    EXPECT_EQ(printable("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
    EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
    EXPECT_EQ(printable(""), "");
}

TEST(Command, UrlEncodingKeepsEveryByte) {
    EXPECT_EQ(url_encode("/a-b_c.d~9"), "/a-b_c.d~9");
    EXPECT_EQ(url_encode("a b&c=d?e#f%"), "a%20b%26c%3Dd%3Fe%23f%25");
    EXPECT_EQ(url_encode(std::string_view("\0\xff+", 3)), "%00%FF%2B");
}

TEST(Command, NoDaemonIsSaidWithWhatToDo) {
    Context context;
    context.run_dir = "/tmp/refault-no-such-directory";
    auto answer = context.client().get("/v1/status");
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), base::Code::NotFound);
    EXPECT_NE(answer.error().message().find("refaultd --run-dir /tmp/refault-no-such-directory"),
              std::string::npos);
    context.socket = "/tmp/refault-no-such-socket";
    EXPECT_NE(
        context.client().get("/v1/status").error().message().find("/tmp/refault-no-such-socket"),
        std::string::npos);
}

}  // namespace
}  // namespace refault::cli
