// CHECK: the assertion for what only a bug of ours can break. It stays on in release builds and
// aborts with its place. Never use it for media bytes, sockets or user input: those give an Error
// (base/result.h).
#pragma once

namespace refault::base {

[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace refault::base

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) [[unlikely]]                                                     \
            ::refault::base::check_failed(#condition, __builtin_FILE(), __builtin_LINE()); \
    } while (false)
