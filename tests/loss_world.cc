// Files and programs.
#include "tests/loss_world.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

namespace refault::tests {

namespace {

constexpr std::size_t kStepsKept = 60;

std::vector<std::string> first_devices(
    std::size_t count, const std::function<std::string(const std::string&)>& next_spec) {
    std::vector<std::string> specs;
    for (std::size_t i = 0; i < count; ++i) specs.push_back(next_spec("d" + std::to_string(i)));
    return specs;
}

}  // namespace

LossWorld::LossWorld(std::size_t devices, Devices kind)
    : kind_(kind),
      pool_(first_devices(devices, [this](const auto& name) { return next_spec(name); })) {
    // A program that has died is a finding, not the end of the test.
    ::signal(SIGPIPE, SIG_IGN);
}

void LossWorld::note(const std::string& step) {
    static const bool is_traced = std::getenv("REFAULT_LOSS_TRACE") != nullptr;
    if (is_traced) std::cout << "  " << steps_made_ << ": " << step << std::endl;
    ++steps_made_;
    steps_.push_back(step);
    if (steps_.size() > kStepsKept) steps_.pop_front();
}

void LossWorld::expect(const std::string& wrong, const std::string& about) {
    if (wrong.empty() || ::testing::Test::HasFailure()) return;
    std::string history;
    auto number = steps_made_ - steps_.size();
    for (const auto& step : steps_) history += "\n  " + std::to_string(number++) + ": " + step;
    ADD_FAILURE() << about << ": " << wrong << history << "\n"
                  << pool_.get("/v1/devices").dump() << "\n"
                  << pool_.get("/v1/lost").dump() << "\n"
                  << pool_.get("/v1/maps").dump();
}

std::optional<Json> LossWorld::try_post(const std::string& target, const Json& body) {
    auto answer = pool_.control().post(target, body);
    if (answer) return *answer;
    note("  refused: " + answer.error().message());
    return std::nullopt;
}

void LossWorld::make_file(unsigned replicas, bool rolls_back, std::size_t pages) {
    ModelFile file;
    file.path = "/f" + std::to_string(files_made_++);
    note("create " + file.path + " replicas " + std::to_string(replicas) +
         (rolls_back ? " rollback" : "") + " pages " + std::to_string(pages));
    pool_.post("/v1/files/create", {{"path", file.path}, {"mode", 0666}});
    // Refused where fewer devices are left.
    if (try_post("/v1/files/set", {{"path", file.path},
                                   {"replicas", replicas},
                                   {"on_loss", rolls_back ? "rollback" : "signal"}})) {
        file.replicas = replicas;
        file.rolls_back = rolls_back;
    }
    files_.push_back(file);
    resize(files_.size() - 1, pages);
}

bool LossWorld::has_stopped(std::size_t file) const {
    for (const auto& client : clients_)
        if (client->file == file && client->is_stopped) return true;
    return false;
}

void LossWorld::resize(std::size_t index, std::size_t pages) {
    auto& file = files_[index];
    note("resize " + file.path + " to " + std::to_string(pages));
    const bool is_done =
        try_post("/v1/files/resize", {{"path", file.path}, {"size_bytes", pages * kPage}})
            .has_value();
    if (is_done) return model_.resized(file, pages, !yanked_.empty());
    // A device that is gone, a program that is stopped: these may stand in the way, nothing else.
    if (yanked_.empty() && !has_stopped(index)) expect("a resize is refused", file.path);
}

void LossWorld::set_replicas(std::size_t index, unsigned replicas) {
    auto& file = files_[index];
    note("set " + file.path + " replicas " + std::to_string(replicas));
    if (try_post("/v1/files/set", {{"path", file.path}, {"replicas", replicas}}))
        file.replicas = replicas;
}

void LossWorld::overwrite(std::size_t index, std::size_t page, std::size_t pages, unsigned value) {
    auto& file = files_[index];
    note("overwrite " + file.path + " page " + std::to_string(page) + "+" + std::to_string(pages) +
         " with " + std::to_string(value));
    const auto put = pool_.control().put_bytes(
        "/v1/files/data?path=" + file.path + "&offset=" + std::to_string(page * kPage),
        std::string(pages * kPage, static_cast<char>(value)));
    if (!put && yanked_.empty()) expect(put.error().message(), "overwrite of " + file.path);
    for (auto i = page; i < page + pages; ++i)
        model_.overwritten(file, i, value, put && yanked_.empty());
}

void LossWorld::punch(std::size_t index, std::size_t page, std::size_t pages) {
    auto& file = files_[index];
    note("punch " + file.path + " page " + std::to_string(page) + "+" + std::to_string(pages));
    const bool is_done =
        try_post("/v1/files/punch",
                 {{"path", file.path}, {"offset", page * kPage}, {"length", pages * kPage}})
            .has_value();
    if (!is_done && yanked_.empty()) expect("refused", "punch of " + file.path);
    for (auto i = page; i < page + pages; ++i)
        model_.overwritten(file, i, 0, is_done && yanked_.empty());
}

void LossWorld::remove_file(std::size_t index) {
    const auto path = files_[index].path;
    for (std::size_t i = clients_.size(); i-- > 0;)
        if (clients_[i]->file == index) kill_client(i);
    note("remove " + path);
    pool_.post("/v1/files/remove", {{"path", path}});
    // Its space is free, and its losses are forgotten, when its last mapping is.
    const bool is_free = eventually([&] {
        const auto maps = pool_.get("/v1/maps");
        std::set<pid_t> living;
        for (const auto& client : clients_) living.insert(client->process->pid());
        return std::all_of(maps["mappings"].begin(), maps["mappings"].end(),
                           [&](const Json& one) { return living.contains(one.value("pid", 0)); });
    });
    if (!is_free) expect("a program that has ended has its mapping still", path);
    files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(index));
    for (auto& client : clients_)
        if (client->file > index) --client->file;
    for (auto& [device, pages] : away_) {
        std::erase_if(pages, [&](const Page& page) { return page.first == index; });
        for (auto& page : pages)
            if (page.first > index) --page.first;
    }
}

