// Making the pool and its run directory.
#include "bench/bench_pool.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>

#include "device/spec.h"

namespace refault::bench {

base::Result<std::unique_ptr<BenchPool>> BenchPool::create(const std::vector<std::string>& specs) {
    std::unique_ptr<BenchPool> made(new BenchPool);
    std::string directory = "/tmp/refault-bench-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return base::sys_error("mkdtemp");
    made->directory_ = directory;
    std::vector<device::DeviceSpec> parsed;
    for (const auto& text : specs) {
        auto spec = device::parse_device_spec(text);
        if (!spec) return spec.error();
        parsed.push_back(*spec);
    }
    session::ServerOptions server;
    server.socket_path = made->socket();
    auto pool = daemon::Pool::create("bench", parsed, {server, ""}, made->events_);
    if (!pool) return pool.error();
    made->pool_ = std::move(*pool);
    return made;
}

BenchPool::~BenchPool() {
    pool_.reset();
    std::error_code failure;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, failure);
}

base::Result<base::InodeNo> BenchPool::make_file(const std::string& path, std::uint64_t bytes,
                                                 std::uint32_t replicas) {
    auto made = store().create_file(path, 0666, base::Cred{});
    if (!made) return made.error();
    RETURN_IF_ERROR(
        store().set_redundancy(path, {replicas, store::OnLoss::Rollback}, base::Cred{}));
    RETURN_IF_ERROR(pool_->files().resize(made->inode, bytes));
    return made->inode;
}

base::Result<store::Extent> BenchPool::page_at(base::InodeNo inode, std::uint64_t offset) {
    for (const auto& extent :
         store().extents(inode, base::FileRange::of_length(offset, base::kPageBytes)))
        if (extent.replica == 0) return extent;
    return base::Error(base::Code::NotFound, "the file has no page there");
}

}  // namespace refault::bench
