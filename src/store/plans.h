// What the store plans, does and wants on a larger scale: answers of its calls on copies, losses
// and devices. Value types.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "store/types.h"

namespace refault::store {

// What is to be changed of it.
struct Redundancy {
    std::optional<std::uint32_t> replicas;
    std::optional<OnLoss> on_loss;
};

// Places for copies that are missing, what finds no place, and copies whose number is too high.
struct CopyPlan {
    std::vector<Move> moves;
    std::uint64_t short_bytes = 0;
    std::vector<Extent> surplus;
};

// What became of a file's range when a copy was dropped.
struct Dropped {
    Extent extent;
    std::vector<FileRange> promoted;
    std::vector<FileRange> lost;
};

// A file whose copies are too few, too many, or may differ.
struct Attention {
    InodeNo inode;
    bool is_unsynced = false;
    std::uint64_t missing_bytes = 0;
};

// What a device that has come back brought along.
struct Rejoined {
    DeviceId id;
    std::vector<std::pair<InodeNo, FileRange>> restored;
    std::vector<Move> copies;
};

// What would leave with devices that take their data along.
struct ExportPlan {
    std::vector<InodeNo> files;           // with bytes on the devices
    std::vector<std::string> incomplete;  // of these, who lie only in part on them
    std::uint64_t bytes = 0;
};

}  // namespace refault::store
