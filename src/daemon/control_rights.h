// Who may look and who may change by the control API: users by what the kernel says of them, and
// holders of a token where there is no user to ask about. Immutable; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/cred.h"
#include "base/result.h"

namespace refault::daemon {

enum class Role {
    Nobody,
    Looker,   // sees states and names, never a file's bytes
    Changer,  // everything
};

struct ControlRights {
    // Beside root and the daemon's own user.
    std::optional<gid_t> changing_group;
    // By TCP; each empty when nobody may so.
    std::string change_token;
    std::string look_token;

    // Whoever the mode of the socket lets in may look.
    Role of_user(const base::Cred& peer) const;
    // The value of an Authorization header: "Bearer TOKEN".
    Role of_header(std::string_view authorization) const;
};

// A token of at least 16 characters, the first line of a file that is nobody's but this user's.
base::Result<std::string> read_token(const std::string& path);
// Takes as long whichever characters differ.
bool is_same_secret(std::string_view expected, std::string_view given) noexcept;

}  // namespace refault::daemon
