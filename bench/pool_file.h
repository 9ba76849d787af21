// A pool file mapped through librefault, for the benches.
#pragma once

#include <refault/refault.h>

#include <cstddef>
#include <string>

#include "base/result.h"

namespace refault::bench {

class PoolSession {
  public:
    static base::Result<PoolSession> connect(const std::string& socket);
    ~PoolSession() { rf_disconnect(session_); }
    PoolSession(PoolSession&& other) noexcept : session_(other.session_) {
        other.session_ = nullptr;
    }
    PoolSession& operator=(PoolSession&&) = delete;
    rf_session* get() const { return session_; }

  private:
    explicit PoolSession(rf_session* session) : session_(session) {}
    rf_session* session_;
};

// Created or opened; unmapped and closed at the end, and unlinked when it was created here.
class PoolMapping {
  public:
    static base::Result<PoolMapping> create(const PoolSession& session, const std::string& path,
                                            std::uint64_t length);
    static base::Result<PoolMapping> open(const PoolSession& session, const std::string& path,
                                          std::uint64_t length);
    ~PoolMapping();
    PoolMapping(PoolMapping&& other) noexcept;
    PoolMapping& operator=(PoolMapping&&) = delete;

    // The file stays when this ends.
    void keep_file() { unlinks_ = false; }
    std::byte* address() const { return static_cast<std::byte*>(rf_address(mapping_)); }
    base::Status persist(std::uint64_t offset, std::uint64_t length) const;

  private:
    PoolMapping(rf_session* session, std::string path, bool unlinks)
        : session_(session), path_(std::move(path)), unlinks_(unlinks) {}
    base::Status map(std::uint64_t length);
    rf_session* session_;
    std::string path_;
    bool unlinks_;
    rf_file* file_ = nullptr;
    rf_mapping* mapping_ = nullptr;
};

}  // namespace refault::bench
