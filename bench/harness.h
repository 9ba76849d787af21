// What the benches share: repeated timing, medians, a report for people or as JSON. A figure comes
// from the run that prints it; where there is an alternative, both are measured in turn in the same
// run and the ratio is given.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"

namespace refault::bench {

using Json = nlohmann::json;
using base::Result;
using base::Status;

struct Options {
    bool json = false;
    int runs = 5;  // counted runs; one more before them warms up
};

double now_s();
double median(std::vector<double> values);
// `part` from 0 to 1: 0.99 for the 99th percentile.
double percentile(std::vector<double> values, double part);
// Seconds that the action takes.
double time_s(const std::function<void()>& action);

class Report {
  public:
    Report(std::string name, const Options& options) : options_(options) {
        document_["bench"] = name;
        document_["runs"] = options.runs;
    }
    void input(const std::string& name, const Json& value);
    // One row; shown at once as a line of text unless --json.
    void row(const Json& fields);
    // What is to be reached and whether it was; does not change the exit status, since machines
    // differ.
    void target(const std::string& text, bool is_reached);
    void finish() const;

  private:
    const Options options_;
    Json document_ = Json::object();
};

Status run_mapped(const Options& options);
Status run_drain(const Options& options);
Status run_locate(const Options& options);
Status run_prove(const Options& options);
Status run_revoke(const Options& options);
Status run_yank(const Options& options);
Status run_persist(const Options& options);
Status run_refault(const Options& options);
Status run_mount(const Options& options);

// Child processes of benches, started as `refault-bench child-NAME arguments...`.
int run_drain_writer(const std::vector<std::string>& arguments);
int run_holder(const std::vector<std::string>& arguments);
int run_reader(const std::vector<std::string>& arguments);
int run_pmemobj(const std::vector<std::string>& arguments);
int run_toucher(const std::vector<std::string>& arguments);

}  // namespace refault::bench
