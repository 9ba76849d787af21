// The rows that the demo has inserted into its database. What a row says follows from its number,
// so that what is read back can be held against what was acknowledged. Pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace refault::cli {

// Rows [first, end), numbered from 1.
struct DemoRows {
    std::uint64_t first = 1;
    std::uint64_t end = 1;

    std::uint64_t count() const { return end - first; }
};

inline constexpr std::uint64_t kRowTextBytes = 240;
std::string row_text(std::uint64_t row);

// One transaction: inserts the rows and removes those before `keep_from`.
std::string transaction_sql(const DemoRows& rows, std::uint64_t keep_from);

// What sqlite3 prints of a table, a line for each row; how many there are, and their checksum.
struct DemoTableSum {
    std::uint64_t rows = 0;
    std::uint32_t crc = 0;
    bool operator==(const DemoTableSum&) const = default;
};
DemoTableSum sum_of(const std::string& printed);
// Of what it has to print.
DemoTableSum sum_of(const DemoRows& rows);

}  // namespace refault::cli
