// The C API: checks arguments, turns Errors into negative errno, owns nothing but the handles.
#include <refault/refault.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>

#include "base/range.h"
#include "client/session.h"

using refault::base::Access;
using refault::base::Code;
using refault::base::Error;
using refault::base::kPageBytes;
using refault::base::Result;
using refault::client::Session;
namespace wire = refault::wire;

struct rf_session {
    std::unique_ptr<Session> session;
    std::mutex mutex;  // the sets
    std::set<rf_file*> files;
    std::set<rf_mapping*> mappings;
};

struct rf_file {
    rf_session* session;
    std::uint32_t handle;
    bool is_writable;
};

struct rf_mapping {
    rf_session* session;
    std::uint64_t address;
    std::uint64_t length;
    refault::base::MappingId id;
};

namespace {

constexpr const char* kDefaultSocket = "/run/refault/session.sock";

int fail(const rf_session* session, const Error& error) {
    session->session->note_failure(error.message());
    return -error.sys_errno();
}

int invalid(const rf_session* session, const char* why) { return fail(session, Error(Code::Invalid, why)); }

int exchange(const rf_session* session, const wire::Request& request) {
    auto reply = session->session->request(request);
    return reply ? 0 : fail(session, reply.error());
}

rf_stat stat_of(const wire::FileInfo& info) {
    return {info.inode, info.size_bytes, info.mode,           info.uid,        info.gid,
            info.links, info.is_directory ? 1 : 0, info.modified_ns, info.changed_ns};
}

int adopt_file(rf_session* session, const Result<wire::Reply>& reply, bool is_writable, rf_file** file) {
    if (!reply) return fail(session, reply.error());
    auto made = std::make_unique<rf_file>(rf_file{session, reply->handle, is_writable});
    std::lock_guard lock(session->mutex);
    session->files.insert(made.get());
    *file = made.release();
    return 0;
}

}  // namespace

