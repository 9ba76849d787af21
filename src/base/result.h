// The one error type and the one result type of the project. No exception crosses an interface of
// ours.
//
// An Error has a code from a closed set (what kind of failure, what a caller may decide on), the
// errno that a system call gave if there was one, and a message that tells a person what happened
// and what to do about it. Value types: no thread rules.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace refault::base {

enum class Code {
    Invalid,       // the caller's argument is wrong
    NotFound,      // no such pool, device, path, session
    Exists,        // the name is taken
    Denied,        // permissions
    NoSpace,       // the pool or a device cannot hold it
    Busy,          // in use, or an operation is under way
    Cancelled,     // stopped on request
    TimedOut,      // a limit of time was reached
    NotSupported,  // this kernel, filesystem or build cannot do it
    Corrupt,       // bytes on media or on the wire do not pass their checks
    Io,            // a device or system call failed
    Gone,          // the peer or the process is not there any more
};

std::string_view code_name(Code code) noexcept;
// The errno that stands for a code where only an errno can be given (C API, wire).
int code_to_errno(Code code) noexcept;
// The nearest code for an errno.
Code errno_to_code(int sys_errno) noexcept;

class [[nodiscard]] Error {
  public:
    Error(Code code, std::string message, int sys_errno = 0)
        : code_(code), sys_errno_(sys_errno), message_(std::move(message)) {}

    Code code() const noexcept { return code_; }
    // The errno kept from the failing system call, or that of the code.
    int sys_errno() const noexcept { return sys_errno_ != 0 ? sys_errno_ : code_to_errno(code_); }
    const std::string& message() const noexcept { return message_; }
    // The same error with "context: " put before the message.
    Error within(std::string_view context) const;

  private:
    Code code_;
    int sys_errno_;
    std::string message_;
};

// An Error from the current errno: "what: strerror". Call it at once after the system call.
Error sys_error(std::string_view what);
// The same for an errno value in hand.
Error sys_error(std::string_view what, int sys_errno);

template <typename T>
class [[nodiscard]] Result {
  public:
    Result(T value)
        : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit on purpose
    Result(Error error)
        : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit on purpose

    bool ok() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    T& value() & {
        CHECK(ok());
        return *std::get_if<0>(&state_);
    }
    const T& value() const& {
        CHECK(ok());
        return *std::get_if<0>(&state_);
    }
    T value() && {
        CHECK(ok());
        return std::move(*std::get_if<0>(&state_));
    }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }
    const Error& error() const {
        CHECK(!ok());
        return *std::get_if<1>(&state_);
    }

  private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit on purpose

    bool ok() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    const Error& error() const {
        CHECK(!ok());
        return *error_;
    }

  private:
    std::optional<Error> error_;
};

using Status = Result<void>;

// Says that an error is dropped on purpose, and why.
template <typename T>
void discard(const Result<T>&, const char* /*why*/) noexcept {}

}  // namespace refault::base

// Returns the error of `expression` (a Result) from the enclosing function, if it is one.
#define RETURN_IF_ERROR(expression)                                        \
    do {                                                                   \
        if (auto result_ = (expression); !result_) return result_.error(); \
    } while (false)
