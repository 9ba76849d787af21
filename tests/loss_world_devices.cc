// Devices that come, leave and fail, and what is compared afterwards.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/loss_world.h"

namespace refault::tests {

std::vector<std::string> LossWorld::in_service() {
    std::vector<std::string> names;
    const auto answer = pool_.get("/v1/devices");
    for (const auto& device : answer["devices"])
        if (device.value("state", "") == "in-service" &&
            !yanked_.contains(device.value("name", "")))
            names.push_back(device.value("name", ""));
    return names;
}

std::vector<std::string> LossWorld::devices() {
    auto names = in_service();
    const auto answer = pool_.get("/v1/devices");
    for (const auto& device : answer["devices"])
        if (device.value("state", "") == "leaving" && !yanked_.contains(device.value("name", "")))
            names.push_back(device.value("name", ""));
    return names;
}

// The first of a mixed pool are memory.
std::string LossWorld::next_spec(const std::string& name) {
    ++devices_made_;
    const bool is_ram = kind_ == Devices::Mixed && (devices_made_ < 5 || devices_made_ % 2 == 0);
    directories_.erase(name);
    if (is_ram) return name + "=ram:32M";
    const auto path = shelf_.path() + "/" + std::to_string(devices_made_);
    std::filesystem::create_directory(path);
    directories_[name] = path;
    return name + "=dir:" + path + ",size=32M";
}

// Under the first name that is free.
void LossWorld::add_device() {
    std::set<std::string> taken;
    const auto answer = pool_.get("/v1/devices");
    for (const auto& device : answer["devices"])
        if (device.value("state", "") != "removed") taken.insert(device.value("name", ""));
    // A pull may have let go of one that was taken away.
    for (const auto& [away, pages] : away_) taken.insert(away);
    std::string name;
    for (int i = 0; name.empty() || taken.contains(name); ++i) name = "d" + std::to_string(i);
    const auto spec = next_spec(name);
    note("add " + spec);
    pool_.post("/v1/devices", {{"spec", spec}});
}

void LossWorld::take_away(const std::string& device) {
    const bool is_exact = is_quiet();
    note("take " + device + " away" + (is_exact ? "" : ", while things move"));
    auto& pages = away_[device];
    const auto all = places();
    for (std::size_t file = 0; file < all.size(); ++file)
        for (std::size_t page = 0; page < all[file].size(); ++page)
            for (const auto& spot : all[file][page])
                if (spot.device == device) pages.emplace_back(file, page);
    fail(device, 0, UINT64_MAX, is_exact);
    yanked_.insert(device);
    const auto path = directory(device);
    std::filesystem::rename(path, path + ".away");
    wait_for_yanks();
}

void LossWorld::bring_back(const std::string& name) {
    const auto device = name;  // which may be the key that is erased
    note("bring " + device + " back");
    const auto path = directory(device);
    std::filesystem::rename(path + ".away", path);
    if (!try_post("/v1/devices", {{"spec", device + "=dir:" + path + ",size=32M"}}))
        return std::filesystem::rename(path, path + ".away");
    for (const auto& [file, page] : away_.at(device))
        if (page < files_[file].pages.size()) model_.returned(files_[file], page);
    away_.erase(device);
}

void LossWorld::pull(const std::string& device) {
    note("pull " + device);
    (void)try_post("/v1/pull", {{"devices", {device}}, {"rate_bytes_per_s", 50 << 20}});
}

void LossWorld::cancel(const std::string& device) {
    note("cancel " + device);
    (void)try_post("/v1/devices/" + device + "/cancel", Json::object());
}

bool LossWorld::is_pulling() {
    const auto answer = pool_.get("/v1/removals");
    return std::any_of(answer["removals"].begin(), answer["removals"].end(),
                       [](const Json& removal) { return !removal.value("has_ended", false); });
}

bool LossWorld::is_quiet() {
    if (!yanked_.empty() || is_pulling()) return false;
    const auto resync = pool_.get("/v1/resync");
    return !resync.value("is_running", true) && resync.value("files_left", 1u) == 0;
}

// Every copy of every page, by the reverse map.
LossWorld::Places LossWorld::places() {
    Places all;
    for (const auto& file : files_) all.emplace_back(file.pages.size());
    for (const auto& device : devices()) {
        // It may have left meanwhile.
        const auto found =
            pool_.control().get("/v1/locate?device=" + device + "&offset=0&length=33554432");
        if (!found) continue;
        for (const auto& owner : (*found)["owners"]) {
            const auto path = owner.value("path", "");
            const auto file = std::find_if(files_.begin(), files_.end(),
                                           [&](const auto& one) { return one.path == path; });
            if (file == files_.end()) continue;
            auto& pages = all[static_cast<std::size_t>(file - files_.begin())];
            const auto begin = owner.value("file_begin", 0ull);
            const auto end = owner.value("file_end", 0ull);
            for (auto at = begin; at < end && at / kPage < pages.size(); at += kPage)
                pages[at / kPage].push_back({owner.value("replica", 9u), device,
                                             owner.value("device_begin", 0ull) + (at - begin)});
        }
    }
    return all;
}

Hit LossWorld::hit_of(const std::vector<Spot>& spots, const ModelFile& file,
                      const std::string& device, std::uint64_t begin, std::uint64_t end) const {
    Hit hit;
    for (const auto& spot : spots) {
        const bool is_here = spot.device == device && spot.offset >= begin && spot.offset < end;
        hit.is_hit = hit.is_hit || is_here;
        hit.is_primary = hit.is_primary || (is_here && spot.replica == 0);
        // A copy too many may be dropped at any moment.
        if (!is_here && !yanked_.contains(spot.device) && spot.replica < file.replicas)
            ++hit.copies_left;
    }
    return hit;
}

// The model's part, before the memory goes.
void LossWorld::fail(const std::string& device, std::uint64_t begin, std::uint64_t end,
                     bool is_exact) {
    const bool is_moving = !is_exact && is_pulling();
    const auto all = places();
    for (std::size_t i = 0; i < files_.size(); ++i) {
        std::vector<ModelClient*> writers;
        for (const auto& client : clients_)
            if (client->file == i && client->model.writes && !client->model.rolls_back)
                writers.push_back(&client->model);
        for (std::size_t page = 0; page < files_[i].pages.size(); ++page) {
            auto hit = hit_of(all[i][page], files_[i], device, begin, end);
            hit.is_exact = is_exact;
            // It may have come to lie there since.
            if (is_moving && !hit.is_hit) --hit.copies_left;
            if (hit.is_hit || !is_exact) model_.failed(files_[i], page, hit, writers);
        }
    }
}

void LossWorld::yank(const std::string& device) {
    const bool is_exact = is_quiet();
    note("yank " + device + (is_exact ? "" : ", while things move"));
    fail(device, 0, UINT64_MAX, is_exact);
    const auto usage = pool_.get("/v1/devices/" + device);
    const auto directory = usage.value("directory", "");
    // The label first: that is certain, whatever the daemon makes or removes meanwhile.
    yanked_.insert(device);
    (void)::unlink((directory + "/label").c_str());
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(directory, none)) {
        if (!entry.path().filename().string().starts_with("seg-")) continue;
        (void)!::truncate(entry.path().c_str(), 0);
        (void)::unlink(entry.path().c_str());
    }
}

