// What the demo prints: a timeline as it goes and a table for each act; or one JSON document. Gives
// the verdict.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/demo_rules.h"
#include "cli/demo_state.h"

namespace refault::cli {

struct DemoRemoval {
    nlohmann::json status = nlohmann::json::object();  // the last one from the control API
    double seconds = 0;
    std::string power;  // the indicator
};

class DemoReport {
  public:
    explicit DemoReport(bool is_json) : is_json_(is_json) {}

    // One line of the timeline.
    void step(const std::string& text);
    void fail(const std::string& reason) { broken_.push_back(reason); }

    // First act. Judges one client after the pull: every record right, same address, no signal.
    void add_pull(std::size_t index, const DemoClientState& state, std::uint64_t records);
    void show_pull() const;
    // Second act. The rules are judged by the caller.
    void add_loss(const std::vector<DemoWitness>& witnesses, const nlohmann::json& failures,
                  const nlohmann::json& lost, const DemoState& state);
    void show_loss() const;
    // Third act. The rules are judged by the caller.
    void leave_out_database(const std::string& why) { database_ = {{"left_out", why}}; }
    void add_database(const std::string& path, const DemoDatabase& database,
                      const DemoRemoval& removed);
    void show_database() const;
    // One client after its end: a clean exit, every record right.
    void add_end(std::size_t index, const DemoClientState& state, std::uint64_t records);
    // Prints the verdict or the document; the exit status.
    int finish() const;

    DemoRemoval removal;               // of the first act
    std::map<std::size_t, int> exits;  // wait status by client

  private:
    void check_kept(std::size_t index, const DemoClientState& state, std::uint64_t records);

    const bool is_json_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    nlohmann::json timeline_ = nlohmann::json::array();
    nlohmann::json clients_ = nlohmann::json::array();  // after the pull
    nlohmann::json losers_ = nlohmann::json::array();   // after the loss
    nlohmann::json failures_ = nlohmann::json::array();
    nlohmann::json database_ = nlohmann::json::object();
    std::vector<std::string> broken_;
};

}  // namespace refault::cli
