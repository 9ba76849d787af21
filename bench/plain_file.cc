// Plain tmpfs files.
#include "bench/plain_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace refault::bench {

base::Result<PlainTmpfs> PlainTmpfs::create(std::uint64_t size_bytes) {
    device::DeviceSpec spec;
    spec.name = "plain";
    spec.size_bytes = size_bytes;
    auto device = device::Device::create(spec, base::Uuid{});
    if (!device) return device.error();
    return PlainTmpfs(std::move(*device));
}

base::Result<PlainMapping> PlainMapping::create(const std::string& path, std::uint64_t length) {
    PlainMapping mapping;
    mapping.path_ = path;
    mapping.length_ = length;
    mapping.fd_ =
        base::UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!mapping.fd_ || ::ftruncate(mapping.fd_.get(), static_cast<off_t>(length)) != 0)
        return base::sys_error(path);
    void* address =
        ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, mapping.fd_.get(), 0);
    if (address == MAP_FAILED) return base::sys_error("mmap " + path);
    mapping.address_ = static_cast<std::byte*>(address);
    return mapping;
}

PlainMapping::PlainMapping(PlainMapping&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::move(other.fd_)),
      address_(std::exchange(other.address_, nullptr)),
      length_(other.length_) {}

PlainMapping::~PlainMapping() {
    if (address_ == nullptr) return;
    ::munmap(address_, length_);
    ::unlink(path_.c_str());
}

}  // namespace refault::bench
