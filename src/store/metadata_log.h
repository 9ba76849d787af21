// The metadata log: an append-only stream of records, kept in step on up to two devices, in
// segments of their own.
//
//   stream of one epoch:   [header][checkpoint record]...[checkpoint
//   end][transaction][transaction]... on each device:        the stream cut into segments, in the
//   order that the device's label lists
//
// A checkpoint starts a new epoch in fresh segments; the labels switch to it one by one, then the
// old segments are given back. Records are framed with length, sequence number and CRC32C, so a
// torn tail is seen and cut; damage before the tail is read from the other copy. Format:
// docs/format.md.
//
// Invariants:
//  - A transaction is on every copy (written and synced) before append() returns ok. When a copy's
//  device fails, the log
//    goes on with the rest and says so in failed_copies(); with no copy left append() fails and
//    nothing is applied.
//  - A label lists every segment that holds a byte of its copy, and no segment of a copy in use is
//  ever given back.
//  - A copy that missed a transaction never wins over one that has it: its label is cleared where
//  it can be written, and
//    in any case it is the shorter one of its epoch. Numbers of epochs and records that may be on
//    media are not used again for anything else.
// Not thread-safe: guarded by the store's lock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/codec.h"
#include "base/result.h"
#include "base/uuid.h"
#include "device/device.h"
#include "store/log_record.h"

namespace refault::store {

using base::Result;
using base::Status;
using DevicePtr = std::shared_ptr<device::Device>;

// Where the log gets segments from. `take` returns a segment whose file exists, all holes;
// `give_back` removes the file. Implemented over the allocator; neither may append to the log.
class MetadataSpace {
  public:
    virtual ~MetadataSpace() = default;
    virtual Result<base::SegmentNo> take(base::DeviceId device) = 0;
    virtual void give_back(base::DeviceId device, base::SegmentNo segment) = 0;
};

class MetadataLog {
  public:
    struct Copy {
        base::DeviceId id;
        DevicePtr device;
    };
    // What a pool's members remember, longest valid first.
    struct History {
        std::uint64_t epoch = 0;
        std::vector<base::Bytes> checkpoint;    // payloads, in order
        std::vector<base::Bytes> transactions;  // payloads after it, in order
        std::string notes;  // what was cut or repaired, for the log; empty when nothing was
    };
    // Reads all labels and copies; members without metadata are passed over. A record damaged on
    // one copy is taken from the other. Corrupt when no copy has a complete checkpoint, or when
    // records are lost before the end of the newest epoch; NotSupported when a newer program wrote
    // it; Invalid when the members are of different pools.
    static Result<History> read_longest(std::span<const DevicePtr> members);

    MetadataLog(const base::Uuid& pool, MetadataSpace& space) : pool_(pool), space_(space) {}

    // Starts the next epoch (`first_epoch` when nothing was written yet) with `image` on exactly
    // these devices, switches their labels, and takes the metadata off every device that had a copy
    // and is not among them. On failure the old epoch stays in force and every segment taken is
    // given back. A device whose label alone cannot be switched is a failed copy, and no failure
    // while another one can.
    Status checkpoint(std::vector<Copy> copies, std::span<const base::Bytes> image,
                      std::uint64_t first_epoch = 1);
    // One transaction, durable on every copy. NoSpace when no segment is left on any copy's device.
    // After a failure it may or may not be found when the pool is opened, but only if nothing is
    // appended behind it.
    Status append(std::span<const std::uint8_t> transaction);

    std::uint64_t epoch() const noexcept { return epoch_; }
    std::uint64_t log_bytes() const noexcept;  // transactions since the checkpoint
    std::uint64_t checkpoint_bytes() const noexcept;
    // True when the log is longer than its checkpoint by so much that a new checkpoint pays.
    bool wants_checkpoint() const noexcept;
    std::vector<base::DeviceId> copies() const;
    std::vector<base::DeviceId> failed_copies() const;
    // The device is back with a label that lists nothing, and may have a copy again.
    void readmit(base::DeviceId device);

  private:
    // One copy being written: where the stream's bytes lie on its device.
    struct Stream {
        Copy copy;
        std::vector<base::SegmentNo> segments;
        std::size_t listed_count =
            0;  // so many of them, from the first, are known to be in the label
    };
    using DeviceIds = std::vector<base::DeviceId>;

    // Makes the stream `length` bytes long with segments that its label does not list yet.
    Status grow(Stream& stream, std::uint64_t length);
    Status write_at(Stream& stream, std::uint64_t offset, std::span<const std::uint8_t> bytes,
                    device::DurableWrite row);
    Status append_to(Stream& stream, std::span<const std::uint8_t> record);
    // Empties [begin, end) of the stream, so that it cannot be read as records any more.
    Status wipe(const Stream& stream, std::uint64_t begin, std::uint64_t end);
    void undo_append();
    // Goes on without these copies.
    void retire(const DeviceIds& lost, const base::Error& why);

    // A label that lists the stream as this epoch's copy.
    Status list_in_label(Stream& stream, std::uint64_t epoch);
    Status clear_label(const Copy& copy);
    void give_back(const Stream& stream);
    void give_back(const std::vector<Stream>& streams);

    Result<std::vector<Stream>> write_new_streams(const std::vector<Copy>& copies,
                                                  std::span<const std::uint8_t> bytes);
    void keep_old_epoch(std::vector<Stream> unlisted, std::uint64_t epoch, const base::Error& why);
    void leave_old_epoch(std::vector<Stream> listed, std::vector<Stream> unlisted);

    const base::Uuid pool_;
    MetadataSpace& space_;
    std::uint64_t epoch_ = 0;
    std::uint64_t next_epoch_ = 0;   // above every epoch that a label may list
    std::optional<LogFrame> frame_;  // of epoch_
    std::uint64_t next_sequence_ = 1;
    std::uint64_t end_offset_ = 0;  // of the stream, the same on every copy
    std::uint64_t checkpoint_bytes_ = 0;
    base::Bytes record_;  // being appended; kept for its memory
    std::vector<Stream> streams_;
    std::vector<Stream>
        retired_;  // failed, and their labels may still list them: given back with their epoch
    DeviceIds failed_;
};

}  // namespace refault::store
