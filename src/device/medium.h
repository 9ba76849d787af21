// The seam through which every change of a device's files goes: a directory, and the calls that
// make, write, cut, punch, sync, rename and remove files in it. Each names its row of the table
// (durable_write.h). Nothing else in device/ and store/ changes files (tools/check.py looks).
//
// A trace, where one was passed in, is told of every call that has succeeded, after it was made.
// Without one a call costs a comparison more. What is traced is synced on memory, too, so that all
// of what a disk would be told is seen.
//
// `name` of an open file is for the trace alone: where there is none, it may be empty.
// Thread-safe as the system calls are; the trace must be, too, where several threads use the
// device.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "device/durable_write.h"

namespace refault::device {

struct MediumCall {
    enum class Kind : std::uint8_t {
        Create,   // makes or empties the file
        Write,    // `bytes` at `offset`
        SetSize,  // to `offset`
        Punch,    // [offset, offset + length)
        Allocate,
        Sync,      // the file's bytes and size
        Rename,    // `name` takes the place of `to_name`
        Remove,    // the name
        SyncNames  // of the directory
    };
    Kind kind;
    DurableWrite row;
    std::string name;  // in the directory
    std::string to_name;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::span<const std::uint8_t> bytes;
};

using MediumTrace = std::function<void(const MediumCall&)>;

class Medium {
  public:
    explicit Medium(MediumTrace trace = {}) : trace_(std::move(trace)) {}

    void set_directory(int directory_fd) noexcept { directory_fd_ = directory_fd; }
    bool is_traced() const noexcept { return static_cast<bool>(trace_); }

    base::Result<base::UniqueFd> create(const std::string& name, int flags, DurableWrite row) const;
    base::Status write(int fd, const std::string& name, std::uint64_t offset,
                       std::span<const std::uint8_t> bytes, DurableWrite row) const;
    // What sys::copy_through does, from any file.
    base::Status copy(int from_fd, std::uint64_t from_offset, int fd, const std::string& name,
                      std::uint64_t offset, std::uint64_t length, std::span<std::uint8_t> buffer,
                      DurableWrite row) const;
    base::Status set_size(int fd, const std::string& name, std::uint64_t size_bytes,
                          DurableWrite row) const;
    base::Status punch(int fd, const std::string& name, std::uint64_t offset, std::uint64_t length,
                       DurableWrite row) const;
    base::Status allocate(int fd, const std::string& name, std::uint64_t offset,
                          std::uint64_t length, DurableWrite row) const;
    base::Status sync(int fd, const std::string& name, DurableWrite row) const;
    base::Status remove(const std::string& name, DurableWrite row) const;  // Ok when there is none
    base::Status rename(const std::string& name, const std::string& to_name,
                        DurableWrite row) const;
    base::Status sync_names(DurableWrite row) const;
    // As a whole, durably: temporary file, sync, rename, sync of the directory.
    base::Status replace(const std::string& name, std::span<const std::uint8_t> bytes,
                         DurableWrite row) const;

  private:
    // Tells the trace of `call()` when it has succeeded.
    template <typename MakeCall>
    base::Status told(base::Status done, MakeCall call) const {
        if (trace_ && done) trace_(call());
        return done;
    }

    MediumTrace trace_;
    int directory_fd_ = -1;
};

}  // namespace refault::device
