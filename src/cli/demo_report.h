// What the demo prints: a timeline as it goes, a table at the end; or one JSON document. Judges the
// promises.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/demo_state.h"

namespace refault::cli {

class DemoReport {
  public:
    explicit DemoReport(bool is_json) : is_json_(is_json) {}

    // One line of the timeline.
    void step(const std::string& text);
    void fail(const std::string& reason) { failures_.push_back(reason); }
    // Judges one client after its end: every record right, same address, no signal, clean exit.
    void add_client(std::size_t index, const DemoClientState& state, std::uint64_t records);
    // Prints the table or the document; the exit status.
    int finish();

    nlohmann::json removal = nlohmann::json::object();  // last status from the control API
    double pull_seconds = 0;
    std::string power;
    std::map<std::size_t, int> exits;  // wait status by client

  private:
    void print_table() const;

    const bool is_json_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    nlohmann::json timeline_ = nlohmann::json::array();
    nlohmann::json clients_ = nlohmann::json::array();
    std::vector<std::string> failures_;
};

}  // namespace refault::cli
