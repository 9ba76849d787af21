// The alternative that pool files are measured against: a file on a tmpfs of the same kind
// (private, huge=always where this process may mount; else a directory in shared memory, as the
// pool's own fallback).
#pragma once

#include <string>

#include "base/result.h"
#include "device/device.h"

namespace refault::bench {

class PlainTmpfs {
  public:
    // Made by the same code as a ram: device, so that it is the same kind.
    static base::Result<PlainTmpfs> create(std::uint64_t size_bytes);
    std::string file(const std::string& name) const { return device_->directory() + "/" + name; }

  private:
    explicit PlainTmpfs(std::unique_ptr<device::Device> device) : device_(std::move(device)) {}
    std::unique_ptr<device::Device> device_;
};

// A file of that size, mapped shared and writable; unlinked and unmapped at the end.
class PlainMapping {
  public:
    static base::Result<PlainMapping> create(const std::string& path, std::uint64_t length);
    ~PlainMapping();
    PlainMapping(PlainMapping&& other) noexcept;
    PlainMapping& operator=(PlainMapping&&) = delete;

    std::byte* address() const { return address_; }
    int fd() const { return fd_.get(); }

  private:
    PlainMapping() = default;
    std::string path_;
    base::UniqueFd fd_;
    std::byte* address_ = nullptr;
    std::uint64_t length_ = 0;
};

}  // namespace refault::bench
