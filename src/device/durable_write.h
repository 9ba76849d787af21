// Every kind of thing that Refault writes durably, in one table. Each call by which a device
// changes its files (medium.h) names its row, so a test can cut the power at each of them and see
// that no row was left out. docs/format.md says what is durable when. Constants; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace refault::device {

struct Label;

enum class DurableWrite : std::uint8_t {
    LabelJoin,
    LabelGeneration,
    LabelEpoch,
    LabelGrow,
    LabelClear,
    LabelTombstone,
    LabelHandOver,
    LabelRemove,
    Checkpoint,
    Journal,
    JournalUndo,
    LogSegmentMake,
    LogSegmentRemove,
    SegmentMake,
    SegmentRemove,
    FileBytes,
    FileCopy,
    FileHole,
    FileSpace,
    Lock,
};

struct DurableWriteInfo {
    DurableWrite row;
    std::string_view name;
    std::string_view what;
    std::string_view durable;  // when it is on the medium
};

inline constexpr std::array kDurableWrites{
    DurableWriteInfo{DurableWrite::LabelJoin, "label-join", "the first label of a device in a pool",
                     "before the journal or the first checkpoint names the device"},
    DurableWriteInfo{DurableWrite::LabelGeneration, "label-generation",
                     "a label with the next generation: the pool is opened, a device came back",
                     "before the checkpoint of the opening; behind the journal for a device that "
                     "came back"},
    DurableWriteInfo{DurableWrite::LabelEpoch, "label-epoch",
                     "the label lists the log of another epoch",
                     "behind the checkpoint, before anything is appended to it"},
    DurableWriteInfo{DurableWrite::LabelGrow, "label-grow", "the label lists one more log segment",
                     "behind the segment, before a byte is written to it"},
    DurableWriteInfo{DurableWrite::LabelClear, "label-clear", "the label lists no log any more",
                     "before the transaction that this copy lacks is acknowledged"},
    DurableWriteInfo{DurableWrite::LabelTombstone, "label-tombstone",
                     "the device was emptied and has left",
                     "behind the journal, before the device is said to be safe"},
    DurableWriteInfo{DurableWrite::LabelHandOver, "label-hand-over",
                     "the device becomes another pool's, with what lies on it",
                     "behind that pool's checkpoint, before this pool forgets the files"},
    DurableWriteInfo{DurableWrite::LabelRemove, "label-remove",
                     "a label is removed: the device is wiped, or its pool was not made",
                     "when the call returns"},
    DurableWriteInfo{DurableWrite::Checkpoint, "checkpoint", "the stream of a new epoch",
                     "before a label lists it"},
    DurableWriteInfo{DurableWrite::Journal, "journal", "a transaction",
                     "before it is applied and acknowledged"},
    DurableWriteInfo{DurableWrite::JournalUndo, "journal-undo",
                     "a transaction that no copy took whole is punched out",
                     "before the next transaction"},
    DurableWriteInfo{DurableWrite::LogSegmentMake, "log-segment-make", "a segment file for the log",
                     "before a label lists it"},
    DurableWriteInfo{DurableWrite::LogSegmentRemove, "log-segment-remove",
                     "a segment file of an old epoch is cut and removed",
                     "with the next name made in the directory; no label lists it"},
    DurableWriteInfo{DurableWrite::SegmentMake, "segment-make", "a segment file for bytes of files",
                     "before the journal gives it an owner"},
    DurableWriteInfo{DurableWrite::SegmentRemove, "segment-remove",
                     "a segment file without an owner is cut and removed, or set aside while "
                     "somebody has it",
                     "with the next name made in the directory; opening the pool removes what is "
                     "left"},
    DurableWriteInfo{DurableWrite::FileBytes, "file-bytes", "bytes of files",
                     "when the sync of the file returns"},
    DurableWriteInfo{DurableWrite::FileCopy, "file-copy", "bytes of files at another place",
                     "before the journal names the place"},
    DurableWriteInfo{DurableWrite::FileHole, "file-hole",
                     "bytes that are dropped: free space, zeros, memory that is repaired",
                     "before the space is given to anybody"},
    DurableWriteInfo{DurableWrite::FileSpace, "file-space", "memory is taken ahead of its use",
                     "never needed"},
    DurableWriteInfo{DurableWrite::Lock, "lock", "the file that is locked by who has the device",
                     "never needed"},
};

constexpr const DurableWriteInfo& info_of(DurableWrite row) {
    return kDurableWrites.at(static_cast<std::size_t>(row));
}

// What it means that this label takes the place of that one, or of none (nullptr).
DurableWrite label_change(const Label* old_label, const Label& new_label) noexcept;

}  // namespace refault::device
