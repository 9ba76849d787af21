// A pool of one device on a directory in shared memory, with files whose bytes are all holes: it
// takes no memory but that of its metadata. For benches of the store's maps.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/store.h"

namespace refault::bench {

class HolePool {
  public:
    static base::Result<HolePool> create(std::uint64_t device_bytes);
    ~HolePool();
    HolePool(HolePool&& other) noexcept = default;
    HolePool& operator=(HolePool&&) = delete;

    store::Store& store() const { return *store_; }
    base::DeviceId device() const { return device_; }

  private:
    HolePool() = default;
    std::string directory_;
    std::unique_ptr<store::Store> store_;
    base::DeviceId device_;
};

// Adds files of one page until there are so many.
base::Status grow_to(store::Store& store, std::uint64_t count, std::vector<base::InodeNo>& files);

}  // namespace refault::bench
