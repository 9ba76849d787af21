// An unmodified program under test: it opens one file by its path, on a mount, and does to it what
// it is told, line by line from its standard input, and says what it saw. It links nothing of ours.
// A signal is an answer like any other.
//
//   refault-filer PATH read|write|direct|append|sync|create
//     map shared|private          ok | error ERRNO          unmap    ok
//     store OFFSET BYTE LENGTH    ok | sigbus OFFSET
//     load OFFSET LENGTH          ok BYTE (all equal) | mixed | sigbus OFFSET
//     pread OFFSET LENGTH         ok BYTE | mixed | short N | error ERRNO
//     pwrite OFFSET BYTE LENGTH   ok | short N | error ERRNO
//     msync | fsync               ok | error ERRNO
//     truncate SIZE               ok | error ERRNO
//     size                        ok N
//     address                     ok HEX
//     churn FIRST COUNT           ok; from now on a thread stores into COUNT pages and reads them
//     rest                        ok ROUNDS | bad PAGE      ends that
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint64_t kPage = 4096;

int g_file = -1;
volatile unsigned char* g_bytes;
uint64_t g_length;

thread_local sigjmp_buf g_jump;
thread_local volatile sig_atomic_t g_is_ready;
thread_local volatile uintptr_t g_address;

void on_sigbus(int, siginfo_t* info, void*) {
    if (!g_is_ready) ::_exit(99);
    g_is_ready = 0;
    g_address = reinterpret_cast<uintptr_t>(info->si_addr);
    siglongjmp(g_jump, 1);
}

template <typename Access>
std::string guarded(const Access& access) {
    static std::string answer;
    if (sigsetjmp(g_jump, 1) != 0)
        return "sigbus " + std::to_string(g_address - reinterpret_cast<uintptr_t>(g_bytes));
    g_is_ready = 1;
    answer = access();
    g_is_ready = 0;
    return answer;
}

std::string result_of(int result) {
    return result == 0 ? "ok" : "error " + std::to_string(errno);
}

std::string all_equal(const volatile unsigned char* bytes, uint64_t length) {
    const unsigned char first = bytes[0];
    for (uint64_t i = 0; i < length; ++i)
        if (bytes[i] != first) return "mixed";
    return "ok " + std::to_string(first);
}

// O_DIRECT wants whole pages in memory as well.
unsigned char* buffer_of(uint64_t length) {
    static unsigned char* buffer;
    std::free(buffer);
    buffer = static_cast<unsigned char*>(
        std::aligned_alloc(kPage, (length + 2 * kPage - 1) / kPage * kPage));
    return buffer;
}

std::string moved(ssize_t count, uint64_t length) {
    if (count < 0) return "error " + std::to_string(errno);
    return static_cast<uint64_t>(count) == length ? "" : "short " + std::to_string(count);
}

std::string read_at(uint64_t offset, uint64_t length) {
    auto* buffer = buffer_of(length);
    const auto failure = moved(::pread(g_file, buffer, length, static_cast<off_t>(offset)), length);
    return failure.empty() ? all_equal(buffer, length) : failure;
}

std::string write_at(uint64_t offset, unsigned byte, uint64_t length) {
    auto* buffer = buffer_of(length);
    std::memset(buffer, static_cast<int>(byte), length);
    const auto failure =
        moved(::pwrite(g_file, buffer, length, static_cast<off_t>(offset)), length);
    return failure.empty() ? "ok" : failure;
}

std::string map(bool is_shared, bool is_writable) {
    struct stat status {};
    ::fstat(g_file, &status);
    g_length = static_cast<uint64_t>(status.st_size);
    void* at = ::mmap(nullptr, g_length, is_writable ? PROT_READ | PROT_WRITE : PROT_READ,
                      is_shared ? MAP_SHARED : MAP_PRIVATE, g_file, 0);
    if (at == MAP_FAILED) return "error " + std::to_string(errno);
    g_bytes = static_cast<volatile unsigned char*>(at);
    return "ok";
}

