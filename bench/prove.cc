// prove: time of a proof against the number of processes and of their mappings.
#include <sys/mman.h>

#include "bench/crowd.h"
#include "bench/harness.h"
#include "bench/plain_file.h"
#include "failure/proof.h"

namespace refault::bench {

namespace {

void hold_mappings(std::size_t mappings) {
    // Neighbours of different protection do not merge.
    for (std::size_t m = 0; m < mappings; ++m)
        (void)::mmap(nullptr, 4096, m % 2 == 0 ? PROT_READ : PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

}  // namespace

Status run_prove(const Options& options) {
    device::DeviceSpec spec;
    spec.name = "a";
    spec.size_bytes = 64 << 20;
    auto device = device::Device::create(spec, base::Uuid{});
    if (!device) return device.error();
    auto target = failure::proof_target(**device);
    if (!target) return target.error();
    Report report("prove", options);
    report.input("device", "one that nobody holds");
    for (const auto& [processes, mappings] :
         std::initializer_list<std::pair<std::size_t, std::size_t>>{
             {0, 0}, {10, 10}, {100, 10}, {400, 10}, {10, 1000}, {100, 1000}, {10, 10000}}) {
        const std::size_t each = mappings;
        const Crowd crowd(processes, [each] { hold_mappings(each); });
        std::vector<double> times;
        std::uint64_t read = 0;
        for (int run = 0; run <= options.runs; ++run) {
            auto proof = failure::prove(*target);
            if (!proof) return proof.error();
            read = proof->processes_read;
            if (run > 0) times.push_back(proof->seconds);
        }
        report.row({{"added_processes", processes},
                    {"mappings_each", mappings},
                    {"processes_read", read},
                    {"proof_ms", median(times) * 1e3}});
    }
    report.finish();
    return {};
}

}  // namespace refault::bench
