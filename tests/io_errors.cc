// Preloaded into the daemon: pread and pwrite of files below $REFAULT_FAIL_DIRECTORY give EIO while
// the file $REFAULT_FAIL_SWITCH exists, as those of a disk that has died do.
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

bool fails(int fd) {
    const char* const directory = std::getenv("REFAULT_FAIL_DIRECTORY");
    const char* const trigger = std::getenv("REFAULT_FAIL_SWITCH");
    if (directory == nullptr || trigger == nullptr || ::access(trigger, F_OK) != 0) return false;
    char link[64], path[4096];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const auto length = ::readlink(link, path, sizeof path - 1);
    return length > 0 && std::strncmp(path, directory, std::strlen(directory)) == 0;
}

template <typename Function>
Function next(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

ssize_t io_error() {
    errno = EIO;
    return -1;
}

}  // namespace

extern "C" {

ssize_t pread(int fd, void* into, size_t length, off_t offset) {
    static const auto real = next<ssize_t (*)(int, void*, size_t, off_t)>("pread");
    return fails(fd) ? io_error() : real(fd, into, length, offset);
}

ssize_t pread64(int fd, void* into, size_t length, off64_t offset) {
    return pread(fd, into, length, offset);
}

ssize_t pwrite(int fd, const void* from, size_t length, off_t offset) {
    static const auto real = next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
    return fails(fd) ? io_error() : real(fd, from, length, offset);
}

ssize_t pwrite64(int fd, const void* from, size_t length, off64_t offset) {
    return pwrite(fd, from, length, offset);
}

}  // extern "C"
