// A strict reader of Prometheus' text format 0.0.4, for tests: what it takes, every scraper takes.
// It wants more than the format does: HELP and TYPE of every family, and finite values.
#pragma once

#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace refault::daemon {

class ParsedMetrics {
  public:
    struct Family {
        std::string type;
        std::string help;
    };

    // Stops at the first thing that is wrong.
    explicit ParsedMetrics(const std::string& text) {
        if (text.empty() || text.back() != '\n') error_ = "the last line has no end";
        for (std::size_t at = 0; at < text.size() && error_.empty();) {
            const auto end = text.find('\n', at);
            line_ = text.substr(at, end - at);
            if (const std::string wrong = read_line(); !wrong.empty())
                error_ = wrong + ": " + line_;
            at = end + 1;
        }
        if (error_.empty() && !has_type_) error_ = "HELP without TYPE at the end";
        if (error_.empty()) check_histograms();
    }

    const std::string& error() const { return error_; }
    const std::map<std::string, Family>& families() const { return families_; }
    // By the whole series, as in `name{key="value"}`, escapes as written.
    const std::map<std::string, double>& samples() const { return samples_; }
    std::optional<double> value(const std::string& series) const {
        const auto at = samples_.find(series);
        return at == samples_.end() ? std::nullopt : std::optional(at->second);
    }

  private:
    std::string read_line() {
        if (line_.starts_with("# HELP ")) return read_help(std::string_view(line_).substr(7));
        if (line_.starts_with("# TYPE ")) return read_type(std::string_view(line_).substr(7));
        if (line_.empty() || line_[0] == '#') return "neither HELP, TYPE nor a sample";
        return read_sample();
    }

    static bool is_name(std::string_view name) {
        if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
        return name.find_first_not_of(
                   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == name.npos;
    }

    std::string read_help(std::string_view rest) {
        if (!has_type_) return "HELP follows HELP";
        const auto space = rest.find(' ');
        if (space == rest.npos || space + 1 == rest.size()) return "no text of help";
        current_ = rest.substr(0, space);
        if (!is_name(current_)) return "no name of a metric";
        has_type_ = false;
        if (!families_.emplace(current_, Family{"", std::string(rest.substr(space + 1))}).second)
            return "a family comes twice";
        return {};
    }

    std::string read_type(std::string_view rest) {
        const auto space = rest.find(' ');
        if (has_type_ || space == rest.npos || rest.substr(0, space) != current_)
            return "TYPE does not follow its HELP";
        const auto type = rest.substr(space + 1);
        if (type != "gauge" && type != "counter" && type != "histogram") return "unknown type";
        if ((type == "counter") != current_.ends_with("_total"))
            return "counters, and only these, end with _total";
        families_[current_].type = type;
        has_type_ = true;
        return {};
    }

    // {key="value",...}: the position behind it; npos when it is not well formed.
    std::size_t skip_labels(std::size_t at) const {
        std::set<std::string> keys;
        for (++at;; ++at) {
            const auto equals = line_.find("=\"", at);
            if (equals == line_.npos) return line_.npos;
            const auto key = line_.substr(at, equals - at);
            if (!is_name(key) || !keys.insert(key).second) return line_.npos;
            for (at = equals + 2; at < line_.size() && line_[at] != '"'; ++at) {
                if (line_[at] != '\\') continue;
                ++at;
                if (at >= line_.size() ||
                    (line_[at] != '\\' && line_[at] != '"' && line_[at] != 'n'))
                    return line_.npos;
            }
            if (++at >= line_.size()) return line_.npos;
            if (line_[at] == '}') return at + 1;
            if (line_[at] != ',') return line_.npos;
        }
    }

    std::string read_sample() {
        auto end = line_.find_first_of("{ ");
        if (end == line_.npos) return "a sample without a value";
        const auto name = line_.substr(0, end);
        if (!is_name(name)) return "no name of a metric";
        if (!belongs(name)) return "the sample is not of the family above";
        if (line_[end] == '{') end = skip_labels(end);
        if (end == line_.npos || end + 1 >= line_.size() || line_[end] != ' ')
            return "labels are not well formed";
        const auto text = line_.substr(end + 1);
        char* rest = nullptr;
        const double value = std::strtod(text.c_str(), &rest);
        if (*rest != '\0' || !std::isfinite(value) || text[0] == ' ') return "no finite value";
        if (families_[current_].type != "gauge" && value < 0) return "a counter below zero";
        if (!samples_.emplace(line_.substr(0, end), value).second) return "a sample comes twice";
        return {};
    }

    bool belongs(const std::string& name) const {
        if (!has_type_ || current_.empty()) return false;
        if (families_.at(current_).type != "histogram") return name == current_;
        return name == current_ + "_bucket" || name == current_ + "_sum" ||
               name == current_ + "_count";
    }

    void check_histograms() {
        for (const auto& [name, family] : families_) {
            if (family.type != "histogram") continue;
            const auto count = value(name + "_count");
            if (!count || !value(name + "_sum") || count != value(name + "_bucket{le=\"+Inf\"}"))
                error_ = name + " is no whole histogram";
        }
    }

    std::string line_;
    std::string current_;
    bool has_type_ = true;
    std::string error_;
    std::map<std::string, Family> families_;
    std::map<std::string, double> samples_;
};

}  // namespace refault::daemon
