// A program under test, driven line by line from its standard input: it maps one file of the pool
// and does to it what it is told, and says what it saw. A signal is an answer like any other,
// unless `die` was said first.
//
//   refault-mapper SOCKET PATH read|write [early|descriptor]
//     store OFFSET BYTE LENGTH    ok | sigbus CODE OFFSET LSB
//     load OFFSET LENGTH          ok BYTE (all equal) | mixed | sigbus ...
//     persist OFFSET LENGTH       ok | error ERRNO
//     accept OFFSET LENGTH        ok | error ERRNO
//     punch OFFSET LENGTH         ok | error ERRNO
//     try OFFSET                  ok | lost | stale | error ERRNO     (by rf_try)
//     bad OFFSET                  ok | sigbus ...        (the kernel takes the page for bad memory)
//     syscall OFFSET              ok | error ERRNO       (write(2) from the mapping)
//     notices                     ok N, then what came: code:offset:lsb ...
//     read-notice                 lost|stale OFFSET LENGTH | none (within 5 s, by the descriptor)
//     deaf                        ok; from now on SIGTERM is ignored
//     remap                       ok | error ERRNO       (unmaps, and maps again)
//     address                     ok HEX
//     die                         ok; from now on a SIGBUS ends the process
#include <fcntl.h>
#include <poll.h>
#include <refault/refault.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>

