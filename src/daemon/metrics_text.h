// Metrics in Prometheus' text format 0.0.4. What it writes always holds: a family's HELP and TYPE
// stand before its samples, families and samples come once, and every byte is UTF-8, whatever names
// hold. Not thread-safe.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace refault::daemon {

class MetricsText {
  public:
    // The transport's Content-Type.
    static constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

    enum class Type { Gauge, Counter, Histogram };
    using Labels = std::vector<std::pair<std::string_view, std::string>>;

    // Begins a family; the samples that follow are its own. `name` ends with its unit, and a
    // counter's with _total.
    void family(std::string_view name, Type type, std::string_view help);
    void sample(double value, const Labels& labels = {});
    // A family of one sample.
    void gauge(std::string_view name, std::string_view help, double value);
    void counter(std::string_view name, std::string_view help, double value);
    // `upper_bounds` ascend; `counts` has one more, what is above them all.
    void histogram(std::string_view name, std::string_view help,
                   const std::vector<double>& upper_bounds,
                   const std::vector<std::uint64_t>& counts, double sum);

    const std::string& text() const noexcept { return text_; }

  private:
    void line(std::string_view suffix, double value, const Labels& labels);

    std::string text_;
    std::string name_;  // of the family under way
    std::set<std::string> families_;
    std::set<std::string> series_;  // of that family
};

}  // namespace refault::daemon
