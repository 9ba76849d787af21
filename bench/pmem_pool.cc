// The pool set, and the process that has it open.
#include "bench/pmem_pool.h"

#include <stdlib.h>

#include <cstdio>
#include <cstring>
#include <filesystem>

#ifdef REFAULT_HAS_PMEMOBJ
#include <libpmemobj.h>
#endif

#include "bench/harness.h"

namespace refault::bench {

namespace {

constexpr std::uint64_t kPartBytes = 64 << 20;

base::Status write_pool_set(const std::string& directory) {
    std::FILE* file = std::fopen((directory + "/set").c_str(), "we");
    if (file == nullptr) return base::sys_error(directory + "/set");
    std::fprintf(file, "PMEMPOOLSET\n%lluM %s/primary\nREPLICA\n%lluM %s/replica\n",
                 static_cast<unsigned long long>(kPartBytes >> 20), directory.c_str(),
                 static_cast<unsigned long long>(kPartBytes >> 20), directory.c_str());
    std::fclose(file);
    return {};
}

}  // namespace

double median_of_rounds(const std::function<double(int round)>& action) {
    std::vector<double> all;
    for (int round = 1; round <= kRoundsOfRun; ++round) {
        const double seconds = action(round);
        if (round > kRoundsOfRun / 5) all.push_back(seconds);
    }
    return median(all);
}

#ifdef REFAULT_HAS_PMEMOBJ

bool has_libpmemobj() {
    return true;
}

// DIRECTORY BYTES STATE-FD
int run_pmemobj(const std::vector<std::string>& arguments) {
    if (arguments.size() != 3) return 2;
    auto state = Shared<PmemPool::State>::inherited(arguments[2]);
    if (!state) return 1;
    PMEMobjpool* pool = pmemobj_create((arguments[0] + "/set").c_str(), "bench", 0, 0600);
    if (pool == nullptr) {
        std::fprintf(stderr, "libpmemobj: %s\n", pmemobj_errormsg());
        return 1;
    }
    void* const bytes = pmemobj_direct(pmemobj_root(pool, std::stoull(arguments[1])));
    if (bytes == nullptr) return 1;
    (*state)->is_ready.store(1);
    for (;;) {
        (void)wait_for([&] { return (*state)->length.load() != 0; });
        const auto length = (*state)->length.load();
        if (length == 0) continue;
        (*state)->seconds.store(median_of_rounds([&](int round) {
            std::memset(bytes, round, length);
            return time_s([&] { pmemobj_persist(pool, bytes, length); });
        }));
        (*state)->length.store(0);
    }
}

#else

bool has_libpmemobj() {
    return false;
}
int run_pmemobj(const std::vector<std::string>&) {
    return 1;
}

#endif

base::Result<PmemPool> PmemPool::create(std::uint64_t bytes, bool is_forced) {
    std::string directory = "/dev/shm/refault-bench-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return base::sys_error("mkdtemp");
    auto state = Shared<State>::create();
    if (!state) return state.error();
    PmemPool pool(directory, std::move(*state));
    RETURN_IF_ERROR(write_pool_set(directory));
    if (is_forced) ::setenv("PMEM_IS_PMEM_FORCE", "1", 1);
    auto child = Child::start("pmemobj",
                              {directory, std::to_string(bytes), std::to_string(pool.state_.fd())},
                              {pool.state_.fd()});
    ::unsetenv("PMEM_IS_PMEM_FORCE");
    if (!child) return child.error();
    pool.child_.push_back(std::move(*child));
    if (!wait_for(
            [&] { return pool.state_->is_ready.load() == 1 || pool.child_[0].has_ended(); }) ||
        pool.state_->is_ready.load() == 0)
        return base::Error(base::Code::Gone, "the process with the libpmemobj pool ended");
    return pool;
}

base::Result<double> PmemPool::time_persist(std::uint64_t length) {
    state_->length.store(length);
    if (!wait_for([&] { return state_->length.load() == 0 || child_[0].has_ended(); }) ||
        state_->length.load() != 0)
        return base::Error(base::Code::Gone, "the process with the libpmemobj pool ended");
    return state_->seconds.load();
}

PmemPool::~PmemPool() {
    child_.clear();
    std::error_code failure;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, failure);
}

}  // namespace refault::bench