namespace {

rf_session* g_session;
rf_file* g_file;
rf_mapping* g_mapping;
volatile unsigned char* g_bytes;
uint64_t g_length;
int g_flags;

sigjmp_buf g_jump;
volatile sig_atomic_t g_is_ready;
volatile int g_code, g_lsb;
volatile uintptr_t g_address;

struct Notice {
    int code;
    long long offset;
    int lsb;
};
Notice g_notices[64];
std::atomic<int> g_notice_count;

// Installed before the library's own, so that the library's comes first and chains to it.
void on_sigbus(int, siginfo_t* info, void*) {
    if (info->si_code == BUS_MCEERR_AO) {
        const int at = g_notice_count.fetch_add(1);
        if (at < 64)
            g_notices[at] = {
                info->si_code,
                static_cast<unsigned char*>(info->si_addr) - const_cast<unsigned char*>(g_bytes),
                info->si_addr_lsb};
        return;
    }
    if (!g_is_ready) ::_exit(99);
    g_is_ready = 0;
    g_code = info->si_code;
    g_lsb = info->si_addr_lsb;
    g_address = reinterpret_cast<uintptr_t>(info->si_addr);
    siglongjmp(g_jump, 1);
}

std::string sigbus_answer() {
    const auto offset = static_cast<long long>(g_address - reinterpret_cast<uintptr_t>(g_bytes));
    return "sigbus " + std::to_string(g_code) + " " + std::to_string(offset) + " " +
           std::to_string(g_lsb);
}

// Runs an access; its answer, or that of the signal it got.
template <typename Access>
std::string guarded(const Access& access) {
    static std::string answer;
    if (sigsetjmp(g_jump, 1) != 0) return sigbus_answer();
    g_is_ready = 1;
    answer = access();
    g_is_ready = 0;
    return answer;
}

std::string result_of(int result) {
    return result == 0 ? "ok" : "error " + std::to_string(-result);
}

int map_file() {
    const int result = rf_map(g_file, 0, g_length, g_flags, &g_mapping);
    if (result == 0) g_bytes = static_cast<volatile unsigned char*>(rf_address(g_mapping));
    return result;
}

std::string load(uint64_t offset, uint64_t length) {
    const unsigned char first = g_bytes[offset];
    for (uint64_t i = 0; i < length; ++i)
        if (g_bytes[offset + i] != first) return "mixed";
    return "ok " + std::to_string(first);
}

std::string store(uint64_t offset, unsigned byte, uint64_t length) {
    for (uint64_t i = 0; i < length; ++i) g_bytes[offset + i] = static_cast<unsigned char>(byte);
    return "ok";
}

std::string try_touch(uint64_t offset) {
    rf_loss loss{};
    const int result =
        rf_try([](void* context) { (void)*static_cast<volatile unsigned char*>(context); },
               const_cast<unsigned char*>(g_bytes + offset), &loss);
    if (result == 0) return "ok";
    if (loss.address == nullptr) return result_of(result);
    return loss.what == RF_STALE ? "stale" : "lost";
}

// Takes CAP_SYS_ADMIN and a kernel with CONFIG_MEMORY_FAILURE (tools/real-poison).
std::string make_bad(void* page) {
    return ::madvise(page, 4096, MADV_HWPOISON) == 0 ? "ok" : "error " + std::to_string(errno);
}

std::string write_from(uint64_t offset) {
    const int fd = ::open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    const ssize_t put = ::write(fd, const_cast<unsigned char*>(g_bytes + offset), 64);
    const int error = errno;
    ::close(fd);
    return put == 64 ? "ok" : "error " + std::to_string(error);
}

std::string notices() {
    std::string text = "ok " + std::to_string(g_notice_count.load());
    for (int i = 0; i < g_notice_count.load() && i < 64; ++i)
        text += " " + std::to_string(g_notices[i].code) + ":" +
                std::to_string(g_notices[i].offset) + ":" + std::to_string(g_notices[i].lsb);
    return text;
}

std::string read_notice() {
    pollfd waited{rf_notice_descriptor(g_session), POLLIN, 0};
    rf_loss loss{};
    if (::poll(&waited, 1, 5000) != 1 || rf_read_notice(g_session, &loss) != 0) return "none";
    const auto offset =
        static_cast<unsigned char*>(loss.address) - const_cast<unsigned char*>(g_bytes);
    return (loss.what == RF_STALE ? "stale " : "lost ") + std::to_string(offset) + " " +
           std::to_string(loss.length);
}

// From here on a child answers, which ends with its parent.
std::string become_child() {
    const pid_t parent = ::getpid(), child = ::fork();
    if (child < 0) return "error";
    if (child > 0) {
        int status = 0;
        ::waitpid(child, &status, 0);
        ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    char detail[500] = "";
    const int result = rf_after_fork(g_session, detail, sizeof detail);
    return result == 0 ? "ok" : std::string("error ") + detail;
}

std::string obey(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    uint64_t a = 0, b = 0, c = 0;
    words >> verb >> a >> b >> c;
    void* const at = const_cast<unsigned char*>(g_bytes) + a;
    if (verb == "store") return guarded([&] { return store(a, static_cast<unsigned>(b), c); });
    if (verb == "load") return guarded([&] { return load(a, b); });
    if (verb == "persist") return result_of(rf_persist(g_mapping, at, b));
    if (verb == "accept") return result_of(rf_accept(g_mapping, at, b));
    if (verb == "punch") return result_of(rf_punch(g_file, a, b));
    if (verb == "try") return try_touch(a);
    if (verb == "bad") return guarded([&] { return make_bad(at); });
    if (verb == "syscall") return write_from(a);
    if (verb == "notices") return notices();
    if (verb == "read-notice") return read_notice();
    if (verb == "become-child") return become_child();
    if (verb == "abandon") {
        const int set = rf_set_patience(g_session, static_cast<int64_t>(a));
        return result_of(set != 0 ? set : rf_set_when_abandoned(g_session, static_cast<int>(b)));
    }
    if (verb == "deaf") return ::signal(SIGTERM, SIG_IGN) == SIG_ERR ? "error" : "ok";
    if (verb == "remap") {
        rf_unmap(g_mapping);
        return result_of(map_file());
    }
    if (verb == "address") {
        char text[32];
        std::snprintf(text, sizeof text, "ok %p", at);
        return text;
    }
    if (verb == "die") {
        struct sigaction action {};
        action.sa_handler = SIG_DFL;
        ::sigaction(SIGBUS, &action, nullptr);
        return "ok";
    }
    return "what?";
}

int give_up(const char* what, int result) {
    char detail[256] = "";
    if (g_session != nullptr) rf_error_detail(g_session, detail, sizeof detail);
    std::printf("failed %s: %s %s\n", what, rf_strerror(result), detail);
    std::fflush(stdout);
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) return 2;
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    ::sigaction(SIGBUS, &action, nullptr);
    char detail[256] = "";
    int result = rf_connect(argv[1], &g_session, detail, sizeof detail);
    if (result != 0) return give_up(detail, result);
    g_flags = std::strcmp(argv[3], "write") == 0 ? RF_READ | RF_WRITE : RF_READ;
    if (argc > 4)
        result =
            rf_set_notice(g_session, std::strcmp(argv[4], "descriptor") == 0 ? RF_NOTICE_DESCRIPTOR
                                                                             : RF_NOTICE_SIGNAL);
    if (result == 0) result = rf_open(g_session, argv[2], g_flags, &g_file);
    if (result != 0) return give_up("open", result);
    rf_stat stat{};
    result = rf_file_stat(g_file, &stat);
    if (result != 0) return give_up("stat", result);
    g_length = (stat.size_bytes + 4095) / 4096 * 4096;
    result = map_file();
    if (result != 0) return give_up("map", result);
    std::printf("ready\n");
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        std::printf("%s\n", obey(line).c_str());
        std::fflush(stdout);
    }
    rf_disconnect(g_session);
    return 0;
}
