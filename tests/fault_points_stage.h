// What the tests of fault points share: a pool with programs that use it, the point at which
// something is to happen, the ways that lead to each point of the table (failure/fault_points.h),
// and the promises that are kept whatever happens there.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/range.h"
#include "failure/fault_points.h"
#include "tests/loss_support.h"

namespace refault::failure {

// For gtest's messages.
inline void PrintTo(const FaultPointInfo& point, std::ostream* to) {
    *to << point.name;
}

}  // namespace refault::failure

namespace refault::tests {

// What programs have stored everywhere.
inline constexpr unsigned kStageValue = 7;

// The table's name of it, as gtest takes names.
std::string test_name_of(const failure::FaultPointInfo& point);

// Four devices, a file of two copies and two of one, each mapped by a writer and a reader.
class Stage {
  public:
    using Action = failure::FaultPoints::Action;
    struct Programs {
        std::unique_ptr<Mapper> writer;
        std::unique_ptr<Mapper> reader;
        std::string address;
    };

    // The point's step fails so many times, or the daemon is killed there.
    Stage(const failure::FaultPointInfo& point, unsigned times, Action action = Action::Fail);

    Pool& pool() { return *pool_; }
    unsigned times() const { return times_; }
    Mapper& writer(const std::string& path) { return *programs_.at(path).writer; }
    std::map<std::string, Programs>& programs() { return programs_; }
    // One more file that is mapped like the others.
    void add_programs(const std::string& path);
    // Those have ended, or do not matter any more.
    void forget_programs(const std::string& path) { programs_.erase(path); }
    std::string device_of(const std::string& path, unsigned replica = 0) {
        return place_of(*pool_, path, 0, replica).device;
    }
    void add_device(const std::string& name);
    std::string directory_of(const std::string& device) const;

    void arm();
    // Everything that was armed has happened.
    bool is_reached();
    // The daemon has died of SIGKILL, which the kernel says.
    bool is_killed() const;
    // To a daemon that may be killed before it answers: {} then.
    Json ask(const std::string& target, const Json& body);
    Json look(const std::string& target);
    // Another daemon takes what is left of the devices, in the same run directory.
    void start_again();

    // Everything that was armed has happened, and the pool has got over it.
    void settle();
    // Else a loss of the primary holds the writer back from all of the region.
    void wait_until_clean();
    // What is to be lost of the file.
    void lose(const std::string& path, base::FileRange range) { lost_[path] = range; }
    base::FileRange lost_of(const std::string& path) const {
        return lost_.contains(path) ? lost_.at(path) : base::FileRange(0, 0);
    }
    // All files of the device are gone: the next daemon cannot be given it.
    void tear_out(const std::string& device);
    const std::set<std::string>& torn_out() const { return torn_out_; }

    // Another hand pulls, as often as it takes.
    void pull(const std::string& device);
    const std::string& last_pulled() const { return last_pulled_; }
    // The promises: exactly what was to be lost is, everything else is there, where it was.
    void check();

  private:
    bool has_failed();
    void check_lost();

    const failure::FaultPointInfo point_;
    const unsigned times_;
    const Action action_;
    TemporaryDirectory directory_;
    std::vector<std::string> devices_;
    std::set<std::string> torn_out_;
    std::string last_pulled_;
    std::unique_ptr<Pool> pool_;
    std::map<std::string, Programs> programs_;
    std::map<std::string, base::FileRange> lost_;
};

// Arms the point and does what leads to the step.
void lead_to(failure::FaultPoint point, Stage& stage);
// Where the pool's metadata lies, one of the places.
Place place_of_metadata(Pool& pool);

// The file of one copy that lies on the device "e", which is there to be detached.
inline constexpr const char* kLeavingFile = "/leaving";
// As often as it takes.
void detach(Stage& stage);

}  // namespace refault::tests
