// Reserving, placing and unmapping addresses.
#include "client/mapping_table.h"

#include <sys/mman.h>

#include <algorithm>

#include "client/fork_gate.h"
#include "client/signal_block.h"
#include "sys/userfaultfd.h"

namespace refault::client {

using base::Code;
using base::kHugePageBytes;
using base::kPageBytes;
using base::MutexLock;
using base::sys_error;

namespace {

// A thread that waits for places looks at its signals this often.
constexpr std::chrono::milliseconds kSignalsHeldMax{50};

void* pointer(std::uint64_t address) {
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
}
std::uint64_t number(void* address) {
    return reinterpret_cast<std::uintptr_t>(address);
}

// Which nothing can be read from, and which children do not have: they may want the same ones. At
// `hint` and nowhere else, unless that is null.
Result<void*> reserve_addresses(void* hint, std::uint64_t length) {
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    ForkGate gate;
    void* const made = ::mmap(hint, length, PROT_NONE,
                              kFlags | (hint != nullptr ? MAP_FIXED_NOREPLACE : 0), -1, 0);
    if (made == MAP_FAILED) return sys_error("reserve addresses");
    if (::madvise(made, length, MADV_DONTFORK) == 0) return made;
    const auto error = sys_error("keep addresses from children");
    ::munmap(made, length);
    return error;
}

}  // namespace

Status MappingTable::prepare() {
    empty_file_ = base::UniqueFd(::memfd_create("refault-beyond-end", MFD_CLOEXEC));
    if (!empty_file_) return sys_error("memfd_create");
    return {};
}

//   raw:   [------------------------------------)   length + 2 MiB
//   kept:        [--------------------)             aligned; the rest is given back
Result<std::uint64_t> MappingTable::reserve(std::uint64_t wanted, Access access) {
    CHECK(wanted > 0 && base::is_aligned(wanted, kPageBytes));
    const bool has_mirrors = access == Access::ReadWrite;
    const std::uint64_t length = wire::reserved_bytes(wanted, access);
    const std::uint64_t padded = length + kHugePageBytes;
    if (wanted > UINT64_MAX / (2 * wire::kReplicasMax))
        return Error(Code::NoSpace, "no program has that many addresses; map less", ENOMEM);
    auto reserved = reserve_addresses(nullptr, padded);
    if (!reserved) return reserved.error();
    void* const raw = *reserved;
    const auto begin = base::align_up(number(raw), kHugePageBytes);
    if (begin > number(raw)) ::munmap(raw, begin - number(raw));
    const auto end = number(raw) + padded;
    if (end > begin + length) ::munmap(pointer(begin + length), end - begin - length);
    // Memory is taken before the lock and given back after it: whoever holds the allocator's lock
    // may be waiting in a fault for the pager.
    std::map<std::uint64_t, Mapping> made;
    made.emplace(begin, Mapping{AddressRange::of_length(begin, wanted), length,
                                has_mirrors ? std::make_shared<Mirrors>(begin, wanted) : nullptr,
                                std::nullopt, MappingId(), PageSet(wanted / kPageBytes)});
    SignalBlock signals;
    MutexLock lock(mutex_);
    made.begin()->second.later_than = last_id_;
    ForkGate gate;
    mappings_.merge(made);
    return begin;
}

Status MappingTable::inherit(const MappingTable& inherited) {
    inherited.mutex_.assert_held();
    for (const auto& [begin, mapping] : inherited.mappings_) {
        if (!mapping.id) continue;
        const auto addresses = mapping.addresses;
        auto reserved = reserve_addresses(pointer(begin), mapping.reserved_bytes);
        if (!reserved)
            return Error(Code::Exists,
                         "something else is mapped in the child where the parent has its file; "
                         "call rf_after_fork before anything else (" +
                             reserved.error().message() + ")");
        Mapping made{
            addresses,
            mapping.reserved_bytes,
            mapping.mirrors ? std::make_shared<Mirrors>(begin, addresses.length()) : nullptr,
            mapping.id,
            MappingId(),
            PageSet(addresses.length() / kPageBytes),
            mapping.ticket,
            mapping.file_offset};
        if (mapping.mirrors)
            for (const auto& part : mapping.mirrors->held_parts(wire::kHeldPartsMax))
                made.mirrors->note_primary(
                    AddressRange::of_length(begin + part.offset, part.length),
                    wire::PlaceKind::Stale);
        MutexLock lock(mutex_);
        mappings_.emplace(begin, std::move(made));
    }
    return {};
}

bool MappingTable::is_for_locked(Mapping& mapping, MappingId id) {
    if (mapping.id) return *mapping.id == id;
    if (id <= mapping.later_than) return false;
    mapping.id = id;
    last_id_ = std::max(last_id_, id);
    return true;
}

Status MappingTable::identify(std::uint64_t address, MappingId id) {
    {
        SignalBlock signals;
        MutexLock lock(mutex_);
        Mapping* const mapping = find_locked(address);
        CHECK(mapping != nullptr);
        if (is_for_locked(*mapping, id)) return {};
    }
    return Error(Code::Corrupt, "the daemon gave a mapping two numbers");
}

void MappingTable::set_origin(std::uint64_t address, std::string ticket,
                              std::uint64_t file_offset) {
    SignalBlock signals;
    MutexLock lock(mutex_);
    Mapping* const mapping = find_locked(address);
    CHECK(mapping != nullptr);
    ForkGate gate;
    mapping->ticket.swap(ticket);  // what is freed is freed without the lock
    mapping->file_offset = file_offset;
}

std::optional<MappingId> MappingTable::id(std::uint64_t address) const {
    SignalBlock signals;
    MutexLock lock(mutex_);
    const Mapping* const mapping = find_locked(address);
    return mapping != nullptr ? mapping->id : std::nullopt;
}

std::vector<wire::Remap> MappingTable::remaps() const {
    std::vector<wire::Remap> all;
    MutexLock lock(mutex_);
    for (const auto& [address, mapping] : mappings_) {
        if (!mapping.id) continue;
        wire::Remap remap{mapping.ticket,
                          mapping.file_offset,
                          mapping.addresses.length(),
                          address,
                          mapping.access(),
                          1,
                          {}};
        if (mapping.mirrors) {
            remap.replicas = mapping.mirrors->placed_replicas();
            remap.held = mapping.mirrors->held_parts(wire::kHeldPartsMax);
        }
        all.push_back(std::move(remap));
    }
    return all;
}

void MappingTable::renew(std::uint64_t address, MappingId id) {
    MutexLock lock(mutex_);
    Mapping* const mapping = find_locked(address);
    CHECK(mapping != nullptr);
    mapping->id = id;
    last_id_ = id;
    for (auto& [other, unknown] : mappings_) unknown.later_than = MappingId();
}

Status MappingTable::let_stores_go() const {
    const auto tracked = sys::ranges_registered_for_writes_only();
    if (!tracked) return tracked.error();
    MutexLock lock(mutex_);
    for (const auto& [address, mapping] : mappings_)
        for (const auto& range : *tracked) {
            const auto part = mapping.addresses.intersect(range);
            if (part.empty()) continue;
            RETURN_IF_ERROR(sys::userfaultfd_lift_write_protect(userfaultfd_, part));
            RETURN_IF_ERROR(sys::userfaultfd_unregister(userfaultfd_, part));
        }
    return {};
}

Status MappingTable::map_nothing_over_locked(const Mapping& mapping, AddressRange addresses) {
    wire::Place nothing;
    nothing.address = addresses.begin();
    nothing.length = addresses.length();
    nothing.kind = wire::PlaceKind::Lost;
    nothing.access = mapping.access();
    RETURN_IF_ERROR(map_over_locked(nothing, -1));
    if (mapping.mirrors && mapping.addresses.contains(addresses))
        mapping.mirrors->note_primary(addresses, nothing.kind);
    return sys::userfaultfd_wake(userfaultfd_, addresses);
}

Status MappingTable::withdraw(std::uint64_t address) {
    MutexLock lock(mutex_);
    Mapping* const mapping = find_locked(address);
    CHECK(mapping != nullptr);
    mapping->id = std::nullopt;
    return map_nothing_over_locked(*mapping, mapping->addresses);
}

Status MappingTable::refuse(std::uint64_t page) {
    MutexLock lock(mutex_);
    const Mapping* const mapping = find_locked(page);
    if (mapping == nullptr) return {};
    return map_nothing_over_locked(*mapping, AddressRange::of_length(page, kPageBytes));
}

void MappingTable::wake_all() const {
    MutexLock lock(mutex_);
    for (const auto& [address, mapping] : mappings_)
        base::discard(sys::userfaultfd_wake(
                          userfaultfd_, AddressRange::of_length(address, mapping.reserved_bytes)),
                      "then nobody waits there");
}

void MappingTable::remove(std::uint64_t address) {
    decltype(mappings_)::node_type removed;
    SignalBlock signals;
    MutexLock lock(mutex_);
    ForkGate gate;
    removed = mappings_.extract(address);
    CHECK(!removed.empty());
    ::munmap(pointer(address), removed.mapped().reserved_bytes);
}

void MappingTable::remove_all() {
    std::map<std::uint64_t, Mapping> removed;
    SignalBlock signals;
    MutexLock lock(mutex_);
    for (const auto& [address, mapping] : mappings_)
        ::munmap(pointer(address), mapping.reserved_bytes);
    ForkGate gate;
    removed.swap(mappings_);
}

MappingTable::Mapping* MappingTable::find_locked(std::uint64_t address) {
    auto at = mappings_.upper_bound(address);
    if (at == mappings_.begin()) return nullptr;
    --at;
    return address - at->first < at->second.reserved_bytes ? &at->second : nullptr;
}

const MappingTable::Mapping* MappingTable::find_locked(std::uint64_t address) const {
    return const_cast<MappingTable*>(this)->find_locked(address);
}

std::shared_ptr<Mirrors> MappingTable::mirrors(std::uint64_t address) const {
    SignalBlock signals;
    MutexLock lock(mutex_);
    const Mapping* const mapping = find_locked(address);
    return mapping != nullptr ? mapping->mirrors : nullptr;
}

bool MappingTable::owns(std::uint64_t address) const noexcept {
    MutexLock lock(mutex_);
    return find_locked(address) != nullptr;
}

Result<AddressRange> MappingTable::addresses_of_locked(const Mapping& mapping,
                                                       const wire::Place& place) const {
    const auto addresses = AddressRange::of_length(place.address, place.length);
    const bool is_primary = place.replica == 0;
    const auto whole = is_primary || !mapping.mirrors
                           ? mapping.addresses
                           : AddressRange::of_length(mapping.mirrors->region(place.replica),
                                                     mapping.addresses.length());
    if (!whole.contains(addresses) || (!is_primary && !mapping.mirrors))
        return Error(Code::Corrupt, "the daemon sent a place that lies outside of its mapping");
    return addresses;
}

Status MappingTable::place(const wire::Place& place, int fd) {
    MutexLock lock(mutex_);
    Mapping* const mapping = find_locked(place.address);
    if (mapping == nullptr || !is_for_locked(*mapping, place.mapping)) return {};
    auto where = addresses_of_locked(*mapping, place);
    if (!where) return where.error();
    const auto addresses = *where;
    const bool has_segment = place.kind == wire::PlaceKind::Segment;
    if (place.replica > 0 && !has_segment)
        mapping->mirrors->clear_present(place.replica, addresses);
    RETURN_IF_ERROR(map_over_locked(place, fd));
    if (place.replica > 0 && has_segment) mapping->mirrors->set_present(place.replica, addresses);
    if (place.replica == 0 && mapping->mirrors)
        mapping->mirrors->note_primary(addresses, place.kind);
    if (place.needs_sync && mapping->mirrors) mapping->mirrors->note_sync_needed();
    // Replacing the mapping has dropped its registration; who waits on it tries again now.
    RETURN_IF_ERROR(sys::userfaultfd_wake(userfaultfd_, addresses));
    if (mapping->unplaced.empty() || place.replica > 0) return {};
    const auto first = addresses.begin() - mapping->addresses.begin();
    mapping->unplaced.remove(first / kPageBytes, (first + addresses.length()) / kPageBytes);
    if (mapping->unplaced.empty()) changed_.notify_all();
    return {};
}

// Mapped aside first and then moved over the old place in one step: a thread that touches the
// addresses meanwhile finds the old place or the new one, and a failure leaves the old one, fences
// and all.
Status MappingTable::map_over_locked(const wire::Place& place, int fd) {
    // A shared mapping of a read-only descriptor cannot be registered with userfaultfd (it lacks
    // VM_MAYWRITE). A private one that is never written shows the same pages.
    const bool is_writable = place.access == Access::ReadWrite;
    const int protection = is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
    const int sharing = is_writable ? MAP_SHARED : MAP_PRIVATE;
    const bool is_beyond_end = place.descriptor == wire::kNoDescriptor;
    void* aside;
    {
        ForkGate gate;
        aside = ::mmap(nullptr, place.length, protection, sharing,
                       is_beyond_end ? empty_file_.get() : fd,
                       is_beyond_end ? 0 : static_cast<off_t>(place.segment_offset));
        if (aside == MAP_FAILED) return sys_error("map a new place");
        if (::madvise(aside, place.length, MADV_DONTFORK) != 0) {
            const auto error = sys_error("keep a new place from children");
            ::munmap(aside, place.length);
            return error;
        }
    }
    if (::mremap(aside, place.length, place.length, MREMAP_MAYMOVE | MREMAP_FIXED,
                 pointer(place.address)) == MAP_FAILED) {
        const auto error = sys_error("move a new place to its address");
        ::munmap(aside, place.length);
        return error;
    }
    return {};
}

Status MappingTable::wait_until_placed(std::uint64_t address,
                                       std::chrono::steady_clock::time_point deadline) {
    for (;;) {
        const auto now = std::chrono::steady_clock::now();
        PageSet finished;
        SignalBlock signals;  // released in every turn
        MutexLock lock(mutex_);
        Mapping* const mapping = find_locked(address);
        CHECK(mapping != nullptr);
        if (mapping->unplaced.empty()) {
            std::swap(finished, mapping->unplaced);
            return {};
        }
        if (end_reason_) return *end_reason_;
        if (now >= deadline) break;
        (void)changed_.wait_until(mutex_, std::min(deadline, now + kSignalsHeldMax));
    }
    return Error(
        Code::TimedOut,
        "the daemon did not hand out all of the memory in time; it may be moving: see `refault "
        "status`, and map again");
}

void MappingTable::end(const Error& reason) {
    MutexLock lock(mutex_);
    if (!end_reason_) end_reason_ = reason;
    changed_.notify_all();
}

void MappingTable::go_on() {
    MutexLock lock(mutex_);
    end_reason_.reset();
}

std::optional<Error> MappingTable::end_reason() const {
    SignalBlock signals;
    MutexLock lock(mutex_);
    return end_reason_;
}

}  // namespace refault::client
