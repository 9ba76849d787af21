// Lines, escapes and numbers of the text format.
#include "daemon/metrics_text.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace refault::daemon {

namespace {

const char* type_name(MetricsText::Type type) {
    switch (type) {
        case MetricsText::Type::Gauge:
            return "gauge";
        case MetricsText::Type::Counter:
            return "counter";
        case MetricsText::Type::Histogram:
            return "histogram";
    }
    return "untyped";
}

std::string as_utf8(const std::string& bytes) {
    using Json = nlohmann::json;
    return Json::parse(Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace))
        .get<std::string>();
}

std::string escaped(const std::string& value) {
    std::string text;
    for (const char c : as_utf8(value)) {
        if (c == '\n') {
            text += "\\n";
            continue;
        }
        if (c == '\\' || c == '"') text += '\\';
        text += c;
    }
    return text;
}

// Whole numbers as they are: bytes of a large pool have more digits than %g would show.
std::string number(double value) {
    char text[40];
    const bool is_whole = std::floor(value) == value && std::fabs(value) < 1e15;
    std::snprintf(text, sizeof text, is_whole ? "%.0f" : "%.17g", value);
    return text;
}

std::string short_number(double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

}  // namespace

void MetricsText::family(std::string_view name, Type type, std::string_view help) {
    CHECK(families_.emplace(name).second);
    CHECK(help.find_first_of("\\\n") == help.npos);
    CHECK((type == Type::Counter) == name.ends_with("_total"));
    name_ = name;
    series_.clear();
    text_ += "# HELP " + name_ + " " + std::string(help) + "\n# TYPE " + name_ + " " +
             type_name(type) + "\n";
}

void MetricsText::line(std::string_view suffix, double value, const Labels& labels) {
    CHECK(std::isfinite(value));
    std::string series = name_ + std::string(suffix);
    const char* before = "{";
    for (const auto& [key, text] : labels) {
        series += before + std::string(key) + "=\"" + escaped(text) + "\"";
        before = ",";
    }
    if (!labels.empty()) series += "}";
    // Names of things may come twice to a reader (made equal by as_utf8); the first one counts.
    if (!series_.insert(series).second) return;
    text_ += series + " " + number(value) + "\n";
}

void MetricsText::sample(double value, const Labels& labels) {
    line("", value, labels);
}

void MetricsText::gauge(std::string_view name, std::string_view help, double value) {
    family(name, Type::Gauge, help);
    sample(value);
}

void MetricsText::counter(std::string_view name, std::string_view help, double value) {
    family(name, Type::Counter, help);
    sample(value);
}

void MetricsText::histogram(std::string_view name, std::string_view help,
                            const std::vector<double>& upper_bounds,
                            const std::vector<std::uint64_t>& counts, double sum) {
    CHECK(counts.size() == upper_bounds.size() + 1);
    family(name, Type::Histogram, help);
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        below += counts[i];
        const auto bound =
            i < upper_bounds.size() ? short_number(upper_bounds[i]) : std::string("+Inf");
        line("_bucket", static_cast<double>(below), {{"le", bound}});
    }
    line("_sum", sum, {});
    line("_count", static_cast<double>(below), {});
}

}  // namespace refault::daemon
