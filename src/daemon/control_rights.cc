// Roles, groups and tokens.
#include "daemon/control_rights.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "sys/file.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Result;

namespace {
constexpr std::size_t kTokenBytesMin = 16;
constexpr std::size_t kTokenFileBytesMax = 4096;
}  // namespace

Role ControlRights::of_user(const base::Cred& peer) const {
    if (peer.uid == 0 || peer.uid == ::geteuid()) return Role::Changer;
    const bool is_in_group = changing_group && (peer.gid == *changing_group ||
                                                std::find(peer.groups.begin(), peer.groups.end(),
                                                          *changing_group) != peer.groups.end());
    return is_in_group ? Role::Changer : Role::Looker;
}

Role ControlRights::of_header(std::string_view authorization) const {
    constexpr std::string_view kScheme = "Bearer ";
    if (!authorization.starts_with(kScheme)) return Role::Nobody;
    const auto token = authorization.substr(kScheme.size());
    if (!change_token.empty() && is_same_secret(change_token, token)) return Role::Changer;
    if (!look_token.empty() && is_same_secret(look_token, token)) return Role::Looker;
    return Role::Nobody;
}

bool is_same_secret(std::string_view expected, std::string_view given) noexcept {
    volatile unsigned difference = expected.size() == given.size() ? 0 : 1;
    for (std::size_t i = 0; i < given.size(); ++i) {
        const char own = expected.empty() ? '\0' : expected[i % expected.size()];
        difference =
            difference | (static_cast<unsigned char>(own) ^ static_cast<unsigned char>(given[i]));
    }
    return difference == 0;
}

Result<std::string> read_token(const std::string& path) {
    const auto refused = [&](const std::string& why) {
        return Error(Code::Denied, "token file " + path + why);
    };
    auto file = sys::open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
    if (!file)
        return file.error().within(
            "token file (make one with: (umask 077; openssl rand -hex 32 > FILE))");
    struct stat status {};
    if (::fstat(file->get(), &status) != 0) return base::sys_error(path);
    if (!S_ISREG(status.st_mode)) return refused(" is no regular file");
    if (status.st_uid != ::geteuid() && status.st_uid != 0)
        return refused(" belongs to another user; make one of your own");
    if ((status.st_mode & 077) != 0)
        return refused(" can be read by others; chmod 600 it, and change the token");
    if (static_cast<std::size_t>(status.st_size) > kTokenFileBytesMax)
        return refused(" is too large");
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    RETURN_IF_ERROR(sys::read_fully(file->get(), 0,
                                    {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}));
    text = text.substr(0, text.find_first_of("\r\n"));
    if (text.size() < kTokenBytesMin)
        return refused(" has a token of fewer than 16 characters; use: openssl rand -hex 32");
    return text;
}

}  // namespace refault::daemon
