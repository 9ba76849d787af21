// Text, SQL and checksums of rows.
#include "cli/demo_rows.h"

#include <algorithm>
#include <cstdio>

#include "base/crc32c.h"

namespace refault::cli {

namespace {

// splitmix64: rows with numbers that are close have nothing in common.
std::uint64_t scramble(std::uint64_t value) {
    value += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

std::uint32_t crc_of(const std::string& text, std::uint32_t seed) {
    return base::crc32c({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, seed);
}

}  // namespace

std::string row_text(std::uint64_t row) {
    std::string text;
    text.reserve(kRowTextBytes);
    for (std::uint64_t word = row; text.size() < kRowTextBytes;) {
        word = scramble(word);
        char digits[17];
        std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(word));
        text += digits;
    }
    return text;
}

std::string transaction_sql(const DemoRows& rows, std::uint64_t keep_from) {
    std::string sql = "BEGIN IMMEDIATE; INSERT INTO rows VALUES";
    for (std::uint64_t row = rows.first; row < rows.end; ++row)
        sql += (row == rows.first ? "(" : ",(") + std::to_string(row) + ",'" + row_text(row) + "')";
    sql += ";";
    if (keep_from > 1) sql += " DELETE FROM rows WHERE id<" + std::to_string(keep_from) + ";";
    return sql + " COMMIT;";
}

DemoTableSum sum_of(const std::string& printed) {
    return {static_cast<std::uint64_t>(std::count(printed.begin(), printed.end(), '\n')),
            crc_of(printed, 0)};
}

DemoTableSum sum_of(const DemoRows& rows) {
    DemoTableSum sum;
    for (std::uint64_t row = rows.first; row < rows.end; ++row, ++sum.rows)
        sum.crc = crc_of(std::to_string(row) + "|" + row_text(row) + "\n", sum.crc);
    return sum;
}

}  // namespace refault::cli
