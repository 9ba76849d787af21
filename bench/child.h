// Processes of a bench that map and touch memory of their own accord: `refault-bench child-NAME`,
// each with a block of shared memory by which it is driven and by which it reports. Ended with the
// object that started them, and by the kernel when the bench itself dies.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::bench {

// Waits, looking often and giving the processor away; false when that takes longer than 30 s.
bool wait_for(const std::function<bool()>& condition);

// A T of atomics in memory of several processes; T is made by the parent, and taken over by number
// of descriptor in a child.
template <typename T>
class Shared {
  public:
    static base::Result<Shared> create() {
        base::UniqueFd fd(::memfd_create("refault-bench", MFD_CLOEXEC));
        if (!fd || ::ftruncate(fd.get(), sizeof(T)) != 0) return base::sys_error("memfd_create");
        return map(std::move(fd), true);
    }
    static base::Result<Shared> inherited(const std::string& fd) {
        return map(base::UniqueFd(std::stoi(fd)), false);
    }
    ~Shared() {
        if (block_ != nullptr) ::munmap(block_, sizeof(T));
    }
    Shared(Shared&& other) noexcept
        : fd_(std::move(other.fd_)), block_(std::exchange(other.block_, nullptr)) {}
    Shared& operator=(Shared&&) = delete;

    T* operator->() const { return block_; }
    T& operator*() const { return *block_; }
    int fd() const { return fd_.get(); }

  private:
    Shared(base::UniqueFd fd, T* block) : fd_(std::move(fd)), block_(block) {}
    static base::Result<Shared> map(base::UniqueFd fd, bool is_new) {
        void* at = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
        if (at == MAP_FAILED) return base::sys_error("mmap");
        return Shared(std::move(fd), is_new ? new (at) T : static_cast<T*>(at));
    }

    base::UniqueFd fd_;
    T* block_;
};

class Child {
  public:
    // `name` is a row of the table in main.cc; the descriptors stay open in the child.
    static base::Result<Child> start(const std::string& name, std::vector<std::string> arguments,
                                     const std::vector<int>& descriptors);
    ~Child();
    Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
    Child& operator=(Child&&) = delete;

    pid_t pid() const { return pid_; }
    bool has_ended();

  private:
    explicit Child(pid_t pid) : pid_(pid) {}
    pid_t pid_;
};

}  // namespace refault::bench
