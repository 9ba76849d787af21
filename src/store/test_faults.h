// For tests: every system call by which a device changes or reads its files, shown to the test
// before it is made. The test may look at the files as a crash would leave them, or let the call
// fail. The calls are caught by defining the C library's functions in the test program
// (faults_test.cc); threads that watch nothing are not affected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace refault::store::testing {

enum class Call : std::uint8_t { Write, Read, Sync, SetSize, Allocate, Rename, Remove };

struct CallEvent {
    Call call;
    std::string path;  // of the file; of the new name for Rename
    std::uint64_t offset = 0;
    std::size_t length = 0;
    const void* bytes = nullptr;  // of a Write
    bool is_change() const { return call != Call::Read; }
};

struct Verdict {
    int error = 0;               // an errno to fail with
    bool has_effect = false;     // the call is made all the same
    std::size_t torn_bytes = 0;  // of a Write that fails: so much is written
};

// While it lives, the calls of the thread that made it go to `watch`. Calls that `watch` itself
// makes do not.
class CallWatch {
  public:
    using Watch = std::function<Verdict(const CallEvent&)>;
    explicit CallWatch(Watch watch);
    ~CallWatch();
    CallWatch(const CallWatch&) = delete;
    CallWatch& operator=(const CallWatch&) = delete;
};

}  // namespace refault::store::testing
