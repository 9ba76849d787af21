// The outside hand, and the daemon's word on what it did.
#include "cli/demo_harm.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/pull_text.h"

namespace refault::cli {

using base::Result;
using base::Status;

namespace {

constexpr double kCopiesLimitS = 60;
constexpr double kLostLimitS = 20;

// Every file of the device is cut to nothing and unlinked. The label
// goes first: while it is there, a device that loses one file after the other is a device with bad
// segments, and stays in use.
Result<std::size_t> destroy_device(const std::string& directory) {
    std::vector<std::filesystem::path> label, segments;
    std::error_code failure;
    for (const auto& entry : std::filesystem::directory_iterator(directory, failure)) {
        const bool is_segment = entry.path().filename().string().starts_with("seg-");
        (is_segment ? segments : label).push_back(entry.path());
    }
    if (failure) return base::sys_error("cannot read " + directory, failure.value());
    for (const auto& files : {label, segments})
        for (const auto& file : files)
            // The pool may be quicker: it drops what is left of a device that it has given up.
            if ((::truncate(file.c_str(), 0) != 0 || ::unlink(file.c_str()) != 0) &&
                errno != ENOENT)
                return base::sys_error("cannot destroy " + file.string());
    return segments.size();
}

}  // namespace

Status poison_page(DemoStage& stage, const DemoPage& page, const std::string& outcome) {
    auto record = stage.control().post("/v1/devices/" + page.device + "/fail",
                                       {{"offset", page.device_offset}, {"length", kRecordBytes}});
    if (!record) return record.error();
    const auto& parts = (*record)["parts"];
    if (parts.size() != 1 || parts[0].value("path", "") != page.path ||
        parts[0].value("outcome", "") != outcome ||
        parts[0].value("file_begin", 0ull) != page.file_offset ||
        parts[0].value("file_end", 0ull) != page.file_offset + kRecordBytes)
        stage.report().fail("a bad page of " + page.path + " is not " + outcome + ": " +
                            parts.dump());
    stage.report().step("a page of " + page.device + " goes bad, under " + page.path + ": " +
                        outcome + ", unmapped after " + ms_or_dash((*record)["unmapped_ms"]));
    return {};
}

Status tear_out(DemoStage& stage, const std::string& device, const std::string& cost) {
    const std::string target = "/v1/devices/" + device;
    auto answer = stage.control().get(target);
    if (!answer) return answer.error();
    const auto destroyed = destroy_device(answer->value("directory", ""));
    if (!destroyed) return destroyed.error();
    stage.report().step(device + " is torn out: " + std::to_string(*destroyed) +
                        " segment files are gone, and with them " + cost);
    answer = stage.wait_for_answer(
        target, kLostLimitS, [](const Json& now) { return now.value("state", "") == "lost"; });
    if (!answer) return answer.error();
    stage.report().step("the pool has noticed and goes on without " + device);
    return {};
}

Status wait_for_resync(DemoStage& stage) {
    auto idle = stage.wait_for_answer("/v1/resync", kCopiesLimitS, [](const Json& resync) {
        return !resync.value("is_running", true) && resync.value("short_bytes", 1ull) == 0 &&
               resync.value("files_left", 1ull) == 0;
    });
    if (!idle) return idle.error();
    return {};
}

}  // namespace refault::cli
