// The NUMA nodes that this process may take memory from. Stateless.
#pragma once

#include <string>
#include <vector>

namespace refault::sys {

// Ascending; {0} on a kernel without NUMA.
std::vector<int> numa_nodes();
bool numa_node_exists(int node);
// "0, 1, 3": for people.
std::string numa_node_list();

}  // namespace refault::sys
