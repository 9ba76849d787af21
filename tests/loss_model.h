// What the pool promises about every page of a file while memory fails under it: the model that
// the random loss test holds real processes against. It knows sets of values, not single ones,
// where a promise leaves a choice:
//
//   now      what a load may give            {last stored}, after a loss of the primary: copies
//   copies   what another copy may hold      {last persisted} and everything stored since
//
// Knows nothing of processes or daemons. Not thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace refault::tests {

enum class Loss { None, Maybe, Certain };

struct ModelPage {
    std::set<unsigned> now{0};
    std::set<unsigned> copies{0};
    Loss loss = Loss::None;
    // Clients with stores that nobody has persisted: the last of each, and what anybody stored
    // since.
    std::map<int, std::set<unsigned>> dirty_by;
    std::set<pid_t> told;  // of the loss
    bool is_told_unsure = false;

    void become(unsigned value);  // on all copies, lost or not
};

struct ModelFile {
    std::string path;
    unsigned replicas = 1;
    bool rolls_back = false;
    std::vector<ModelPage> pages;
};

// A mapping of a whole file by one process.
struct ModelClient {
    int id = 0;
    bool writes = false;
    bool rolls_back = false;
    std::size_t pages = 0;       // mapped; the file may be shorter or longer by now
    std::set<std::size_t> held;  // pages that may be stale for it
};

// What an access said: "ok VALUE", "ok", "sigbus CODE OFFSET LSB", "mixed" ...
struct Access {
    std::string answer;
    std::string why;  // after a SIGBUS, by rf_try: "lost", "stale", ""
    bool is_ok() const { return answer.starts_with("ok"); }
};

// How a failure meets one page.
struct Hit {
    bool is_exact = false;  // the places were known and nothing was moving
    bool is_hit = false;
    bool is_primary = false;
    int copies_left = 0;  // at the least
};

class LossModel {
  public:
    // Empty when the answer keeps the promises; else what is wrong. is_shaky: a failure is under
    // way, so that a value seen now need not be the one seen next.
    std::string loaded(ModelFile& file, ModelClient& client, std::size_t page, pid_t pid,
                       const Access& access, bool is_shaky);
    std::string stored(ModelFile& file, ModelClient& client, std::size_t page, unsigned value,
                       pid_t pid, const Access& access, bool is_shaky);
    void persisted(ModelFile& file, std::size_t page, bool is_shaky);
    // By the daemon, on every copy.
    void overwritten(ModelFile& file, std::size_t page, unsigned value, bool is_sure);
    void resized(ModelFile& file, std::size_t pages, bool is_shaky);
    // Accepted, or remapped. Held back again at once by a failure that is under way.
    void forgiven(ModelFile& file, ModelClient& client, std::size_t page, bool is_shaky);

    // `writers` map the file.
    void failed(ModelFile& file, std::size_t page, const Hit& hit,
                const std::vector<ModelClient*>& writers);
    // The device that had it when it was lost is there again: with what it held, or not, when that
    // was dropped or replaced meanwhile.
    void returned(ModelFile& file, std::size_t page);
    // GET /v1/lost has the page or has it not, with nothing under way.
    std::string listed(ModelFile& file, std::size_t page, bool is_listed);

  private:
    // The part of the rules that loads and stores share; sets is_done when nothing else is to be
    // checked.
    std::string refused(ModelFile& file, ModelClient& client, std::size_t page, pid_t pid,
                        const Access& access, bool is_shaky, bool& is_done);
};

}  // namespace refault::tests
