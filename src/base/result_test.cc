// Errors keep what they were made from, and the tables between codes and errno are total.
#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>

namespace refault::base {
namespace {

// A code added to the enum without a line here fails EveryCodeIsListed.
constexpr Code kCodes[] = {Code::Invalid,      Code::NotFound, Code::Exists,    Code::Denied,
                           Code::NoSpace,      Code::Busy,     Code::Cancelled, Code::TimedOut,
                           Code::NotSupported, Code::Corrupt,  Code::Io,        Code::Gone};

TEST(Result, EveryCodeIsListed) {
    ASSERT_EQ(std::size(kCodes), static_cast<std::size_t>(Code::Gone) + 1);
    std::set<std::string_view> names;
    std::set<int> numbers;
    for (const Code code : kCodes) {
        EXPECT_NE(code_name(code), "unknown");
        names.insert(code_name(code));
        numbers.insert(code_to_errno(code));
    }
    EXPECT_EQ(names.size(), std::size(kCodes)) << "two codes have one name";
    EXPECT_EQ(numbers.size(), std::size(kCodes)) << "two codes have one errno";
}

TEST(Result, CodesSurviveAsErrno) {
    for (const Code code : kCodes)
        EXPECT_EQ(errno_to_code(code_to_errno(code)), code) << code_name(code);
}

TEST(Result, EveryErrnoHasACode) {
    EXPECT_EQ(errno_to_code(EPERM), Code::Denied);
    EXPECT_EQ(errno_to_code(ENOMEM), Code::NoSpace);
    EXPECT_EQ(errno_to_code(ESRCH), Code::Gone);
    EXPECT_EQ(errno_to_code(EAGAIN), Code::Busy);
    EXPECT_EQ(errno_to_code(ELOOP), Code::Invalid);
    EXPECT_EQ(errno_to_code(ENOSYS), Code::NotSupported);
    for (int number = -1; number < 5000; ++number)
        EXPECT_NE(code_name(errno_to_code(number)), "unknown") << number;
}

TEST(Result, SysErrorKeepsErrno) {
    errno = ENOENT;
    const Error error = sys_error("open x");
    EXPECT_EQ(error.code(), Code::NotFound);
    EXPECT_EQ(error.sys_errno(), ENOENT);
    EXPECT_EQ(error.message(), "open x: No such file or directory");
    EXPECT_EQ(sys_error("y", EROFS).sys_errno(), EROFS) << "the code alone would say EACCES";
}

TEST(Result, ErrorWithoutErrnoGivesThatOfItsCode) {
    EXPECT_EQ(Error(Code::Busy, "x").sys_errno(), EBUSY);
}

TEST(Result, WithinPutsTheContextFirst) {
    const Error error = Error(Code::Io, "read failed", EREMOTEIO).within("device a");
    EXPECT_EQ(error.message(), "device a: read failed");
    EXPECT_EQ(error.code(), Code::Io);
    EXPECT_EQ(error.sys_errno(), EREMOTEIO);
}

TEST(Result, HoldsAValueOrAnError) {
    Result<int> good = 7;
    ASSERT_TRUE(good);
    EXPECT_EQ(*good, 7);
    const Result<int> bad = Error(Code::Gone, "left");
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code(), Code::Gone);
}

TEST(Result, MovesOutWhatCannotBeCopied) {
    Result<std::unique_ptr<int>> made = std::make_unique<int>(3);
    const std::unique_ptr<int> taken = std::move(made).value();
    EXPECT_EQ(*taken, 3);
}

Status fail_on(bool is_bad, int& calls) {
    ++calls;
    if (is_bad) return Error(Code::Invalid, "bad");
    return {};
}

Result<int> two_steps(bool is_first_bad, int& calls) {
    RETURN_IF_ERROR(fail_on(is_first_bad, calls));
    RETURN_IF_ERROR(fail_on(false, calls));
    return calls;
}

TEST(Result, ReturnIfErrorStopsAtTheFirstError) {
    int calls = 0;
    EXPECT_EQ(two_steps(true, calls).error().message(), "bad");
    EXPECT_EQ(calls, 1);
    calls = 0;
    EXPECT_EQ(*two_steps(false, calls), 2);
}

TEST(ResultDeathTest, TakingTheValueOfAnErrorEndsTheProcess) {
    const Result<int> bad = Error(Code::Io, "x");
    EXPECT_DEATH((void)bad.value(), "internal error: CHECK");
    const Status good;
    EXPECT_DEATH((void)good.error(), "internal error: CHECK");
}

}  // namespace
}  // namespace refault::base