void LossWorld::poison(const std::string& device, std::uint64_t offset, std::uint64_t length) {
    const bool is_exact = is_quiet();
    note("poison " + device + " " + std::to_string(offset) + "+" + std::to_string(length) +
         (is_exact ? "" : ", while things move"));
    fail(device, offset, offset + length, is_exact);
    const auto record =
        try_post("/v1/devices/" + device + "/fail", {{"offset", offset}, {"length", length}});
    if (!record && is_exact) expect("refused", "poison");
}

void LossWorld::wait_for_yanks() {
    if (yanked_.empty()) return;
    // The hand keeps at it: the daemon may have written another label before it noticed.
    const bool is_known = eventually([&] {
        const auto answer = pool_.get("/v1/devices");
        bool are_all_known = true;
        for (const auto& one : answer["devices"]) {
            const auto state = one.value("state", "");
            if (!yanked_.contains(one.value("name", "")) || state == "lost" || state == "removed")
                continue;
            are_all_known = false;
            (void)::unlink((one.value("directory", "") + "/label").c_str());
        }
        return are_all_known;
    });
    if (!is_known) expect("is not said to be lost", "a device that is gone");
    note("the yanks are known");
    // What was torn to pieces is not waited for. One that was leaving may have left meanwhile.
    for (const auto& device : yanked_)
        if (!away_.contains(device))
            (void)try_post("/v1/devices/" + device + "/forget", Json::object());
    yanked_.clear();
    // All that is lost stays known: that is what would grow for ever in a long run.
    while (away_.size() > kAwayMax && !::testing::Test::HasFailure()) {
        const auto oldest = away_.begin()->first;
        (void)try_post("/v1/devices/" + oldest + "/forget", Json::object());
        std::filesystem::remove_all(directory(oldest) + ".away");
        away_.erase(oldest);
    }
}

