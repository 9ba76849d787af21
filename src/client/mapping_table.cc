// Reserving, placing and unmapping addresses.
#include "client/mapping_table.h"

#include <sys/mman.h>

#include "sys/userfaultfd.h"

namespace refault::client {

using base::Access;
using base::Code;
using base::Error;
using base::FileRange;
using base::kHugePageBytes;
using base::MutexLock;
using base::sys_error;

namespace {

void* pointer(std::uint64_t address) { return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address)); }
std::uint64_t number(void* address) { return reinterpret_cast<std::uintptr_t>(address); }

// Neighbouring places of one descriptor that continue each other are one mapping for the kernel.
bool continues(const wire::Place& first, const wire::Place& next) {
    return first.mapping == next.mapping && first.descriptor == next.descriptor && first.access == next.access &&
           first.address + first.length == next.address &&
           (first.descriptor == wire::kNoDescriptor || first.segment_offset + first.length == next.segment_offset);
}

}  // namespace

Status MappingTable::prepare() {
    empty_file_ = base::UniqueFd(::memfd_create("refault-beyond-end", MFD_CLOEXEC));
    if (!empty_file_) return sys_error("memfd_create");
    return {};
}

Result<std::uint64_t> MappingTable::reserve(std::uint64_t length) {
    const std::uint64_t padded = length + kHugePageBytes;
    if (padded < length) return Error(Code::Invalid, "the length is too large");
    void* const raw = ::mmap(nullptr, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) return sys_error("reserve addresses");
    const auto begin = base::align_up(number(raw), kHugePageBytes);
    if (begin > number(raw)) ::munmap(raw, begin - number(raw));
    const auto end = number(raw) + padded;
    if (end > begin + length) ::munmap(pointer(begin + length), end - begin - length);
    MutexLock lock(mutex_);
    mappings_[begin] = Mapping{AddressRange::of_length(begin, length), std::nullopt, {}};
    return begin;
}

void MappingTable::identify(std::uint64_t address, base::MappingId id) {
    MutexLock lock(mutex_);
    if (Mapping* mapping = find_locked(address)) mapping->id = id;
    changed_.notify_all();
}

void MappingTable::remove(std::uint64_t address) {
    MutexLock lock(mutex_);
    const auto at = mappings_.find(address);
    if (at == mappings_.end()) return;
    ::munmap(pointer(address), at->second.addresses.length());
    mappings_.erase(at);
    changed_.notify_all();
}

void MappingTable::remove_all() {
    MutexLock lock(mutex_);
    for (const auto& [address, mapping] : mappings_) ::munmap(pointer(address), mapping.addresses.length());
    mappings_.clear();
    changed_.notify_all();
}

MappingTable::Mapping* MappingTable::find_locked(std::uint64_t address) {
    auto at = mappings_.upper_bound(address);
    if (at == mappings_.begin()) return nullptr;
    --at;
    return at->second.addresses.contains(address) ? &at->second : nullptr;
}

Status MappingTable::place(const wire::Places& places, std::span<const base::UniqueFd> descriptors) {
    MutexLock lock(mutex_);
    for (std::size_t i = 0; i < places.places.size();) {
        wire::Place whole = places.places[i++];
        for (; i < places.places.size() && continues(whole, places.places[i]); ++i) whole.length += places.places[i].length;
        if (whole.descriptor != wire::kNoDescriptor && whole.descriptor >= descriptors.size())
            return Error(Code::Corrupt, "a place names a descriptor that was not sent");
        const int fd = whole.descriptor == wire::kNoDescriptor ? empty_file_.get() : descriptors[whole.descriptor].get();
        RETURN_IF_ERROR(place_one_locked(whole, fd));
    }
    changed_.notify_all();
    return {};
}

// Mapped aside first and then moved over the old place in one step: at no moment is there a mapping that a forked child
// would inherit, or nothing at all.
Status MappingTable::place_one_locked(const wire::Place& place, int fd) {
    Mapping* mapping = find_locked(place.address);
    // The daemon answers a request to map after it has rung for its places: the identity is on its way.
    while (mapping != nullptr && !mapping->id && !has_ended_) {
        changed_.wait(mutex_);
        mapping = find_locked(place.address);
    }
    if (mapping == nullptr || mapping->id != place.mapping) return {};  // unmapped meanwhile
    if (place.length == 0 || !mapping->addresses.contains(AddressRange::of_length(place.address, place.length)))
        return Error(Code::Corrupt, "a place lies outside of its mapping");
    // A shared mapping of a read-only descriptor cannot be registered with userfaultfd (it lacks VM_MAYWRITE). A
    // private one that is never written shows the same pages.
    const bool is_writable = place.access == Access::ReadWrite;
    const int protection = is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void* const aside = ::mmap(nullptr, place.length, protection, is_writable ? MAP_SHARED : MAP_PRIVATE, fd,
                               static_cast<off_t>(place.segment_offset));
    if (aside == MAP_FAILED) return sys_error("map a new place");
    if (::madvise(aside, place.length, MADV_DONTFORK) != 0 ||
        ::mremap(aside, place.length, place.length, MREMAP_MAYMOVE | MREMAP_FIXED, pointer(place.address)) == MAP_FAILED) {
        const auto error = sys_error("move a new place to its address");
        ::munmap(aside, place.length);
        return error;
    }
    // Replacing the mapping has dropped its registration; who waits on it tries again now.
    RETURN_IF_ERROR(sys::userfaultfd_wake(userfaultfd_, AddressRange::of_length(place.address, place.length)));
    mapping->placed.add(FileRange::of_length(place.address - mapping->addresses.begin(), place.length));
    return {};
}

Status MappingTable::wait_until_placed(std::uint64_t address) {
    MutexLock lock(mutex_);
    for (;;) {
        const Mapping* mapping = find_locked(address);
        if (mapping == nullptr || has_ended_) return Error(Code::Gone, "the daemon went away while mapping");
        if (mapping->placed.length_bytes() == mapping->addresses.length()) return {};
        changed_.wait(mutex_);
    }
}

void MappingTable::end() {
    MutexLock lock(mutex_);
    has_ended_ = true;
    changed_.notify_all();
}

}  // namespace refault::client