extern "C" {

void rf_version(int* major, int* minor) {
    if (major != nullptr) *major = RF_VERSION_MAJOR;
    if (minor != nullptr) *minor = RF_VERSION_MINOR;
}

const char* rf_strerror(int error) {
    const char* text = ::strerrordesc_np(error < 0 ? -error : error);
    return text != nullptr ? text : "unknown error";
}

size_t rf_error_detail(const rf_session* session, char* buffer, size_t size) {
    const std::string text = session != nullptr ? session->session->last_failure() : "no session";
    if (buffer != nullptr && size > 0) {
        const size_t length = std::min(text.size(), size - 1);
        std::memcpy(buffer, text.data(), length);
        buffer[length] = '\0';
    }
    return text.size();
}

int rf_connect(const char* socket_path, rf_session** session, char* detail, size_t detail_size) {
    if (session == nullptr) return -EINVAL;
    *session = nullptr;
    const char* from_environment = std::getenv("REFAULT_SOCKET");
    const std::string path = socket_path != nullptr ? socket_path
                             : from_environment != nullptr ? from_environment
                                                           : kDefaultSocket;
    auto connected = Session::connect(path);
    if (!connected) {
        if (detail != nullptr && detail_size > 0) {
            ::strncpy(detail, connected.error().message().c_str(), detail_size - 1);
            detail[detail_size - 1] = '\0';
        }
        return -connected.error().sys_errno();
    }
    auto made = std::make_unique<rf_session>();
    made->session = std::move(*connected);
    *session = made.release();
    return 0;
}

void rf_disconnect(rf_session* session) {
    if (session == nullptr) return;
    session->session.reset();
    for (rf_file* file : session->files) delete file;
    for (rf_mapping* mapping : session->mappings) delete mapping;
    delete session;
}

const char* rf_pool_name(const rf_session* session) { return session->session->pool().c_str(); }

int rf_handles_kernel_faults(const rf_session* session) { return session->session->handles_kernel_faults() ? 1 : 0; }

int rf_create(rf_session* session, const char* path, uint32_t mode, int flags, rf_file** file) {
    if (session == nullptr || file == nullptr) return -EINVAL;
    *file = nullptr;
    if (path == nullptr || (flags & ~RF_EXCLUSIVE) != 0) return invalid(session, "rf_create: no path, or unknown flags");
    return adopt_file(session, session->session->request(wire::CreateFile{path, mode, (flags & RF_EXCLUSIVE) != 0}), true,
                      file);
}

int rf_open(rf_session* session, const char* path, int flags, rf_file** file) {
    if (session == nullptr || file == nullptr) return -EINVAL;
    *file = nullptr;
    if (path == nullptr || (flags != RF_READ && flags != (RF_READ | RF_WRITE)))
        return invalid(session, "rf_open: flags are RF_READ or RF_READ | RF_WRITE");
    const bool is_writable = (flags & RF_WRITE) != 0;
    return adopt_file(session,
                      session->session->request(wire::OpenFile{path, is_writable ? Access::ReadWrite : Access::Read}),
                      is_writable, file);
}

int rf_close(rf_file* file) {
    if (file == nullptr) return -EINVAL;
    rf_session* const session = file->session;
    const int result = exchange(session, wire::CloseFile{file->handle});
    {
        std::lock_guard lock(session->mutex);
        session->files.erase(file);
    }
    delete file;
    return result;
}

int rf_resize(rf_file* file, uint64_t size_bytes) {
    if (file == nullptr) return -EINVAL;
    return exchange(file->session, wire::Resize{file->handle, size_bytes});
}

int rf_file_stat(rf_file* file, rf_stat* out) {
    if (file == nullptr || out == nullptr) return -EINVAL;
    auto reply = file->session->session->request(wire::StatHandle{file->handle});
    if (!reply) return fail(file->session, reply.error());
    *out = stat_of(reply->info);
    return 0;
}

int rf_path_stat(rf_session* session, const char* path, rf_stat* out) {
    if (session == nullptr || path == nullptr || out == nullptr) return -EINVAL;
    auto reply = session->session->request(wire::StatPath{path});
    if (!reply) return fail(session, reply.error());
    *out = stat_of(reply->info);
    return 0;
}

int rf_map(rf_file* file, uint64_t offset, uint64_t length, int flags, rf_mapping** mapping) {
    if (file == nullptr || mapping == nullptr) return -EINVAL;
    *mapping = nullptr;
    rf_session* const session = file->session;
    const int access_flags = flags & (RF_READ | RF_WRITE);
    if ((flags & ~(RF_READ | RF_WRITE | RF_POPULATE)) != 0 || (access_flags & RF_READ) == 0)
        return invalid(session, "rf_map: flags are RF_READ, RF_WRITE and RF_POPULATE; a mapping can always be read");
    if (offset % kPageBytes != 0 || length % kPageBytes != 0 || length == 0)
        return invalid(session, "rf_map: offset and length are whole pages of 4096 bytes, and there is at least one");
    const bool is_writable = (flags & RF_WRITE) != 0;
    if (is_writable && !file->is_writable)
        return fail(session, Error(Code::Denied, "rf_map: the file is open for reading only"));
    auto& table = session->session->mappings();
    auto address = table.reserve(length);
    if (!address) return fail(session, address.error());
    auto reply = session->session->request(wire::Map{file->handle, offset, length, *address,
                                                     is_writable ? Access::ReadWrite : Access::Read,
                                                     (flags & RF_POPULATE) != 0});
    if (!reply) {
        table.remove(*address);
        return fail(session, reply.error());
    }
    table.identify(*address, reply->mapping);
    auto made = std::make_unique<rf_mapping>(rf_mapping{session, *address, length, reply->mapping});
    if (auto placed = table.wait_until_placed(*address); !placed) {
        table.remove(*address);
        return fail(session, placed.error());
    }
    void* const pointer = rf_address(made.get());
    // Beyond the end of the file there is nothing to populate: that error is expected.
    if ((flags & RF_POPULATE) != 0) (void)::madvise(pointer, length, is_writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    std::lock_guard lock(session->mutex);
    session->mappings.insert(made.get());
    *mapping = made.release();
    return 0;
}

void* rf_address(const rf_mapping* mapping) {
    return reinterpret_cast<void*>(static_cast<std::uintptr_t>(mapping->address));
}

uint64_t rf_length(const rf_mapping* mapping) { return mapping->length; }

int rf_persist(rf_mapping* mapping, const void* address, size_t length) {
    if (mapping == nullptr) return -EINVAL;
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    if (begin < mapping->address || begin - mapping->address > mapping->length ||
        length > mapping->length - (begin - mapping->address))
        return invalid(mapping->session, "rf_persist: the range is not inside the mapping");
    const auto first = refault::base::align_down(begin, kPageBytes);
    if (::msync(reinterpret_cast<void*>(first), length + (begin - first), MS_SYNC) != 0)
        return fail(mapping->session, refault::base::sys_error("msync"));
    return 0;
}

int rf_unmap(rf_mapping* mapping) {
    if (mapping == nullptr) return -EINVAL;
    rf_session* const session = mapping->session;
    // After the daemon's answer no fence acts on the addresses any more; without a daemon none does either.
    int result = exchange(session, wire::Unmap{mapping->id});
    if (result == -EPIPE) result = 0;
    session->session->mappings().remove(mapping->address);
    {
        std::lock_guard lock(session->mutex);
        session->mappings.erase(mapping);
    }
    delete mapping;
    return result;
}

int rf_list(rf_session* session, const char* path, rf_visitor visit, void* context) {
    if (session == nullptr || path == nullptr || visit == nullptr) return -EINVAL;
    std::string after;
    for (;;) {
        auto reply = session->session->request(wire::List{path, after});
        if (!reply) return fail(session, reply.error());
        for (const auto& entry : reply->entries) {
            const rf_stat stat = stat_of(entry.info);
            if (const int stop = visit(entry.name.c_str(), &stat, context); stop != 0) return stop;
            after = entry.name;
        }
        if (!reply->has_more) return 0;
    }
}

int rf_unlink(rf_session* session, const char* path) {
    if (session == nullptr || path == nullptr) return -EINVAL;
    return exchange(session, wire::Unlink{path});
}

int rf_mkdir(rf_session* session, const char* path, uint32_t mode) {
    if (session == nullptr || path == nullptr) return -EINVAL;
    return exchange(session, wire::MakeDirectory{path, mode});
}

int rf_rmdir(rf_session* session, const char* path) {
    if (session == nullptr || path == nullptr) return -EINVAL;
    return exchange(session, wire::RemoveDirectory{path});
}

int rf_rename(rf_session* session, const char* from, const char* to) {
    if (session == nullptr || from == nullptr || to == nullptr) return -EINVAL;
    return exchange(session, wire::Rename{from, to});
}

}  // extern "C"
