// The C API: sessions, files and names. Checks arguments, turns Errors into negative errno, owns
// nothing but the handles.
#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "client/fork_gate.h"
#include "client/handles.h"

using refault::base::Access;
using refault::base::Code;
using refault::base::Mutex;
using refault::base::MutexLock;
using refault::base::Result;
using refault::client::Error;
using refault::client::exchange;
using refault::client::fail;
using refault::client::ForkGate;
using refault::client::invalid;
using refault::client::is_too_long;
using refault::client::refuse_long;
using refault::client::Session;
namespace wire = refault::wire;

namespace refault::client {

int fail(const rf_session* session, const Error& error) {
    session->session->note_failure(error.message());
    // A Gone of whatever errno is one thing to the program: its session has ended.
    return error.code() == Code::Gone ? -EPIPE : -error.sys_errno();
}

int invalid(const rf_session* session, const char* why) {
    return fail(session, Error(Code::Invalid, why));
}

int exchange(const rf_session* session, const wire::Request& request) {
    auto reply = session->session->request(request);
    return reply ? 0 : fail(session, reply.error());
}

bool is_too_long(const char* path) {
    return std::strlen(path) > wire::kPathBytesMax;
}

int refuse_long(const rf_session* session) {
    return fail(session,
                Error(Code::Invalid, "the path is longer than 4096 bytes; use a shorter one",
                      ENAMETOOLONG));
}

}  // namespace refault::client

namespace {

constexpr const char* kDefaultSocket = "/run/refault/session.sock";

void copy_text(const std::string& text, char* buffer, std::size_t size) {
    if (buffer == nullptr || size == 0) return;
    const std::size_t length = std::min(text.size(), size - 1);
    std::memcpy(buffer, text.data(), length);
    buffer[length] = '\0';
}

rf_stat stat_of(const wire::FileInfo& info) {
    rf_stat stat{};
    stat.inode = info.inode;
    stat.size_bytes = info.size_bytes;
    stat.mode = info.mode;
    stat.uid = info.uid;
    stat.gid = info.gid;
    stat.links = info.links;
    stat.is_directory = info.is_directory ? 1 : 0;
    stat.modified_ns = info.modified_ns;
    stat.changed_ns = info.changed_ns;
    return stat;
}

int take_stat(const rf_session* session, const wire::Request& request, rf_stat* out) {
    auto reply = session->session->request(request);
    if (!reply) return fail(session, reply.error());
    *out = stat_of(reply->info);
    return 0;
}

int take_file(rf_session* session, const wire::Request& request, bool is_writable, rf_file** file) {
    auto reply = session->session->request(request);
    if (!reply) return fail(session, reply.error());
    auto made = std::make_unique<rf_file>(rf_file{session, reply->handle, is_writable});
    {
        MutexLock lock(session->mutex);
        ForkGate gate;
        session->files.insert(made.get());
    }
    *file = made.release();
    return 0;
}

// The arguments of a function that takes one path and nothing back.
int exchange_path(rf_session* session, const char* path, const auto& make_request) {
    if (session == nullptr) return -EINVAL;
    if (path == nullptr) return invalid(session, "give a path, not NULL");
    if (is_too_long(path)) return refuse_long(session);
    return exchange(session, make_request(path));
}

// The names that come back must ascend: a daemon that repeats itself must not keep us for ever.
Result<wire::Reply> next_names(const rf_session* session, const char* path,
                               const std::string& after) {
    auto reply = session->session->request(wire::List{path, after});
    if (!reply) return reply;
    const std::string* last = &after;
    for (const auto& entry : reply->entries) {
        if (entry.name <= *last) return Error(Code::Corrupt, "the daemon lists names out of order");
        last = &entry.name;
    }
    if (reply->has_more && reply->entries.empty())
        return Error(Code::Corrupt, "the daemon lists nothing, and more of it");
    return reply;
}

std::string usual_socket() {
    if (const char* const socket = std::getenv("REFAULT_SOCKET"); socket != nullptr) return socket;
    if (const char* const run_dir = std::getenv("REFAULT_RUN_DIR"); run_dir != nullptr)
        return std::string(run_dir) + "/session.sock";
    return kDefaultSocket;
}

}  // namespace

