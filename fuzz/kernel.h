// The kernel's side of a FUSE connection: sends requests one by one, holds the replies against what
// linux/fuse.h says of them, and keeps count of what they have given it, as the kernel does: how
// often it was told of each inode, which files and directories it has open. Not thread-safe.
#pragma once

#include <linux/fuse.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/unique_fd.h"
#include "fuzz/target.h"

namespace refault::fuzz {

struct KernelRequest {
    std::uint32_t opcode = 0;
    std::uint64_t node = 0;
    Bytes body;
    std::uint32_t user = 0;
    // Who asked has given up before the reply: the kernel does not take it.
    bool is_given_up = false;
};

class Kernel {
  public:
    struct Opens {
        std::uint32_t cached = 0;
        std::uint32_t direct = 0;
        bool operator==(const Opens&) const = default;
    };
    // No program sends more at once here, and none asks for more: it fits into a socket as a whole.
    static constexpr std::uint32_t kBytesMax = 128 * 1024;

    Kernel();

    // The other end, once.
    base::UniqueFd connection() { return std::move(theirs_); }
    // One message, which the other end reads as a whole.
    void send(const KernelRequest& request);
    // What has come back for what was sent last: exactly one reply, or none where none is due.
    void take_replies();

    // FUSE_INIT was answered, and all else can be asked.
    bool is_ready() const { return is_ready_; }
    const std::vector<std::uint64_t>& met() const { return met_; }
    const std::map<std::uint64_t, std::uint64_t>& lookups() const { return lookups_; }
    const std::map<std::uint64_t, Opens>& opens() const { return opens_; }
    const std::set<std::uint64_t>& directories() const { return directories_; }
    std::uint64_t last_request() const { return last_; }
    // Each request that is sent takes one of these away.
    std::size_t interrupts() const { return interrupts_.size(); }

  private:
    // Whatever the message lacks reads as zero.
    template <typename Part>
    Part asked(std::size_t offset = 0) const {
        Part part{};
        const auto& body = request_.body;
        if (offset < body.size())
            std::memcpy(&part, body.data() + offset, std::min(sizeof part, body.size() - offset));
        return part;
    }
    template <typename Part>
    static Part part_of(Input reply, std::size_t offset = 0, std::size_t length = sizeof(Part)) {
        Part part{};
        CHECK(length <= sizeof part && offset + length <= reply.size());
        std::memcpy(&part, reply.data() + offset, length);
        return part;
    }
    bool expects_reply() const;
    void note_given_back();
    void forget(std::uint64_t node, std::uint64_t count);
    void close_file();
    void check_success(Input body);
    void check_attributes(Input body) const;
    void take_init(Input body);
    void take_entry(Input body);
    void take_open(Input body);
    void take_list(Input body);

    base::UniqueFd ours_, theirs_;
    Bytes buffer_;
    KernelRequest request_;
    std::uint64_t last_ = 0;
    bool is_ready_ = false;
    std::uint32_t minor_ = 0;
    std::set<std::uint64_t> interrupts_;  // by their own numbers
    std::vector<std::uint64_t> met_{FUSE_ROOT_ID};
    std::map<std::uint64_t, std::uint64_t> lookups_;
    std::map<std::uint64_t, Opens> opens_;
    std::set<std::uint64_t> directories_;
};

}  // namespace refault::fuzz
