// libnuma, which knows about nodes without processors (CXL memory) and about the limits of a
// cpuset.
#include "sys/numa.h"

#include <numa.h>

#include <algorithm>

namespace refault::sys {

std::vector<int> numa_nodes() {
    if (::numa_available() < 0) return {0};
    std::vector<int> nodes;
    for (int node = 0; node <= ::numa_max_node(); ++node)
        if (::numa_bitmask_isbitset(::numa_all_nodes_ptr, static_cast<unsigned>(node)) != 0)
            nodes.push_back(node);
    return nodes;
}

bool numa_node_exists(int node) {
    const auto nodes = numa_nodes();
    return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

std::string numa_node_list() {
    std::string text;
    for (const int node : numa_nodes()) text += (text.empty() ? "" : ", ") + std::to_string(node);
    return text;
}

}  // namespace refault::sys