void LossWorld::wait_until_quiet() {
    wait_for_yanks();
    // With too few devices, or a program that is stopped, it does not come to that, and one long
    // wait is enough to find out.
    const std::chrono::milliseconds limit(may_become_quiet_ ? 1000 : 50);
    may_become_quiet_ = eventually([&] { return is_quiet(); }, limit);
}

void LossWorld::check_lost() {
    if (!yanked_.empty()) return;
    const auto answer = pool_.get("/v1/lost");
    for (auto& file : files_) {
        std::set<std::size_t> listed;
        for (const auto& lost : answer["lost"]) {
            if (lost["paths"][0] != file.path) continue;
            for (auto at = lost.value("file_begin", 0ull); at < lost.value("file_end", 0ull);
                 at += kPage)
                listed.insert(at / kPage);
        }
        for (std::size_t page = 0; page < file.pages.size(); ++page)
            expect(model_.listed(file, page, listed.contains(page)),
                   file.path + " page " + std::to_string(page));
        for (const auto& lost : answer["lost"]) {
            if (lost["paths"][0] != file.path) continue;
            std::set<pid_t> told;
            bool is_sure = true;
            for (auto at = lost.value("file_begin", 0ull); at < lost.value("file_end", 0ull);
                 at += kPage) {
                if (at / kPage >= file.pages.size())
                    return expect("lost beyond the end", file.path);
                const auto& page = file.pages[at / kPage];
                told.insert(page.told.begin(), page.told.end());
                is_sure = is_sure && !page.is_told_unsure;
            }
            if (is_sure && lost["signalled_pids"] != Json(told))
                expect("told were " + Json(told).dump() + ", listed is " + lost.dump(), file.path);
        }
    }
}

// Copies never share a device; when nothing moves, there are as many as were asked for.
void LossWorld::check_places() {
    if (!is_quiet()) return;
    const auto all = places();
    if (!is_quiet()) return;
    for (std::size_t i = 0; i < files_.size(); ++i)
        for (std::size_t page = 0; page < files_[i].pages.size(); ++page) {
            const auto about = files_[i].path + " page " + std::to_string(page);
            std::set<std::string> devices;
            for (const auto& spot : all[i][page])
                if (!devices.insert(spot.device).second) expect("two copies on a device", about);
            if (files_[i].pages[page].loss == Loss::None && devices.size() != files_[i].replicas)
                expect("has " + std::to_string(devices.size()) + " copies", about);
        }
}

void LossWorld::check_clients() {
    for (const auto& client : clients_) {
        const auto about = "client " + std::to_string(client->model.id);
        if (client->process->has_ended()) expect("has died", about);
        if (client->is_stopped || ::testing::Test::HasFailure()) continue;
        if (client->process->say("address") != client->address) expect("address changed", about);
    }
}

void LossWorld::check_every_page() {
    for (const auto& client : clients_)
        for (std::size_t page = 0; page < client->model.pages && !client->is_stopped; ++page)
            if (!::testing::Test::HasFailure()) load(*client, page);
}

}  // namespace refault::tests
