// How failures and losses are put in words. Stateless.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace refault::cli {

// "1 file", "2 files", "2 copies".
std::string count_of(std::uint64_t number, const std::string& noun);
// One line on a part of a failure that has not happened.
std::string planned_part_line(const nlohmann::json& part);
// A record of a failure, to standard output.
void show_failure(const nlohmann::json& record);
std::string local_time(std::uint64_t ns);
std::string list_of(const nlohmann::json& numbers);

}  // namespace refault::cli
