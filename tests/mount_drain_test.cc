// Devices that are pulled and joined again, one after the other, under programs that use the mount
// in every way there is. Nothing is lost, and no program notices.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "tests/mount_support.h"

namespace refault::tests {
namespace {

constexpr std::uint64_t kPages = 512;  // of each file
constexpr std::uint64_t kWords = kPage / sizeof(std::uint64_t);

// A page that says which it is, how often it was written, and that it is whole.
struct Record {
    std::uint64_t words[kWords];

    void fill(std::uint64_t page, std::uint64_t round) {
        words[0] = round;
        std::uint64_t sum = page * 0x9E3779B97F4A7C15ull + round;
        for (std::uint64_t i = 1; i < kWords; ++i)
            words[i] = sum = sum * 6364136223846793005ull + i;
    }
    bool is(std::uint64_t page, std::uint64_t round) const {
        Record wanted{};
        if (round > 0) wanted.fill(page, round);
        return std::memcmp(this, &wanted, sizeof wanted) == 0;
    }
};

// Shared with the programs: what each has written, as a model of its file.
struct Model {
    std::atomic<bool> must_stop{false};
    std::atomic<std::uint64_t> visits{0};
    std::uint64_t rounds[kPages] = {};  // of the program's alone, until it has ended
};

class SharedModel {
  public:
    SharedModel()
        : model_(new (::mmap(nullptr, sizeof(Model), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Model) {}
    ~SharedModel() { ::munmap(model_, sizeof(Model)); }
    SharedModel(const SharedModel&) = delete;
    SharedModel& operator=(const SharedModel&) = delete;
    Model* operator->() const { return model_; }
    Model& operator*() const { return *model_; }

  private:
    Model* model_;
};

enum Status : int { Well, Wrong, Failed };

// Visits page after page: it must hold what was written last; then it is written anew.
int visit_all(Model& model, const std::function<bool(std::uint64_t page, Record&)>& read,
              const std::function<bool(std::uint64_t page, const Record&)>& write,
              const std::function<bool()>& sync) {
    alignas(kPage) static Record record;
    for (std::uint64_t visit = 0; !model.must_stop; ++visit) {
        const auto page = visit * 7 % kPages;
        if (!read(page, record)) return Failed;
        if (!record.is(page, model.rounds[page])) return Wrong;
        record.fill(page, model.rounds[page] + 1);
        if (!write(page, record)) return Failed;
        ++model.rounds[page];
        if (visit % 300 == 0 && !sync()) return Failed;
        ++model.visits;
    }
    return Well;
}

int write_by_calls(Model& model, const std::string& path, int flags) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | flags, 0600);
    if (file < 0 || ::ftruncate(file, kPages * kPage) != 0) return Failed;
    return visit_all(
        model,
        [&](std::uint64_t page, Record& record) {
            return ::pread(file, &record, kPage, static_cast<off_t>(page * kPage)) == kPage;
        },
        [&](std::uint64_t page, const Record& record) {
            return ::pwrite(file, &record, kPage, static_cast<off_t>(page * kPage)) == kPage;
        },
        [&] { return ::fsync(file) == 0; });
}

int write_by_mapping(Model& model, const std::string& path) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
    if (file < 0 || ::ftruncate(file, kPages * kPage) != 0) return Failed;
    void* const at = ::mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) return Failed;
    auto* const records = static_cast<Record*>(at);
    return visit_all(
        model,
        [&](std::uint64_t page, Record& record) {
            record = records[page];
            return true;
        },
        [&](std::uint64_t page, const Record& record) {
            records[page] = record;
            return true;
        },
        [&] { return ::msync(at, kPages * kPage, MS_ASYNC) == 0; });
}

struct Program {
    std::string name;
    SharedModel model;
    std::unique_ptr<Child> child;
};

class MountDrain : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        NEEDS_FUSE();
        NEEDS_PROOF();
        start("mapped",
              [](Model& model, const std::string& path) { return write_by_mapping(model, path); });
        start("written",
              [](Model& model, const std::string& path) { return write_by_calls(model, path, 0); });
        start("direct", [](Model& model, const std::string& path) {
            return write_by_calls(model, path, O_DIRECT);
        });
    }
    void start(const char* name, const std::function<int(Model&, const std::string&)>& work) {
        auto program = std::make_unique<Program>();
        program->name = name;
        program->child = std::make_unique<Child>(
            [&model = *program->model, path = mount_ / name, work] { return work(model, path); });
        programs_.push_back(std::move(program));
    }
    void let_run(std::uint64_t visits) {
        for (auto& program : programs_) {
            const auto until = program->model->visits + visits;
            EXPECT_TRUE(eventually([&] {
                return program->model->visits >= until ||
                       program->child->wait(std::chrono::milliseconds(0)) != -1;
            })) << program->name;
        }
    }
    void finish() {
        for (auto& program : programs_) program->model->must_stop = true;
        for (auto& program : programs_) EXPECT_EQ(program->child->wait(), Well) << program->name;
    }
    // By the daemon, of what is in the pool.
    void check(const Program& program) {
        const auto bytes =
            pool_.control().get_bytes("/v1/files/data?path=/" + program.name +
                                      "&offset=0&length=" + std::to_string(kPages * kPage));
        ASSERT_TRUE(bytes) << bytes.error().message();
        ASSERT_EQ(bytes->size(), kPages * kPage);
        std::uint64_t wrong = 0;
        Record record;
        for (std::uint64_t page = 0; page < kPages; ++page) {
            std::memcpy(&record, bytes->data() + page * kPage, kPage);
            wrong += record.is(page, program.model->rounds[page]) ? 0 : 1;
        }
        EXPECT_EQ(wrong, 0u) << program.name;
    }

    Pool pool_{kThree};
    Mounted mount_{pool_, GetParam()};
    std::vector<std::unique_ptr<Program>> programs_;
};