void LossWorld::start_client(std::size_t index, bool writes) {
    auto& file = files_[index];
    auto client = std::make_unique<Client>();
    client->model.id = ++clients_made_;
    client->model.writes = writes;
    client->model.rolls_back = file.rolls_back;
    client->model.pages = file.pages.size();
    client->file = index;
    client->process = std::make_unique<Mapper>(
        pool_, file.path, writes ? Mapper::Access::Write : Mapper::Access::Read);
    client->address = client->process->say("address");
    note("client " + std::to_string(client->model.id) + " (pid " +
         std::to_string(client->process->pid()) + ") maps " + file.path +
         (writes ? " to write" : " to read"));
    clients_.push_back(std::move(client));
}

void LossWorld::kill_client(std::size_t index) {
    auto& client = *clients_[index];
    note("kill client " + std::to_string(client.model.id));
    for (auto& page : files_[client.file].pages) page.dirty_by.erase(client.model.id);
    clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(index));
}

std::string LossWorld::why(Client& client, std::size_t page, const std::string& answer) {
    if (!answer.starts_with("sigbus")) return {};
    return client.process->say("try " + std::to_string(page * kPage));
}

void LossWorld::load(Client& client, std::size_t page) {
    auto& file = files_[client.file];
    const auto answer = client.process->load(page * kPage);
    const Access access{answer, why(client, page, answer)};
    const auto about = "client " + std::to_string(client.model.id) + " load " + file.path +
                       " page " + std::to_string(page);
    if (!access.is_ok()) note(about + ": " + answer + " " + access.why);
    expect(model_.loaded(file, client.model, page, client.process->pid(), access, !yanked_.empty()),
           about);
}

void LossWorld::store(Client& client, std::size_t page, unsigned value) {
    auto& file = files_[client.file];
    const auto answer = client.process->store(page * kPage, value);
    const Access access{answer, why(client, page, answer)};
    const auto about = "client " + std::to_string(client.model.id) + " store " + file.path +
                       " page " + std::to_string(page) + " = " + std::to_string(value);
    note(about + ": " + answer + " " + access.why);
    expect(model_.stored(file, client.model, page, value, client.process->pid(), access,
                         !yanked_.empty()),
           about);
}

void LossWorld::persist(Client& client, std::size_t page, std::size_t pages) {
    auto& file = files_[client.file];
    pages = std::min(pages, std::min(file.pages.size(), client.model.pages) - page);
    for (auto i = page; i < page + pages; ++i) load(client, i);
    const auto answer = client.process->persist(page * kPage, pages * kPage);
    note("client " + std::to_string(client.model.id) + " persist " + file.path + " page " +
         std::to_string(page) + "+" + std::to_string(pages) + ": " + answer);
    bool may_fail = !yanked_.empty(), must_fail = false;
    for (auto i = page; i < page + pages; ++i) {
        may_fail = may_fail || file.pages[i].loss != Loss::None || client.model.held.contains(i);
        must_fail = must_fail || file.pages[i].loss == Loss::Certain;
    }
    if (answer == "ok" && must_fail && yanked_.empty())
        expect("ok, and a part of it is lost", "persist of " + file.path);
    if (answer == "ok") {
        for (auto i = page; i < page + pages; ++i)
            model_.persisted(file, i, !yanked_.empty() || client.was_stopped);
    } else if (!may_fail || (answer != "error 5" && answer != "error 116")) {
        expect(answer, "persist of " + file.path);
    }
}

void LossWorld::accept(Client& client, std::size_t page, std::size_t pages) {
    const auto answer = client.process->say("accept " + std::to_string(page * kPage) + " " +
                                            std::to_string(pages * kPage));
    note("client " + std::to_string(client.model.id) + " accept page " + std::to_string(page) +
         "+" + std::to_string(pages) + ": " + answer);
    if (answer != "ok") return expect(answer, "accept");
    for (auto i = page; i < page + pages; ++i)
        model_.forgiven(files_[client.file], client.model, i, !yanked_.empty());
}

void LossWorld::remap(Client& client) {
    const auto answer = client.process->say("remap");
    note("client " + std::to_string(client.model.id) + " remap: " + answer);
    if (answer != "ok") return expect(answer, "remap");
    client.address = client.process->say("address");
    client.was_stopped = false;
    for (std::size_t i = 0; i < client.model.pages; ++i)
        model_.forgiven(files_[client.file], client.model, i, !yanked_.empty());
}

void LossWorld::stop(Client& client) {
    note("stop client " + std::to_string(client.model.id));
    client.process->stop();
    client.is_stopped = client.was_stopped = true;
}

void LossWorld::go_on(Client& client) {
    note("continue client " + std::to_string(client.model.id));
    client.process->go_on();
    client.is_stopped = false;
}

}  // namespace refault::tests
