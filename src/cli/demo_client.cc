// One client process of the demo: fills a mapped pool file with records, then writes and re-reads
// random ones until told to stop, and at last verifies every record against its own list.
//
// A record is a page: sequence number, slot, owner, filler derived from them, checksum. The list of
// the latest sequence numbers is in private memory, so a lost or stale page cannot hide.
#include <refault/refault.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <chrono>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "cli/demo.h"
#include "cli/demo_state.h"

namespace refault::cli {

namespace {

struct Record {
    std::uint64_t sequence;
    std::uint64_t slot;
    std::uint64_t owner;
    std::uint64_t filler[(kRecordBytes - 32) / 8];
    std::uint32_t unused;
    std::uint32_t checksum;  // of everything before it
};
static_assert(sizeof(Record) == kRecordBytes);

std::uint32_t checksum_of(const Record& record) {
    return base::crc32c(
        {reinterpret_cast<const std::uint8_t*>(&record), offsetof(Record, checksum)});
}

void fill(Record& record, std::uint64_t sequence, std::uint64_t slot, std::uint64_t owner) {
    record.sequence = sequence;
    record.slot = slot;
    record.owner = owner;
    std::uint64_t value = sequence * 0x9e3779b97f4a7c15ull ^ slot;
    for (auto& word : record.filler) word = value += 0x9e3779b97f4a7c15ull;
    record.unused = 0;
    record.checksum = checksum_of(record);
}

std::uint64_t now_ns() {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

// The signal handler can reach nothing else. Set once before the handlers are.
DemoClientState* g_state_for_handler = nullptr;

void on_memory_signal(int) {
    g_state_for_handler->signals.fetch_add(1);
    _exit(3);
}

class Client {
  public:
    Client(DemoState& shared, std::size_t index, Record* records, std::uint64_t count)
        : shared_(shared),
          mine_(shared.clients[index]),
          owner_(index),
          records_(records),
          sequences_(count, 0),
          random_(index + 1) {}

    void run() {
        for (std::uint64_t slot = 0; slot < sequences_.size(); ++slot) write(slot);
        mine_.worst_pause_ns.store(0);
        mine_.is_running.store(1);
        while (shared_.must_stop.load(std::memory_order_relaxed) == 0) {
            write(random_() % sequences_.size());
            check(random_() % sequences_.size());
        }
        for (std::uint64_t slot = 0; slot < sequences_.size(); ++slot)
            if (check(slot)) mine_.verified_records.fetch_add(1);
    }

  private:
    void write(std::uint64_t slot) {
        const auto start = now_ns();
        fill(records_[slot], ++next_sequence_, slot, owner_);
        note_pause(start);
        sequences_[slot] = next_sequence_;
        mine_.writes.fetch_add(1, std::memory_order_relaxed);
    }

    bool check(std::uint64_t slot) {
        const auto start = now_ns();
        Record copy;
        std::memcpy(&copy, &records_[slot], sizeof copy);
        note_pause(start);
        mine_.reads.fetch_add(1, std::memory_order_relaxed);
        if (copy.sequence == sequences_[slot] && copy.slot == slot && copy.owner == owner_ &&
            copy.checksum == checksum_of(copy))
            return true;
        mine_.bad_records.fetch_add(1);
        return false;
    }

    void note_pause(std::uint64_t start) {
        const auto took = now_ns() - start;
        auto& worst = shared_.is_pulling.load(std::memory_order_relaxed) != 0
                          ? mine_.worst_pause_ns
                          : mine_.worst_pause_before_ns;
        if (took > worst.load(std::memory_order_relaxed))
            worst.store(took, std::memory_order_relaxed);
    }

    DemoState& shared_;
    DemoClientState& mine_;
    const std::uint64_t owner_;
    Record* const records_;
    std::vector<std::uint64_t> sequences_;  // the latest written, by slot
    std::uint64_t next_sequence_ = 0;
    std::mt19937_64 random_;
};

int run_mapped(DemoState& shared, std::size_t index, rf_session* session, const std::string& path,
               std::uint64_t size_bytes) {
    auto& mine = shared.clients[index];
    rf_file* file = nullptr;
    rf_mapping* mapping = nullptr;
    int error = rf_create(session, path.c_str(), 0600, RF_EXCLUSIVE, &file);
    if (error == 0) error = rf_resize(file, size_bytes);
    if (error == 0) error = rf_map(file, 0, size_bytes, RF_READ | RF_WRITE, &mapping);
    if (error != 0) {
        mine.error.store(error);
        return 1;
    }
    mine.address_first.store(reinterpret_cast<std::uintptr_t>(rf_address(mapping)));
    Client(shared, index, static_cast<Record*>(rf_address(mapping)), size_bytes / kRecordBytes)
        .run();
    mine.address_last.store(reinterpret_cast<std::uintptr_t>(rf_address(mapping)));
    return 0;
}

}  // namespace

// Arguments: session socket, pool path, size in bytes, descriptor of the shared block, index.
int run_demo_client(std::vector<std::string> args) {
    if (args.size() != 5) return 2;
    // Also when it is stopped: nothing is left behind.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::uint64_t size_bytes = std::stoull(args[2]);
    const int state_fd = std::stoi(args[3]);
    const std::size_t index = std::stoull(args[4]);
    if (index >= kDemoClients) return 2;
    void* block =
        ::mmap(nullptr, sizeof(DemoState), PROT_READ | PROT_WRITE, MAP_SHARED, state_fd, 0);
    if (block == MAP_FAILED) return 2;
    auto& shared = *static_cast<DemoState*>(block);
    auto& mine = shared.clients[index];
    g_state_for_handler = &mine;
    for (const int signal_no : {SIGSEGV, SIGBUS}) ::signal(signal_no, on_memory_signal);
    rf_session* session = nullptr;
    if (const int error = rf_connect(args[0].c_str(), &session, nullptr, 0); error != 0) {
        mine.error.store(error);
        return 1;
    }
    const int status = run_mapped(shared, index, session, args[1], size_bytes);
    rf_disconnect(session);
    mine.has_finished.store(1);
    return status;
}

}  // namespace refault::cli
