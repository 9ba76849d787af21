// One client process of the demo: fills a mapped pool file with records, then writes and re-reads
// random ones until told to stop, and verifies every record against its own list when asked and at
// last.
//
// A record is a page: sequence number, slot, owner, filler derived from them, checksum. Each is
// persisted when it is written; only then its sequence number goes on the list, which is in private
// memory, so a lost or stale page cannot hide.
#include <refault/refault.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/range.h"
#include "cli/demo.h"
#include "cli/demo_state.h"
#include "cli/demo_touch.h"

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

class Client {
  public:
    Client(DemoState& shared, std::size_t index, rf_file* file, rf_mapping* mapping)
        : shared_(shared),
          mine_(shared.clients[index]),
          owner_(index),
          file_(file),
          mapping_(mapping),
          records_(static_cast<Record*>(rf_address(mapping))),
          sequences_(rf_length(mapping) / kRecordBytes, 0),
          is_lost_(sequences_.size(), false),
          random_(index + 1) {}

    void run() {
        for (std::uint64_t slot = 0; slot < sequences_.size(); ++slot) write(slot);
        for (auto& pause : mine_.worst_pause_ns) pause.store(0);
        mine_.is_running.store(1);
        while (shared_.must_stop.load(std::memory_order_relaxed) == 0 && mine_.error.load() == 0) {
            write(random_() % sequences_.size());
            check(random_() % sequences_.size());
            obey();
        }
        survey();
    }

  private:
    void obey() {
        const auto wanted = shared_.surveys_wanted.load(std::memory_order_relaxed);
        if (wanted != mine_.surveys_done.load()) {
            survey();
            mine_.surveys_done.store(wanted);
        }
        if (shared_.must_punch.load(std::memory_order_relaxed) != mine_.has_punched.load()) {
            punch_what_is_lost();
            mine_.has_punched.store(1);
        }
    }

    void survey() {
        std::uint64_t verified = 0;
        for (std::uint64_t slot = 0; slot < sequences_.size(); ++slot)
            if (check(slot)) ++verified;
        mine_.verified_records.store(verified);
        mine_.address_last.store(reinterpret_cast<std::uintptr_t>(rf_address(mapping_)));
        if (mine_.has_punched.load() == 0) tell_what_is_lost();
    }

    void write(std::uint64_t slot) {
        if (is_lost_[slot]) return;
        const auto start = now_ns();
        Record record, back;
        fill(record, ++next_sequence_, slot, owner_);
        for (int tries = 0;; ++tries) {
            if (!store(record) || !copy_record(&back, &records_[slot], &records_[slot])) {
                if (!go_on_at(slot, tries)) return;
                continue;
            }
            if (std::memcmp(&back, &record, sizeof record) == 0) break;
            // With on-loss=rollback, what was stored and not yet persisted is gone without a word.
            mine_.rolled_back.fetch_add(1);
        }
        note_pause(start);
        sequences_[slot] = next_sequence_;
        mine_.writes.fetch_add(1, std::memory_order_relaxed);
    }

    // False when the memory under it refused; fails otherwise.
    bool store(const Record& record) {
        Record& place = records_[record.slot];
        if (!copy_record(&place, &record, &place)) return false;
        const int result = rf_persist(mapping_, &place, sizeof place);
        if (result != 0 && result != -ESTALE && result != -EIO) mine_.error.store(result);
        return result == 0;
    }

    bool check(std::uint64_t slot) {
        if (is_lost_[slot]) return false;
        const auto start = now_ns();
        Record copy;
        for (int tries = 0; !copy_record(&copy, &records_[slot], &records_[slot]); ++tries)
            if (!go_on_at(slot, tries)) return false;
        note_pause(start);
        mine_.reads.fetch_add(1, std::memory_order_relaxed);
        if (copy.sequence == sequences_[slot] && copy.slot == slot && copy.owner == owner_ &&
            copy.checksum == checksum_of(copy))
            return true;
        mine_.bad_records.fetch_add(1);
        return false;
    }

    // The memory under a record has refused: asks why. False: it is not to be tried again.
    bool go_on_at(std::uint64_t slot, int tries) {
        constexpr int kTriesMax = 100;
        const int why = rf_try([](void* page) { (void)*static_cast<volatile char*>(page); },
                               &records_[slot], nullptr);
        if (why == -EIO) {
            is_lost_[slot] = true;
            mine_.lost_records.fetch_add(1);
            return false;
        }
        if (why == -ESTALE) accept_around(slot);
        if (why != 0 && why != -ESTALE) mine_.error.store(why);
        if (tries > kTriesMax) mine_.error.store(-ELOOP);
        return mine_.error.load() == 0;
    }

    // Every record was persisted when it was written, so all of these may be a copy's.
    void accept_around(std::uint64_t slot) {
        const auto length = sequences_.size() * kRecordBytes;
        const auto begin = base::align_down(slot * kRecordBytes, base::kHugePageBytes);
        const auto end = std::min(begin + base::kHugePageBytes, length);
        const auto count = mine_.held_count.load();
        if (count < kDemoRangesMax) mine_.held_records[count].store(slot);
        mine_.held_count.store(count + 1);
        const int result =
            rf_accept(mapping_, reinterpret_cast<char*>(records_) + begin, end - begin);
        if (result != 0) mine_.error.store(result);
    }

    void tell_what_is_lost() {
        std::size_t count = 0;
        for (std::uint64_t slot = 0; slot < is_lost_.size(); ++slot) {
            if (!is_lost_[slot]) continue;
            const bool continues = slot > 0 && is_lost_[slot - 1];
            if (!continues && count == kDemoRangesMax) return mine_.error.store(-E2BIG);
            if (!continues) mine_.lost[count++].first.store(slot);
            mine_.lost[count - 1].end.store(slot + 1);
        }
        mine_.lost_count.store(count);
    }

    void punch_what_is_lost() {
        for (std::size_t i = 0; i < mine_.lost_count.load(); ++i) {
            const auto first = mine_.lost[i].first.load(), end = mine_.lost[i].end.load();
            const int result = rf_punch(file_, first * kRecordBytes, (end - first) * kRecordBytes);
            if (result != 0) return mine_.error.store(result);
            for (auto slot = first; slot < end; ++slot) {
                is_lost_[slot] = false;
                write(slot);
            }
        }
    }

    void note_pause(std::uint64_t start) {
        const auto took = now_ns() - start;
        const auto phase = shared_.phase.load(std::memory_order_relaxed);
        auto& worst = mine_.worst_pause_ns[static_cast<std::size_t>(phase)];
        if (took > worst.load(std::memory_order_relaxed))
            worst.store(took, std::memory_order_relaxed);
    }

    DemoState& shared_;
    DemoClientState& mine_;
    const std::uint64_t owner_;
    rf_file* const file_;
    rf_mapping* const mapping_;
    Record* const records_;
    std::vector<std::uint64_t> sequences_;  // the latest written and persisted, by slot
    std::vector<bool> is_lost_;             // by slot
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
    Client(shared, index, file, mapping).run();
    return mine.error.load() == 0 ? 0 : 1;
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
    catch_memory_signals(mine);
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
