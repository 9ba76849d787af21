// The version of the programs and the library's sources, as CMakeLists.txt has it for the build.
#pragma once

namespace refault::base {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace refault::base
