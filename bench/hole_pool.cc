// Making and removing the directory under the pool.
#include "bench/hole_pool.h"

#include <unistd.h>

#include <filesystem>

namespace refault::bench {

base::Result<HolePool> HolePool::create(std::uint64_t device_bytes) {
    HolePool pool;
    std::string directory = "/dev/shm/refault-bench-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return base::sys_error("mkdtemp");
    pool.directory_ = directory;
    device::DeviceSpec spec;
    spec.name = "a";
    spec.kind = device::DeviceKind::Dir;
    spec.path = directory;
    spec.size_bytes = device_bytes;
    auto device = device::Device::create(spec, base::Uuid{});
    if (!device) return device.error();
    auto store =
        store::Store::create("bench", {store::DevicePtr(std::move(*device))}, base::Cred{});
    if (!store) return store.error();
    pool.store_ = std::move(*store);
    auto id = pool.store_->find_device("a");
    if (!id) return id.error();
    pool.device_ = *id;
    return pool;
}

HolePool::~HolePool() {
    store_.reset();
    std::error_code failure;
    // Empty in what has been moved from.
    if (!directory_.empty()) std::filesystem::remove_all(directory_, failure);
}

base::Status grow_to(store::Store& store, std::uint64_t count, std::vector<base::InodeNo>& files) {
    while (files.size() < count) {
        auto made = store.create_file("/file-" + std::to_string(files.size()), 0600, base::Cred{});
        if (!made) return made.error();
        files.push_back(made->inode);
        auto layout = store.lock_layout(made->inode);
        RETURN_IF_ERROR(store.resize(made->inode, base::kPageBytes));
    }
    return {};
}

}  // namespace refault::bench
