// Requests of the control API on a real pool: any body, name and query to any route that neither
// mounts, nor makes or takes over directories, nor starts what goes on after the answer. The
// answer is written as the server would write it. What was made in the pool is removed again.
//
//   input   [route][name, by its length][count of queries][key, value]...[the body: the rest]
#include <set>
#include <string>

#include "daemon/control_api.h"
#include "fuzz/devices.h"
#include "fuzz/script.h"

namespace refault::fuzz {
namespace {

using daemon::ApiRequest;
using daemon::ControlApi;
using daemon::Json;

// What changes the world outside the pool, or runs on after the answer. A dry run is a route of its
// own here.
const std::set<std::string> kLeftOut{
    "POST /v1/pool/create", "POST /v1/pool/open",       "POST /v1/pool/close",
    "POST /v1/devices",     "POST /v1/devices/*/prove", "POST /v1/mounts",
    "POST /v1/unmount",     "POST /v1/scrub",           "POST /v1/devices/*/cancel"};
const std::set<std::string> kDryRunOnly{"POST /v1/pull", "POST /v1/detach",
                                        "POST /v1/devices/*/fail"};

class World {
  public:
    World() : api_(events_, daemon::PoolOptions{options(), ""}) {
        for (const char* name : {"a", "b"})
            std::filesystem::create_directory(devices_.path() / name);
        std::vector<std::string> specs;
        for (const char* name : {"a", "b"})
            specs.push_back(std::string(name) + "=dir:" + (devices_.path() / name).string() +
                            ",size=8M,segment=64K");
        CHECK(api_.create_pool("test", specs).ok());
        for (auto& [route, handler] : api_.routes())
            if (!kLeftOut.contains(route)) routes_.emplace_back(route, std::move(handler));
    }
    auto& routes() const { return routes_; }
    std::size_t index(const std::string& route) const {
        for (std::size_t i = 0; i < routes_.size(); ++i)
            if (routes_[i].first == route) return i;
        CHECK(false);
    }
    store::Store& store() { return (*api_.pool())->store(); }

    void empty(const std::string& directory) {
        const auto entries = store().list(directory, {});
        CHECK(entries.ok());
        for (const auto& entry : *entries) {
            const auto path = directory + (directory == "/" ? "" : "/") + entry.name;
            const bool is_directory = entry.attributes.type == store::FileType::Directory;
            if (is_directory) empty(path);
            CHECK((is_directory ? store().remove_directory(path, {}) : store().unlink(path, {}))
                      .ok());
        }
    }

  private:
    session::ServerOptions options() const {
        session::ServerOptions made;
        made.socket_path = devices_.path() / "session.sock";
        return made;
    }

    Devices devices_;
    daemon::EventLog events_;
    ControlApi api_;
    std::vector<std::pair<std::string, ControlApi::Handler>> routes_;
};

World& world() {
    static World the_world;
    return the_world;
}

void put_text(Bytes& bytes, const std::string& text) {
    bytes.push_back(static_cast<std::uint8_t>(text.size()));
    bytes.insert(bytes.end(), text.begin(), text.end());
}

Bytes request(const std::string& route, const std::string& name, const std::string& body,
              const std::vector<std::pair<std::string, std::string>>& query = {}) {
    Bytes bytes{static_cast<std::uint8_t>(world().index(route))};
    put_text(bytes, name);
    bytes.push_back(static_cast<std::uint8_t>(query.size()));
    for (const auto& [key, value] : query) put_text(bytes, key), put_text(bytes, value);
    bytes.insert(bytes.end(), body.begin(), body.end());
    return bytes;
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (const auto& [route, handler] : world().routes())
        all.push_back(request(route, "a", route.starts_with("GET") ? "" : R"({"path":"/f"})"));
    all.push_back(request("POST /v1/files/create", "", R"({"path":"/f","mode":416})"));
    all.push_back(request("POST /v1/files/resize", "", R"({"path":"/f","size_bytes":4096})"));
    all.push_back(request("POST /v1/files/rename", "", R"({"from":"/f","to":"/g"})"));
    all.push_back(
        request("POST /v1/files/set", "", R"({"path":"/f","replicas":2,"on_loss":"rollback"})"));
    all.push_back(request("POST /v1/files/punch", "",
                          R"({"path":"/f","offset":0,"length":4096,"dry_run":true})"));
    all.push_back(
        request("POST /v1/pull", "",
                R"({"devices":["b"],"dry_run":true,"timeout_ms":9,"accept_pinned":true})"));
    all.push_back(request("POST /v1/detach", "",
                          R"({"devices":["b"],"dry_run":true,"kill_after_ms":5,"pool":"new"})"));
    all.push_back(
        request("POST /v1/devices/*/fail", "a",
                R"({"offset":0,"length":4096,"kind":"poison","dry_run":true,"all":false})"));
    all.push_back(
        request("GET /v1/locate", "", "",
                {{"device", "a"}, {"offset", "0"}, {"length", "65536"}, {"by", "inodes"}}));
    all.push_back(request("GET /v1/files/list", "", "", {{"path", "/"}}));
    all.push_back(request("GET /v1/files/stat", "", "", {{"path", "/f"}}));
    all.push_back(request("GET /v1/events/list", "", "", {{"after", "0"}, {"limit", "9"}}));
    return all;
}

bool is_dry_run(const std::string& body) {
    const auto json = Json::parse(body, nullptr, false);
    return json.is_object() && json.contains("dry_run") && json["dry_run"] == true;
}

void run(Input input) {
    Script script(input);
    const auto& [route, handler] = world().routes()[script.u8() % world().routes().size()];
    ApiRequest asked;
    asked.name = script.text();
    for (auto left = script.below(8); left > 0; --left) {
        const auto key = script.text();
        asked.query[key] = script.text();
    }
    // Nobody waits for a removal here, and reading every process takes its time.
    asked.query.erase("wait_ms");
    if (asked.query.contains("by") && asked.query["by"] == "pages") return;
    const auto body = script.rest();
    asked.body.assign(body.begin(), body.end());
    if (kDryRunOnly.contains(route) && !is_dry_run(asked.body)) return;
    CHECK(world().store().create_file("/f", 0600, {}).ok());
    if (const auto answer = handler(asked))
        CHECK(!answer->dump(-1, ' ', false, Json::error_handler_t::replace).empty());
    else
        CHECK(!answer.error().message().empty());
    world().empty("/");
}

const Registration registered({"control", seeds, run, 3'000});

}  // namespace
}  // namespace refault::fuzz
