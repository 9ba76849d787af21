// The C API: mappings. Nothing here touches mapped memory under a lock.
#include <sys/mman.h>

#include <cerrno>

#include "base/range.h"
#include "client/fork_gate.h"
#include "client/handles.h"

using refault::base::Access;
using refault::base::Code;
using refault::base::kPageBytes;
using refault::base::MutexLock;
using refault::client::Error;
using refault::client::fail;
using refault::client::ForkGate;
using refault::client::invalid;
namespace wire = refault::wire;

namespace {

const char* what_is_wrong(uint64_t offset, uint64_t length, int flags) {
    if ((flags & ~(RF_READ | RF_WRITE | RF_POPULATE)) != 0 || (flags & RF_READ) == 0)
        return "rf_map: flags are RF_READ, or RF_READ | RF_WRITE, and RF_POPULATE if wanted";
    if (offset % kPageBytes != 0 || length % kPageBytes != 0)
        return "rf_map: offset and length are whole pages of 4096 bytes";
    if (length == 0) return "rf_map: the length is 0; map at least one page";
    // Offsets are signed where the kernel takes them.
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return "rf_map: offset and length are beyond what a file can be";
    return nullptr;
}

}  // namespace

extern "C" {

int rf_map(rf_file* file, uint64_t offset, uint64_t length, int flags, rf_mapping** mapping) {
    if (file == nullptr) return -EINVAL;
    rf_session* const session = file->session;
    if (mapping == nullptr) return invalid(session, "rf_map: mapping is NULL");
    *mapping = nullptr;
    if (const char* const wrong = what_is_wrong(offset, length, flags))
        return invalid(session, wrong);
    const bool is_writable = (flags & RF_WRITE) != 0;
    if (is_writable && !file->is_writable)
        return fail(session,
                    Error(Code::Denied,
                          "rf_map: the file is open for reading only; open it for writing too"));
    const bool populate = (flags & RF_POPULATE) != 0;
    auto mapped = session->session->map(wire::Map{
        file->handle, offset, length, 0, is_writable ? Access::ReadWrite : Access::Read, populate});
    if (!mapped) return fail(session, mapped.error());
    auto made = std::make_unique<rf_mapping>(rf_mapping{session, *mapped, length});
    // Beyond the end of the file there is nothing to populate: that error is expected.
    if (populate)
        (void)::madvise(rf_address(made.get()), length,
                        is_writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    {
        MutexLock lock(session->mutex);
        ForkGate gate;
        session->mappings.insert(made.get());
    }
    *mapping = made.release();
    return 0;
}

void* rf_address(const rf_mapping* mapping) {
    if (mapping == nullptr) return nullptr;
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(mapping->place.address));
}

uint64_t rf_length(const rf_mapping* mapping) {
    return mapping != nullptr ? mapping->length : 0;
}

int rf_persist(rf_mapping* mapping, const void* address, size_t length) {
    if (mapping == nullptr) return -EINVAL;
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    // before:  | offset bytes | length | the rest |   nothing of it may be negative
    const std::uint64_t offset = begin - mapping->place.address;
    if (begin < mapping->place.address || offset > mapping->length ||
        length > mapping->length - offset)
        return invalid(mapping->session, "rf_persist: the range is not inside the mapping");
    // What cannot be stored into needs nothing to become durable.
    if (!mapping->place.mirrors) return 0;
    auto persisted = mapping->place.mirrors->persist(offset, length);
    return persisted ? 0 : fail(mapping->session, persisted.error());
}

int rf_unmap(rf_mapping* mapping) {
    if (mapping == nullptr) return -EINVAL;
    rf_session* const session = mapping->session;
    auto unmapped = session->session->unmap(mapping->place);
    const int result = unmapped ? 0 : fail(session, unmapped.error());
    if (!session->session->is_in_its_process()) return result;
    {
        MutexLock lock(session->mutex);
        ForkGate gate;
        session->mappings.erase(mapping);
    }
    delete mapping;
    return result;
}

}  // extern "C"
