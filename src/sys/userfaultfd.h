// userfaultfd, one function a request. The descriptor acts on the address space of the process that
// created it, from whichever process holds it. Stateless functions; the kernel serialises.
//
// What the errors mean here: Gone (ESRCH) the process has exited; NotFound (ENOENT) the addresses
// are not registered or not mapped any more; NotSupported: this kind of memory takes no
// userfaultfd.
#pragma once

#include <vector>

#include "base/range.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::sys {

using base::AddressRange;
using base::Result;
using base::Status;
using base::UniqueFd;

struct Userfaultfd {
    UniqueFd fd;
    // False when only accesses made in user mode wait for a fault's resolution, because the process
    // may not ask for more: then a system call that touches a fenced page fails with EFAULT.
    bool handles_kernel_faults = false;
};
// For the calling process. Tries full rights, then /dev/userfaultfd, then user mode only.
// NotSupported, with what to do, when none is allowed.
Result<Userfaultfd> create_userfaultfd();
// The handshake (UFFDIO_API), once a descriptor. NotSupported when the kernel lacks write
// protection of shared memory. MayBeMade: one on which it was made before is fine.
enum class Handshake { New, MayBeMade };
Status userfaultfd_handshake(int fd, Handshake handshake = Handshake::New);

// What the kernel can do with shared memory. Takes the place of the handshake, so the descriptor is
// good for nothing else afterwards.
struct UserfaultfdFeatures {
    bool has_missing_shmem = false;
    bool has_minor_shmem = false;
    bool write_protects_shmem = false;
};
Result<UserfaultfdFeatures> userfaultfd_features(int fd);

// missing: a touch of a page that the file does not have waits. minor: so does one of a page that
// the file has and the page table has not. write_protect: so does a write to a page marked by
// userfaultfd_write_protect. Ranges may span several mappings.
struct FaultModes {
    bool missing = false;
    bool minor = false;
    bool write_protect = false;
};
Status userfaultfd_register(int fd, AddressRange range, FaultModes modes);
// Of the calling process: what is registered, by whatever descriptor, for writes to marked pages
// and for nothing else. Reads /proc/self/smaps, which takes time with the number of pages.
Result<std::vector<AddressRange>> ranges_registered_for_writes_only();
// Lifts marks, drops the registration, wakes who waits.
Status userfaultfd_unregister(int fd, AddressRange range);
Status userfaultfd_write_protect(int fd, AddressRange range);
// Stores go on, and who waits for one is woken; the registration stays.
Status userfaultfd_lift_write_protect(int fd, AddressRange range);
// The faults that nobody has read yet, at most 64; empty when there are none. Reading one resolves
// nothing: its thread goes on waiting until it is woken.
struct FaultEvent {
    std::uint64_t address = 0;
    bool is_write_protect = false;
};
Result<std::vector<FaultEvent>> userfaultfd_read(int fd);
// Lets everybody who waits in the range try again. The range need not be registered any more.
Status userfaultfd_wake(int fd, AddressRange range);

}  // namespace refault::sys
