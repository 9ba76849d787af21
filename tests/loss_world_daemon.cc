// The daemon dies, and another one takes the pool.
#include <algorithm>

#include "tests/loss_world.h"

namespace refault::tests {

void LossWorld::kill_daemon() {
    // What is opened without a device that has gone needs a word of the operator; that is another
    // test's.
    wait_for_yanks();
    for (auto& client : clients_)
        if (client->is_stopped) go_on(*client);
    auto members = devices();
    note("kill the daemon");
    pool_.daemon().kill();
    const auto started = pool_.daemon().start_again({});
    if (!started) return expect(started.error().message(), "another daemon");
    for (;;) {
        std::vector<std::string> specs;
        for (const auto& name : members) specs.push_back("dir:" + directory(name));
        const auto opened = pool_.control().post("/v1/pool/open", {{"devices", specs}});
        if (opened) break;
        const auto why = opened.error().message();
        note("  open: " + why);
        // A pull may have come to its end since.
        const auto left = std::find_if(members.begin(), members.end(), [&](const auto& name) {
            return why.find(directory(name) + " ") != std::string::npos;
        });
        if (left == members.end()) return expect(why, "the pool is not opened again");
        members.erase(left);
    }
    wait_for_clients();
    // Who was told of a loss is known to the daemon that told them.
    for (auto& file : files_)
        for (auto& page : file.pages) page.is_told_unsure = true;
    note("another daemon has the pool");
}

void LossWorld::wait_for_clients() {
    const bool are_back = eventually([&] {
        bool is_waiting = false;
        const auto events = pool_.get("/v1/events/list");
        for (const auto& event : events["events"]) {
            if (event["kind"] == "clients-absent") is_waiting = true;
            if (event["kind"] == "clients-back") is_waiting = false;
        }
        return !is_waiting && pool_.get("/v1/maps")["mappings"].size() >= clients_.size();
    });
    if (!are_back) expect("not all programs have come back", "another daemon");
}

}  // namespace refault::tests
