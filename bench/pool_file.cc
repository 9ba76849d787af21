// Thin RAII over the C API, with Results.
#include "bench/pool_file.h"

#include <utility>

namespace refault::bench {

namespace {

base::Status to_status(int error, const char* what) {
    if (error == 0) return {};
    return base::sys_error(what, -error);
}

}  // namespace

base::Result<PoolSession> PoolSession::connect(const std::string& socket) {
    rf_session* session = nullptr;
    RETURN_IF_ERROR(to_status(rf_connect(socket.c_str(), &session, nullptr, 0), "connect"));
    return PoolSession(session);
}

base::Result<PoolMapping> PoolMapping::create(const PoolSession& session, const std::string& path,
                                              std::uint64_t length) {
    PoolMapping mapping(session.get(), path, true);
    RETURN_IF_ERROR(
        to_status(rf_create(session.get(), path.c_str(), 0600, 0, &mapping.file_), "create"));
    RETURN_IF_ERROR(to_status(rf_resize(mapping.file_, length), "resize"));
    RETURN_IF_ERROR(mapping.map(length));
    return mapping;
}

base::Result<PoolMapping> PoolMapping::open(const PoolSession& session, const std::string& path,
                                            std::uint64_t length) {
    PoolMapping mapping(session.get(), path, false);
    RETURN_IF_ERROR(to_status(
        rf_open(session.get(), path.c_str(), RF_READ | RF_WRITE, &mapping.file_), "open"));
    RETURN_IF_ERROR(mapping.map(length));
    return mapping;
}

base::Status PoolMapping::map(std::uint64_t length) {
    return to_status(rf_map(file_, 0, length, RF_READ | RF_WRITE, &mapping_), "map");
}

base::Status PoolMapping::persist(std::uint64_t offset, std::uint64_t length) const {
    return to_status(rf_persist(mapping_, address() + offset, length), "persist");
}

PoolMapping::PoolMapping(PoolMapping&& other) noexcept
    : session_(other.session_),
      path_(std::move(other.path_)),
      unlinks_(std::exchange(other.unlinks_, false)),
      file_(std::exchange(other.file_, nullptr)),
      mapping_(std::exchange(other.mapping_, nullptr)) {}

PoolMapping::~PoolMapping() {
    if (mapping_ != nullptr) (void)rf_unmap(mapping_);
    if (file_ != nullptr) (void)rf_close(file_);
    if (unlinks_) (void)rf_unlink(session_, path_.c_str());
}

}  // namespace refault::bench