// Each page holds the number of the last round that stored into it, in its first and last words.
class Churn {
  public:
    void start(uint64_t first, uint64_t count) {
        must_stop_ = false;
        bad_page_ = -1;
        rounds_ = 0;
        thread_ = std::thread([this, first, count] { run(first, count); });
    }
    std::string rest() {
        must_stop_ = true;
        thread_.join();
        return bad_page_ >= 0 ? "bad " + std::to_string(bad_page_)
                              : "ok " + std::to_string(rounds_);
    }

  private:
    static volatile uint64_t& word(uint64_t page, uint64_t offset) {
        return *reinterpret_cast<volatile uint64_t*>(
            const_cast<unsigned char*>(g_bytes + page * kPage + offset));
    }
    void run(uint64_t first, uint64_t count) {
        for (uint64_t round = 1; !must_stop_; ++round) {
            for (uint64_t page = first; page < first + count; ++page) {
                const bool is_right = round == 1 || (word(page, 0) == round - 1 &&
                                                     word(page, kPage - 8) == round - 1);
                if (!is_right) bad_page_ = static_cast<int64_t>(page);
                word(page, 0) = round;
                word(page, kPage - 8) = round;
            }
            rounds_ = round;
        }
    }

    std::thread thread_;
    std::atomic<bool> must_stop_{false};
    std::atomic<int64_t> bad_page_{-1};
    std::atomic<uint64_t> rounds_{0};
};

std::string obey(const std::string& line, bool is_writable, Churn& churn) {
    std::istringstream words(line);
    std::string verb, word;
    uint64_t a = 0, b = 0, c = 0;
    words >> verb;
    if (verb == "map") {
        words >> word;
        return map(word == "shared", is_writable);
    }
    words >> a >> b >> c;
    if (verb == "unmap") return result_of(::munmap(const_cast<unsigned char*>(g_bytes), g_length));
    if (verb == "store")
        return guarded([&]() -> std::string {
            for (uint64_t i = 0; i < c; ++i) g_bytes[a + i] = static_cast<unsigned char>(b);
            return "ok";
        });
    if (verb == "load") return guarded([&] { return all_equal(g_bytes + a, b); });
    if (verb == "pread") return read_at(a, b);
    if (verb == "pwrite") return write_at(a, static_cast<unsigned>(b), c);
    if (verb == "msync")
        return result_of(::msync(const_cast<unsigned char*>(g_bytes), g_length, MS_SYNC));
    if (verb == "fsync") return result_of(::fsync(g_file));
    if (verb == "truncate") return result_of(::ftruncate(g_file, static_cast<off_t>(a)));
    if (verb == "size") {
        struct stat status {};
        if (::fstat(g_file, &status) != 0) return result_of(-1);
        return "ok " + std::to_string(status.st_size);
    }
    if (verb == "address") {
        char text[32];
        std::snprintf(text, sizeof text, "ok %p", const_cast<unsigned char*>(g_bytes));
        return text;
    }
    if (verb == "churn") {
        churn.start(a, b);
        return "ok";
    }
    if (verb == "rest") return churn.rest();
    return "what?";
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGBUS, &action, nullptr);
    const std::string how = argv[2];
    const bool is_writable = how != "read";
    int flags = is_writable ? O_RDWR : O_RDONLY;
    if (how == "direct") flags |= O_DIRECT;
    if (how == "append") flags |= O_APPEND;
    if (how == "sync") flags |= O_SYNC;
    if (how == "create") flags |= O_CREAT | O_EXCL;
    g_file = ::open(argv[1], flags | O_CLOEXEC, 0666);
    std::printf("%s\n", g_file >= 0 ? "ready" : ("error " + std::to_string(errno)).c_str());
    std::fflush(stdout);
    if (g_file < 0) return 1;
    Churn churn;
    for (std::string line; std::getline(std::cin, line);) {
        std::printf("%s\n", obey(line, is_writable, churn).c_str());
        std::fflush(stdout);
    }
    ::_exit(0);
}