TEST_P(MountDrain, NothingIsLostWhileEachDeviceIsPulledAndJoinedAgain) {
    let_run(kPages);
    for (const std::string device : {"a", "b", "c"}) {
        pool_.pull({device});
        pool_.wait_for_phase(device, "safe");
        let_run(kPages);
        pool_.post("/v1/devices", {{"spec", device + "=ram:64M"}});
        let_run(100);
    }
    finish();
    for (const auto& program : programs_) check(*program);
    EXPECT_TRUE(pool_.get("/v1/lost")["lost"].empty());
    pool_.expect_sound();
}

// In the middle of stores, of writes, and of a pull.
TEST_P(MountDrain, KilledProgramsLeaveNothingBehind) {
    let_run(100);
    pool_.pull({"a"});
    for (auto& program : programs_) ASSERT_EQ(::kill(program->child->pid(), SIGKILL), 0);
    for (auto& program : programs_) EXPECT_EQ(program->child->wait(), 1000 + SIGKILL);
    pool_.wait_for_phase("a", "safe");
    EXPECT_TRUE(no_child_hangs());
    EXPECT_TRUE(eventually(
        [&] { return pool_.get("/v1/mounts")["mounts"][0].value("open_files", 1ull) == 0; }));
    EXPECT_EQ(shell(mount_.path(), "echo hi >new; cat new").out, "hi\n");
    const auto unmounted = run_refault(pool_, {"umount", mount_.path()});
    EXPECT_EQ(unmounted.status, 0) << unmounted.err;
    EXPECT_FALSE(mount_.is_mounted());
    pool_.expect_sound();
}

std::string name_of(const ::testing::TestParamInfo<const char*>& info) {
    return *info.param == '\0' ? "plain" : info.param;
}

INSTANTIATE_TEST_SUITE_P(Modes, MountDrain, ::testing::Values("", "writeback"), name_of);

// Every one of thousands of open files is read and written during a pull and after it.
TEST(MountOpenFiles, ThousandsLiveThroughAPull) {
    NEEDS_FUSE();
    NEEDS_PROOF();
    Pool pool(kThree);
    Mounted mount(pool);
    rlimit old{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
    auto limit = old;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 6000);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    const std::size_t count = std::min<std::size_t>(limit.rlim_cur - 200, 4000);
    std::vector<base::UniqueFd> files;
    const auto write_all = [&](std::size_t value) {
        std::size_t failures = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t both[] = {i, value};
            failures += ::pwrite(files[i].get(), both, sizeof both, 0) == sizeof both ? 0 : 1;
        }
        return failures;
    };
    const auto read_all = [&](std::size_t value) {
        std::size_t failures = 0;
        for (std::size_t i = 0; i < count; ++i) {
            std::size_t found[2] = {};
            const bool is_right = ::pread(files[i].get(), found, sizeof found, 0) == sizeof found &&
                                  found[0] == i && found[1] == value;
            failures += is_right ? 0 : 1;
        }
        return failures;
    };
    for (std::size_t i = 0; i < count; ++i) {
        files.emplace_back(::open((mount / ("f" + std::to_string(i))).c_str(),
                                  O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        ASSERT_TRUE(files.back()) << i << ": " << std::strerror(errno);
    }
    ASSERT_EQ(write_all(1), 0u);
    pool.pull({"a"});
    EXPECT_EQ(read_all(1), 0u);
    EXPECT_EQ(write_all(2), 0u);
    pool.wait_for_phase("a", "safe");
    EXPECT_EQ(read_all(2), 0u);
    pool.pull({"b"});
    pool.wait_for_phase("b", "safe");
    EXPECT_EQ(write_all(3), 0u);
    EXPECT_EQ(read_all(3), 0u);
    EXPECT_EQ(pool.get("/v1/mounts")["mounts"][0].value("open_files", 0ull), count);
    files.clear();
    (void)::setrlimit(RLIMIT_NOFILE, &old);
    EXPECT_TRUE(no_child_hangs());
    pool.expect_sound();
}

}  // namespace
}  // namespace refault::tests
