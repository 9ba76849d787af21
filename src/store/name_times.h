// The times of an inode as they change with names: of a directory when a name comes or goes, of
// what has the name when its links change.
#pragma once

#include "store/state.h"

namespace refault::store {

inline op::SetTimes modified_at(const Inode& node, std::uint64_t time_ns) {
    return {node.attributes.inode, node.attributes.accessed_ns, time_ns, time_ns};
}

inline op::SetTimes changed_at(const Inode& node, std::uint64_t time_ns) {
    const auto& attributes = node.attributes;
    return {attributes.inode, attributes.accessed_ns, attributes.modified_ns, time_ns};
}

}  // namespace refault::store