extern "C" {

void rf_version(int* major, int* minor) {
    if (major != nullptr) *major = RF_VERSION_MAJOR;
    if (minor != nullptr) *minor = RF_VERSION_MINOR;
}

const char* rf_strerror(int error) {
    // -INT_MIN is no int.
    const char* text = error == INT_MIN ? nullptr : ::strerrordesc_np(error < 0 ? -error : error);
    return text != nullptr ? text : "unknown error";
}

size_t rf_error_detail(const rf_session* session, char* buffer, size_t size) {
    const std::string text = session != nullptr ? session->session->last_failure() : "no session";
    copy_text(text, buffer, size);
    return text.size();
}

int rf_connect(const char* socket_path, rf_session** session, char* detail, size_t detail_size) {
    if (session == nullptr) {
        copy_text("rf_connect: session is NULL", detail, detail_size);
        return -EINVAL;
    }
    *session = nullptr;
    auto connected = Session::connect(socket_path != nullptr ? socket_path : usual_socket());
    if (!connected) {
        copy_text(connected.error().message(), detail, detail_size);
        return -connected.error().sys_errno();
    }
    auto made = std::make_unique<rf_session>();
    made->session = std::move(*connected);
    *session = made.release();
    return 0;
}

// Nobody else in the child has the session. Its lock may be held by a thread that is not here.
int rf_after_fork(rf_session* session, char* detail, size_t detail_size) {
    if (session == nullptr || session->session->is_in_its_process()) {
        copy_text("rf_after_fork: call it in a child of the process that has connected", detail,
                  detail_size);
        return -EINVAL;
    }
    auto made = Session::of_child(*session->session);
    if (!made) {
        copy_text(made.error().message(), detail, detail_size);
        return -made.error().sys_errno();
    }
    (void)session->session.release();
    session->session = std::move(*made);
    new (&session->mutex) Mutex(refault::base::LockRank::ClientHandles);
    MutexLock lock(session->mutex);
    for (rf_mapping* mapping : session->mappings)
        mapping->place.mirrors = session->session->mirrors(mapping->place.address);
    return 0;
}

void rf_disconnect(rf_session* session) {
    if (session == nullptr) return;
    // A child has inherited the object alone. To take it apart would hang up for the parent, so it
    // stays until exit.
    if (!session->session->is_in_its_process()) return;
    session->session.reset();
    session->mutex.assert_held();  // nobody else has the session any more
    for (rf_file* file : session->files) delete file;
    for (rf_mapping* mapping : session->mappings) delete mapping;
    delete session;
}

int rf_set_when_abandoned(rf_session* session, int choice) {
    if (session == nullptr || (choice != RF_ABANDONED_WAIT && choice != RF_ABANDONED_SIGBUS))
        return -EINVAL;
    using When = refault::client::Session::WhenAbandoned;
    session->session->set_when_abandoned(choice == RF_ABANDONED_SIGBUS ? When::Sigbus : When::Wait);
    return 0;
}

int rf_set_patience(rf_session* session, int64_t timeout_ms) {
    if (session == nullptr) return -EINVAL;
    // More than anybody waits, and no overflow.
    constexpr int64_t kLongest = INT64_C(1000) * 60 * 60 * 24 * 365;
    session->session->set_patience(
        std::chrono::milliseconds(timeout_ms < 0 ? -1 : std::min(timeout_ms, kLongest)));
    return 0;
}

const char* rf_pool_name(const rf_session* session) {
    return session != nullptr ? session->session->pool().c_str() : "";
}

int rf_handles_kernel_faults(const rf_session* session) {
    return session != nullptr && session->session->handles_kernel_faults() ? 1 : 0;
}

int rf_create(rf_session* session, const char* path, uint32_t mode, int flags, rf_file** file) {
    if (session == nullptr) return -EINVAL;
    if (file == nullptr || path == nullptr)
        return invalid(session, "rf_create: path or file is NULL");
    *file = nullptr;
    if ((flags & ~RF_EXCLUSIVE) != 0)
        return invalid(session, "rf_create: flags are 0 or RF_EXCLUSIVE");
    if (is_too_long(path)) return refuse_long(session);
    return take_file(session, wire::CreateFile{path, mode, (flags & RF_EXCLUSIVE) != 0}, true,
                     file);
}

int rf_open(rf_session* session, const char* path, int flags, rf_file** file) {
    if (session == nullptr) return -EINVAL;
    if (file == nullptr || path == nullptr)
        return invalid(session, "rf_open: path or file is NULL");
    *file = nullptr;
    if (flags != RF_READ && flags != (RF_READ | RF_WRITE))
        return invalid(session, "rf_open: flags are RF_READ or RF_READ | RF_WRITE");
    if (is_too_long(path)) return refuse_long(session);
    const bool is_writable = (flags & RF_WRITE) != 0;
    return take_file(session, wire::OpenFile{path, is_writable ? Access::ReadWrite : Access::Read},
                     is_writable, file);
}

int rf_close(rf_file* file) {
    if (file == nullptr) return -EINVAL;
    rf_session* const session = file->session;
    const int result = exchange(session, wire::CloseFile{file->handle});
    if (!session->session->is_in_its_process()) return result;
    {
        MutexLock lock(session->mutex);
        ForkGate gate;
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
    if (file == nullptr) return -EINVAL;
    if (out == nullptr) return invalid(file->session, "rf_file_stat: out is NULL");
    return take_stat(file->session, wire::StatHandle{file->handle}, out);
}

int rf_path_stat(rf_session* session, const char* path, rf_stat* out) {
    if (session == nullptr) return -EINVAL;
    if (path == nullptr || out == nullptr)
        return invalid(session, "rf_path_stat: path or out is NULL");
    if (is_too_long(path)) return refuse_long(session);
    return take_stat(session, wire::StatPath{path}, out);
}

int rf_list(rf_session* session, const char* path, rf_visitor visit, void* context) {
    if (session == nullptr) return -EINVAL;
    if (path == nullptr || visit == nullptr)
        return invalid(session, "rf_list: path or visit is NULL");
    if (is_too_long(path)) return refuse_long(session);
    std::string after;
    for (;;) {
        auto reply = next_names(session, path, after);
        if (!reply) return fail(session, reply.error());
        for (const auto& entry : reply->entries) {
            const rf_stat stat = stat_of(entry.info);
            if (const int stop = visit(entry.name.c_str(), &stat, context); stop != 0) return stop;
        }
        if (!reply->has_more) return 0;
        after = reply->entries.back().name;
    }
}

int rf_unlink(rf_session* session, const char* path) {
    return exchange_path(session, path, [](const char* at) { return wire::Unlink{at}; });
}

int rf_mkdir(rf_session* session, const char* path, uint32_t mode) {
    return exchange_path(session, path, [mode](const char* at) {
        return wire::MakeDirectory{at, mode};
    });
}

int rf_rmdir(rf_session* session, const char* path) {
    return exchange_path(session, path, [](const char* at) { return wire::RemoveDirectory{at}; });
}

int rf_rename(rf_session* session, const char* from, const char* to) {
    if (session == nullptr) return -EINVAL;
    if (from == nullptr || to == nullptr) return invalid(session, "rf_rename: from or to is NULL");
    if (is_too_long(from) || is_too_long(to)) return refuse_long(session);
    return exchange(session, wire::Rename{from, to});
}

}  // extern "C"
