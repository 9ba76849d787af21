// Devices for targets that need real ones: directories in shared memory that go when the program
// ends. Not thread-safe.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "fuzz/target.h"

namespace refault::fuzz {

class Devices {
  public:
    Devices() {
        std::string path = "/dev/shm/refault-fuzz-XXXXXX";
        CHECK(::mkdtemp(path.data()) != nullptr);
        path_ = path;
    }
    ~Devices() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Devices(const Devices&) = delete;
    Devices& operator=(const Devices&) = delete;

    const std::filesystem::path& path() const { return path_; }

    std::shared_ptr<device::Device> make(const std::string& name, std::uint64_t segment_bytes,
                                         std::uint32_t segments, const base::Uuid& pool) {
        device::DeviceSpec spec;
        spec.name = name;
        spec.kind = device::DeviceKind::Dir;
        spec.path = path_ / name;
        spec.size_bytes = segment_bytes * segments;
        spec.segment_bytes = segment_bytes;
        std::filesystem::create_directory(spec.path);
        auto made = device::Device::create(spec, pool);
        CHECK(made.ok());
        return std::move(*made);
    }

  private:
    std::filesystem::path path_;
};

}  // namespace refault::fuzz
