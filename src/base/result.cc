// Code names and the table between codes and errno.
#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace refault::base {

std::string_view code_name(Code code) noexcept {
    switch (code) {
        case Code::Invalid:
            return "invalid";
        case Code::NotFound:
            return "not-found";
        case Code::Exists:
            return "exists";
        case Code::Denied:
            return "denied";
        case Code::NoSpace:
            return "no-space";
        case Code::Busy:
            return "busy";
        case Code::Cancelled:
            return "cancelled";
        case Code::TimedOut:
            return "timed-out";
        case Code::NotSupported:
            return "not-supported";
        case Code::Corrupt:
            return "corrupt";
        case Code::Io:
            return "io";
        case Code::Gone:
            return "gone";
    }
    return "unknown";
}

int code_to_errno(Code code) noexcept {
    switch (code) {
        case Code::Invalid:
            return EINVAL;
        case Code::NotFound:
            return ENOENT;
        case Code::Exists:
            return EEXIST;
        case Code::Denied:
            return EACCES;
        case Code::NoSpace:
            return ENOSPC;
        case Code::Busy:
            return EBUSY;
        case Code::Cancelled:
            return ECANCELED;
        case Code::TimedOut:
            return ETIMEDOUT;
        case Code::NotSupported:
            return EOPNOTSUPP;
        case Code::Corrupt:
            return EBADMSG;
        case Code::Io:
            return EIO;
        case Code::Gone:
            return EPIPE;
    }
    return EIO;
}

Code errno_to_code(int sys_errno) noexcept {
    switch (sys_errno) {
        case EINVAL:
        case ENAMETOOLONG:
        case EISDIR:
        case ENOTDIR:
        case ENOTEMPTY:
        case EFBIG:
        case ELOOP:
            return Code::Invalid;
        case ENOENT:
        case ENODEV:
        case ENXIO:
            return Code::NotFound;
        case EEXIST:
            return Code::Exists;
        case EACCES:
        case EPERM:
        case EROFS:
            return Code::Denied;
        case ENOSPC:
        case EDQUOT:
        case ENOMEM:
            return Code::NoSpace;
        case EBUSY:
        case EAGAIN:
            return Code::Busy;
        case ECANCELED:
            return Code::Cancelled;
        case ETIMEDOUT:
            return Code::TimedOut;
        case EOPNOTSUPP:
        case ENOSYS:
        case ENOTTY:
            return Code::NotSupported;
        case EBADMSG:
        case EPROTO:
            return Code::Corrupt;
        case EPIPE:
        case ECONNRESET:
        case ESRCH:
        case ENOTCONN:
            return Code::Gone;
        default:
            return Code::Io;
    }
}

Error Error::within(std::string_view context) const {
    return Error(code_, std::string(context) + ": " + message_, sys_errno_);
}

Error sys_error(std::string_view what) {
    return sys_error(what, errno);
}

Error sys_error(std::string_view what, int sys_errno) {
    return Error(errno_to_code(sys_errno), std::string(what) + ": " + strerrordesc_np(sys_errno),
                 sys_errno);
}

}  // namespace refault::base
