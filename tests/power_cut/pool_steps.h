// The steps that workloads are made of, each with what it promises. One thread.
#pragma once

#include "tests/power_cut/recording.h"

namespace refault::power_cut {

class PoolSteps {
  public:
    explicit PoolSteps(Recording& recording) : recording_(recording) {}

    Store& store() { return *recording_.store; }
    void create(const std::vector<std::string>& directories);
    void reopen(const std::vector<std::string>& directories, bool allow_missing = false);

    InodeNo make_file(const std::string& path, std::uint32_t copies = 1);
    void resize(InodeNo inode, std::uint64_t size_bytes);
    void set_size(InodeNo inode, std::uint64_t size_bytes);
    void write(InodeNo inode, FileRange range);
    void sync(InodeNo inode);
    void deallocate(InodeNo inode, FileRange range);
    void allocate(InodeNo inode, FileRange range);
    void punch(InodeNo inode, FileRange range);
    void unlink(const std::string& path);
    // With bytes that are durable.
    InodeNo make_full_file(const std::string& path, std::uint64_t size_bytes,
                           std::uint32_t copies = 1);

    // What the mover does with a batch, without programs.
    void move(const std::string& name, const std::vector<store::Move>& moves);
    void make_copies(InodeNo inode);
    // The bytes of a page are bad, and are written again from another copy.
    void repair(InodeNo inode, std::uint64_t offset, std::uint32_t replica);

    base::DeviceId id(const std::string& directory);
    void add(const std::string& directory);
    void pull(const std::string& directory);
    void yank(const std::string& directory);
    void rejoin(const std::string& directory);
    // Only on this device is anything placed.
    void place_on(const std::string& directory);
    void place_anywhere();

    void step(const std::string& name, const std::function<void()>& action) {
        recording_.step(name, action);
    }
    Recording& recording() { return recording_; }

  private:
    AllowedBytes& bytes(InodeNo inode) { return recording_.now().bytes[inode]; }
    void resized(InodeNo inode, std::uint64_t size_bytes);

    Recording& recording_;
    Version next_version_ = 1;
};

}  // namespace refault::power_cut
