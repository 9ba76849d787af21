// The client protocol: what a session's two channels carry. Specified in docs/protocol.md.
//
//   session channel   client -> daemon   Hello, then one Request at a time; a Reply to each
//   pager channel     daemon -> client   Doorbell: "some of your addresses have no place any more"
//                     client -> daemon   Fetch{placed}: "what you sent as `placed` is in force;
//                     what is stale now?" daemon -> client   Places{sequence, places}: map these;
//                     none: all is in place
//                     client -> daemon   Fault{ticket, address}: "I got SIGBUS here"
//                     daemon -> client   Verdict{ticket, answer}, when the range is resolved
//                     daemon -> client   Notice{address, length}: lost, for who wants to know early
//
// Places are fetched, never sent ahead: a place that waits in a queue could be outdated when it is
// read. Both channels are SOCK_SEQPACKET; a message is a header (magic, version, type) and fields
// in base/codec encoding. Decoders check every field and give Code::Corrupt. Value types and
// functions without state.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/codec.h"
#include "base/cred.h"
#include "base/ids.h"
#include "base/range.h"

namespace refault::wire {

using base::Access;
using base::Bytes;
using base::MappingId;
using base::Result;
using base::Status;

inline constexpr std::uint16_t kProtocolVersion = 4;
inline constexpr std::size_t kMessageBytesMax = 64 * 1024;
inline constexpr std::uint32_t kPathBytesMax = 4096;
// Places in one message; each may need a descriptor, of which 253 fit in one message.
inline constexpr std::size_t kPlacesMax = 128;
inline constexpr std::uint32_t kTicketBytesMax = 64;
// Parts of one mapping that were held back when its daemon ended.
inline constexpr std::uint32_t kHeldPartsMax = 1024;

// ---- session channel

// Carries two descriptors: the client's userfaultfd (no handshake done) and its daemon's end of the
// pager channel.
struct Hello {
    bool handles_kernel_faults = false;
    // The session's earlier daemon is gone, and has made the handshake on the userfaultfd.
    bool returns = false;
    bool operator==(const Hello&) const = default;
};

struct CreateFile {
    std::string path;
    std::uint32_t mode = 0600;
    bool exclusive = true;  // false: opening an existing file is fine
    bool operator==(const CreateFile&) const = default;
};
struct OpenFile {
    std::string path;
    Access access = Access::Read;
    bool operator==(const OpenFile&) const = default;
};
struct CloseFile {
    std::uint32_t handle = 0;
    bool operator==(const CloseFile&) const = default;
};
struct Resize {
    std::uint32_t handle = 0;
    std::uint64_t size_bytes = 0;
    bool operator==(const Resize&) const = default;
};
struct StatHandle {
    std::uint32_t handle = 0;
    bool operator==(const StatHandle&) const = default;
};
struct StatPath {
    std::string path;
    bool operator==(const StatPath&) const = default;
};
// The client has reserved [address, address + length) and is ready to place. offset and length are
// page-aligned.
struct Map {
    std::uint32_t handle = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint64_t address = 0;
    Access access = Access::Read;
    bool populate = false;
    bool operator==(const Map&) const = default;
};
// After the reply no fence touches the addresses any more; the client unmaps them then.
struct Unmap {
    MappingId mapping;
    bool operator==(const Unmap&) const = default;
};
struct List {
    std::string path;
    std::string after;  // names greater than this one; empty: from the start
    bool operator==(const List&) const = default;
};
struct Unlink {
    std::string path;
    bool operator==(const Unlink&) const = default;
};
struct MakeDirectory {
    std::string path;
    std::uint32_t mode = 0700;
    bool operator==(const MakeDirectory&) const = default;
};
struct RemoveDirectory {
    std::string path;
    bool operator==(const RemoveDirectory&) const = default;
};
struct Rename {
    std::string from;
    std::string to;
    bool operator==(const Rename&) const = default;
};

// The program goes on with what the surviving copy has, though it may be older than its own stores.
// A range of the mapping, in whole pages from its beginning.
struct Accept {
    MappingId mapping;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool operator==(const Accept&) const = default;
};
// early: a loss is told at once (Notice) to everybody who maps it, not only to who touches it.
struct SetNotice {
    bool early = false;
    bool operator==(const SetNotice&) const = default;
};
// Whole pages of the file become zeros; what was lost there can be used again.
struct Punch {
    std::uint32_t handle = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool operator==(const Punch&) const = default;
};

// ---- after a return. The ticket is what an earlier daemon gave for an open file; it opens the
// same inode again, under the number that the client still has for it.
struct Reopen {
    std::string ticket;
    std::uint32_t handle = 0;
    bool operator==(const Reopen&) const = default;
};
// What is mapped at the address stays there until its places come anew. `held`: parts of the
// mapping that are held back still (see Accept), in bytes from its beginning. `replicas`: of so
// many, the primary included, the program may have places from the daemon before.
struct Remap {
    struct Part {
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        bool operator==(const Part&) const = default;
    };
    std::string ticket;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::uint64_t address = 0;
    Access access = Access::Read;
    std::uint8_t replicas = 1;
    std::vector<Part> held;
    bool operator==(const Remap&) const = default;
};

using Request = std::variant<CreateFile, OpenFile, CloseFile, Resize, StatHandle, StatPath, Map,
                             Unmap, List, Unlink, MakeDirectory, RemoveDirectory, Rename, Accept,
                             SetNotice, Punch, Reopen, Remap>;

struct FileInfo {
    std::uint64_t inode = 0;
    bool is_directory = false;
    std::uint32_t mode = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t links = 0;
    std::uint64_t size_bytes = 0;
    std::uint64_t modified_ns = 0;
    std::uint64_t changed_ns = 0;
    bool operator==(const FileInfo&) const = default;
};

struct NamedInfo {
    std::string name;
    FileInfo info;
    bool operator==(const NamedInfo&) const = default;
};

// One shape for all: what a request does not fill stays empty.
struct Reply {
    std::int32_t error = 0;  // 0 or a positive errno
    std::string message;     // for a person, when error != 0
    std::uint32_t handle = 0;
    MappingId mapping;  // greater than that of every mapping this session had before
    FileInfo info;
    std::vector<NamedInfo> entries;
    bool has_more = false;  // List: ask again after the last name
    std::string pool;       // reply to Hello
    std::uint64_t session = 0;
    std::string ticket;  // with a handle: see Reopen
    bool operator==(const Reply&) const = default;
};

Bytes encode(const Hello& hello);
Bytes encode(const Request& request);
Bytes encode(const Reply& reply);
Result<Hello> decode_hello(std::span<const std::uint8_t> bytes);
Result<Request> decode_request(std::span<const std::uint8_t> bytes);
Result<Reply> decode_reply(std::span<const std::uint8_t> bytes);

// ---- pager channel

struct Doorbell {
    bool operator==(const Doorbell&) const = default;
};

struct Fetch {
    std::uint64_t placed = 0;  // sequence of the last Places that is in force; 0: none yet
    bool operator==(const Fetch&) const = default;
};

// "I got SIGBUS at this address." The ticket is the client's own; the Verdict carries it back.
struct Fault {
    std::uint32_t ticket = 0;
    std::uint64_t address = 0;
    bool is_poison = false;        // the kernel said BUS_MCEERR_AR or BUS_MCEERR_AO
    std::uint8_t length_log2 = 0;  // of what the kernel says is bad; 0: not said
    bool operator==(const Fault&) const = default;
};

enum class Answer : std::uint8_t {
    Retry = 0,      // mapped again, or about to be: touch it anew
    Lost = 1,       // no copy is left
    Stale = 2,      // the copy may be older than the program's stores; see Accept
    BeyondEnd = 3,  // of the file
    NoCopy = 4,     // this replica is not there
    NotOurs = 5,    // no mapping of this session
};
struct Verdict {
    std::uint32_t ticket = 0;
    Answer answer = Answer::Retry;
    std::uint64_t address = 0;  // of the affected range, whole pages
    std::uint64_t length = 0;
    bool operator==(const Verdict&) const = default;
};

struct Notice {
    std::uint64_t address = 0;
    std::uint64_t length = 0;
    Answer what = Answer::Lost;  // Lost or Stale
    bool operator==(const Notice&) const = default;
};

// What lies at a place. Without a segment every touch is SIGBUS.
enum class PlaceKind : std::uint8_t {
    Segment = 0,
    BeyondEnd = 1,
    Lost = 2,
    Stale = 3,   // held back until the program accepts the older bytes
    NoCopy = 4,  // the file has no such replica here
};

inline constexpr std::uint16_t kNoDescriptor = 0xffff;
// Replicas of a file that a client can map: 0 is the primary, at the mapping's own addresses.
// Replica r of a writable mapping is mapped r * mirror_stride(length) behind it, for persisting.
inline constexpr std::uint32_t kReplicasMax = 4;
constexpr std::uint64_t mirror_stride(std::uint64_t length) {
    return base::align_up(length, base::kHugePageBytes);
}
// What a client reserves for a mapping: room for the copies behind what the program sees.
constexpr std::uint64_t reserved_bytes(std::uint64_t length, Access access) {
    return access == Access::ReadWrite ? mirror_stride(length) * kReplicasMax : length;
}

// address, length and segment_offset are whole pages; a decoded place is not empty and does not
// overflow.
struct Place {
    MappingId mapping;
    std::uint64_t address = 0;
    std::uint64_t length = 0;
    // Index among the message's descriptors; kNoDescriptor, and only then, when kind is not
    // Segment.
    std::uint16_t descriptor = kNoDescriptor;
    std::uint64_t segment_offset = 0;
    Access access = Access::Read;
    PlaceKind kind = PlaceKind::Segment;
    std::uint8_t replica = 0;
    bool needs_sync = false;  // stores are durable only after msync
    bool operator==(const Place&) const = default;
};

struct Places {
    std::uint64_t sequence = 0;
    std::vector<Place> places;
    bool operator==(const Places&) const = default;
};

using PagerMessage = std::variant<Doorbell, Fetch, Places, Fault, Verdict, Notice>;
Bytes encode(const PagerMessage& message);
Result<PagerMessage> decode_pager_message(std::span<const std::uint8_t> bytes);

// The client's side again, for a pager that must not allocate: neither does, unless decoding fails.
struct FromDaemon {
    enum class Kind { Doorbell, Places, Verdict, Notice };
    Kind kind = Kind::Doorbell;
    Places places;
    Verdict verdict;
    Notice notice;
};
// Fills the member that `kind` names; allocates nothing when `places` has room for kPlacesMax.
// Corrupt for what a client sends.
Status decode_from_daemon(std::span<const std::uint8_t> bytes, FromDaemon& into);
inline constexpr std::size_t kFetchBytes = 16;
std::array<std::uint8_t, kFetchBytes> encode_fetch(const Fetch& fetch);
// The same for a signal handler.
inline constexpr std::size_t kFaultBytes = 22;
std::array<std::uint8_t, kFaultBytes> encode_fault(const Fault& fault);

}  // namespace refault::wire
