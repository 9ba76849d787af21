// Preloaded into the daemon: while the file $REFAULT_FAIL_SWITCH exists, pread and pwrite of files
// below $REFAULT_FAIL_DIRECTORY give EIO, as those of a disk that has died do. When it has lines
// "PATH OFFSET", only reads of those pages do, once everything before them was read, as those of
// bad memory.
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

// Where the descriptor leads, if that is a place that may fail now.
bool is_failing_file(int fd, char (&path)[4096]) {
    const char* const directory = std::getenv("REFAULT_FAIL_DIRECTORY");
    const char* const trigger = std::getenv("REFAULT_FAIL_SWITCH");
    if (directory == nullptr || trigger == nullptr || ::access(trigger, F_OK) != 0) return false;
    char link[64];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const auto length = ::readlink(link, path, sizeof path - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return std::strncmp(path, directory, std::strlen(directory)) == 0;
}

// The first bad byte of the range; `end` when there is none. All of it where the switch names none.
long first_bad(const char* path, long begin, long end) {
    std::FILE* const list = std::fopen(std::getenv("REFAULT_FAIL_SWITCH"), "re");
    if (list == nullptr) return end;
    char bad_path[4096];
    long bad = 0, first = end;
    bool names_pages = false;
    while (std::fscanf(list, "%4095s %ld", bad_path, &bad) == 2) {
        names_pages = true;
        if (std::strcmp(bad_path, path) == 0 && bad < end && bad + 4096 > begin && bad < first)
            first = bad < begin ? begin : bad;
    }
    std::fclose(list);
    return names_pages ? first : begin;
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
    char path[4096];
    if (!is_failing_file(fd, path)) return real(fd, into, length, offset);
    const long good = first_bad(path, offset, offset + static_cast<long>(length)) - offset;
    if (good == 0) return io_error();
    return real(fd, into, static_cast<size_t>(good), offset);
}

ssize_t pread64(int fd, void* into, size_t length, off64_t offset) {
    return pread(fd, into, length, offset);
}

ssize_t pwrite(int fd, const void* from, size_t length, off_t offset) {
    static const auto real = next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
    char path[4096];
    const bool fails = is_failing_file(fd, path) && first_bad(path, 0, 1) == 0;
    return fails ? io_error() : real(fd, from, length, offset);
}

ssize_t pwrite64(int fd, const void* from, size_t length, off64_t offset) {
    return pwrite(fd, from, length, offset);
}

}  // extern "C"
