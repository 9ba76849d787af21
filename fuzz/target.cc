// The list of targets; in a function, because it is filled before main begins.
#include "fuzz/target.h"

namespace refault::fuzz {

std::vector<Target>& targets() {
    static std::vector<Target> all;
    return all;
}

}  // namespace refault::fuzz
