// What the C API's opaque pointers point to, and what its functions share. No thread rules but
// those of refault.h: the sets are guarded by their mutex, the rest of a handle is fixed when it is
// made.
#pragma once

#include <refault/refault.h>

#include <memory>
#include <set>
#include <string>

#include "base/mutex.h"
#include "client/session.h"

struct rf_session {
    std::unique_ptr<refault::client::Session> session;
    refault::base::Mutex mutex{refault::base::LockRank::ClientHandles};
    // What rf_disconnect frees.
    std::set<rf_file*> files GUARDED_BY(mutex);
    std::set<rf_mapping*> mappings GUARDED_BY(mutex);
};

struct rf_file {
    rf_session* session;
    std::uint32_t handle;
    bool is_writable;
};

struct rf_mapping {
    rf_session* session;
    refault::client::Session::Mapped place;
    std::uint64_t length;
};

namespace refault::client {

// Notes the sentence for rf_error_detail and gives the negative errno.
int fail(const rf_session* session, const Error& error);
int invalid(const rf_session* session, const char* why);
// A request without an answer but yes or no.
int exchange(const rf_session* session, const wire::Request& request);

// A path longer than any the protocol carries would cost the session.
bool is_too_long(const char* path);
int refuse_long(const rf_session* session);

}  // namespace refault::client
