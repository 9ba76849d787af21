// A pool, its files and the programs that map them, with the model beside each: what is done here
// is done to both, and what both say is compared. A finding is a failure of the test, with the
// steps that led to it.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "tests/loss_model.h"
#include "tests/mapper_process.h"

namespace refault::tests {

class LossWorld {
  public:
    static constexpr std::uint64_t kPage = 4096;
    static constexpr std::size_t kAwayMax = 8;  // devices that may come back

    struct Client {
        ModelClient model;
        std::size_t file = 0;
        std::unique_ptr<Mapper> process;
        bool is_stopped = false;
        // Copies may have been made meanwhile that it has not mapped when it persists.
        bool was_stopped = false;
        std::string address;
    };
    // One copy of one page.
    struct Spot {
        unsigned replica = 0;
        std::string device;
        std::uint64_t offset = 0;
    };
    using Places = std::vector<std::vector<std::vector<Spot>>>;  // by file, page

    // Lasting: every device is a directory, so that the daemon can die.
    enum class Devices { Mixed, Lasting };
    explicit LossWorld(std::size_t devices, Devices kind = Devices::Mixed);

    std::vector<ModelFile>& files() { return files_; }
    std::vector<std::unique_ptr<Client>>& clients() { return clients_; }
    Pool& pool() { return pool_; }
    void note(const std::string& step);
    void expect(const std::string& wrong, const std::string& about);

    // ---- files and programs
    void make_file(unsigned replicas, bool rolls_back, std::size_t pages);
    void resize(std::size_t file, std::size_t pages);
    void set_replicas(std::size_t file, unsigned replicas);
    void overwrite(std::size_t file, std::size_t page, std::size_t pages, unsigned value);
    void punch(std::size_t file, std::size_t page, std::size_t pages);
    // With the programs that map it; returns when the daemon knows that they have gone.
    void remove_file(std::size_t file);
    void start_client(std::size_t file, bool writes);
    void kill_client(std::size_t client);
    void load(Client& client, std::size_t page);
    void store(Client& client, std::size_t page, unsigned value);
    void persist(Client& client, std::size_t page, std::size_t pages);
    void accept(Client& client, std::size_t page, std::size_t pages);
    void remap(Client& client);
    void stop(Client& client);
    void go_on(Client& client);

    // ---- devices
    std::vector<std::string> devices();  // members that are not gone
    std::vector<std::string> in_service();
    void add_device();
    void pull(const std::string& device);
    void cancel(const std::string& device);
    void yank(const std::string& device);
    void poison(const std::string& device, std::uint64_t offset, std::uint64_t length);
    // Devices of a directory go with all they hold, and come back. Returns when the daemon knows.
    bool is_directory(const std::string& device) const { return directories_.contains(device); }
    // The one that has the name now; names come back, directories do not.
    std::string directory(const std::string& device) const { return directories_.at(device); }
    void take_away(const std::string& device);
    const auto& away() const { return away_; }
    // It is refused as long as a program that was stopped holds its memory, and goes away again.
    void bring_back(const std::string& device);
    Places places();

    // ---- the daemon
    // SIGKILL at any moment but one: what has failed is known. Another one takes the pool, and the
    // programs come back to it.
    void kill_daemon();

    // ---- waiting and comparing
    bool is_quiet();  // nothing moves: what the books say is so
    void wait_for_yanks();
    void wait_until_quiet();
    void check_lost();
    void check_places();
    void check_clients();
    void check_every_page();

  private:
    bool has_stopped(std::size_t file) const;
    bool is_pulling();
    std::optional<Json> try_post(const std::string& target, const Json& body);
    std::string why(Client& client, std::size_t page, const std::string& answer);
    void fail(const std::string& device, std::uint64_t begin, std::uint64_t end, bool is_exact);
    Hit hit_of(const std::vector<Spot>& spots, const ModelFile& file, const std::string& device,
               std::uint64_t begin, std::uint64_t end) const;

    std::string next_spec(const std::string& name);
    void wait_for_clients();

    TemporaryDirectory shelf_;
    std::map<std::string, std::string> directories_;
    const Devices kind_;
    std::size_t devices_made_ = 0;
    Pool pool_;
    int files_made_ = 0;
    int clients_made_ = 0;
    std::vector<ModelFile> files_;
    std::vector<std::unique_ptr<Client>> clients_;
    bool may_become_quiet_ = true;
    using Page = std::pair<std::size_t, std::size_t>;  // file, page
    std::map<std::string, std::vector<Page>> away_;    // what each device took along
    std::set<std::string> yanked_;                     // and perhaps not known to the daemon yet
    LossModel model_;
    std::deque<std::string> steps_;  // the last of them
    std::size_t steps_made_ = 0;
};

}  // namespace refault::tests
