// Moves while they are planned: each is reserved as soon as it has a place, so that the next one
// sees it. Either all are handed out, or give_up_plan_locked forgets them. Not thread-safe: the
// store's lock.
#pragma once

#include <optional>
#include <vector>

#include "store/placement.h"
#include "store/store.h"

namespace refault::store {

struct Store::MovePlan {
    DeviceSet excluded;
    std::optional<std::uint32_t> copy_as;
    std::vector<Move> moves;
    std::vector<Piece> pieces;
    std::uint64_t wanted_bytes = 0;
    std::uint64_t placed_bytes = 0;
};

}  // namespace refault::store
