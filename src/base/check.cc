// Reports a broken invariant without allocating, then aborts.
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace refault::base {

void check_failed(const char* condition, const char* file, int line) noexcept {
    std::fprintf(stderr, "refault: internal error: CHECK(%s) failed at %s:%d\n", condition, file,
                 line);
    std::abort();
}

}  // namespace refault::base
