// The C++ layer over refault.h: owning handles, spans of bytes, and results instead of exceptions
// (none is thrown, except what the standard library throws when the heap is empty).
//
// Session, File and Mapping are move-only and close, unmap and disconnect by themselves. A File and
// a Mapping keep what they belong to alive, so they may be destroyed in any order. Threads: as for
// the C API.
#pragma once

#include <refault/refault.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace refault {

class Error {
  public:
    Error(int code, std::string message) : code_(code), message_(std::move(message)) {}
    // A negative errno, as the C API gives it.
    int code() const noexcept { return code_; }
    // What happened and what to do, for a person.
    const std::string& message() const noexcept { return message_; }

  private:
    int code_;
    std::string message_;
};

// A value or an Error. To take the value of one that failed ends the program (std::abort), and so
// does the reverse.
template <typename T>
class [[nodiscard]] Expected {
  public:
    Expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // implicit on purpose
    Expected(Error error)
        : state_(std::in_place_index<1>, std::move(error)) {}  // implicit on purpose

    bool ok() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    T& operator*() & { return *checked(std::get_if<0>(&state_)); }
    const T& operator*() const& { return *checked(std::get_if<0>(&state_)); }
    T operator*() && { return std::move(*checked(std::get_if<0>(&state_))); }
    T* operator->() { return checked(std::get_if<0>(&state_)); }
    const T* operator->() const { return checked(std::get_if<0>(&state_)); }
    const Error& error() const { return *checked(std::get_if<1>(&state_)); }

  private:
    template <typename U>
    static U* checked(U* held) {
        if (held == nullptr) std::abort();
        return held;
    }
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Expected<void> {
  public:
    Expected() = default;
    Expected(Error error) : error_(std::move(error)) {}  // implicit on purpose
    bool ok() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }
    const Error& error() const {
        if (!error_) std::abort();
        return *error_;
    }

  private:
    std::optional<Error> error_;
};

enum class Access { Read, ReadWrite };
enum class Populate { No, Yes };
enum class IfExists { Fail, Open };
enum class Notice {
    Late = RF_NOTICE_LATE,
    Signal = RF_NOTICE_SIGNAL,
    Descriptor = RF_NOTICE_DESCRIPTOR
};
using Loss = rf_loss;

// Runs `body`, a callable that only reads and writes memory; when it touches memory that is lost,
// held back or beyond the end of the file, says where, and which of them (Loss::what: RF_LOST,
// RF_STALE, RF_BEYOND), instead of dying. It is left by a jump then: no destructor in it runs, so
// it should need none.
template <typename Body>
std::optional<Loss> try_access(Body&& body) {
    // An object of our own, whatever `body` is: a function has no address that fits into a void*.
    auto run = [&body] { body(); };
    Loss loss{};
    const int result =
        rf_try([](void* context) { (*static_cast<decltype(run)*>(context))(); }, &run, &loss);
    if (result != 0) return loss;
    return std::nullopt;
}

using Stat = rf_stat;

struct Entry {
    std::string name;
    Stat stat;
};

namespace detail {

using SharedSession = std::shared_ptr<rf_session>;

inline Error error_of(const rf_session* session, int code) {
    std::string message(rf_error_detail(session, nullptr, 0), '\0');
    // Another thread may fail in between: what does not fit is cut.
    const std::size_t length = rf_error_detail(session, message.data(), message.size() + 1);
    message.resize(std::min(length, message.size()));
    return {code, message.empty() ? std::string(rf_strerror(code)) : std::move(message)};
}

inline Expected<void> checked(const SharedSession& session, int result) {
    if (result != 0) return error_of(session.get(), result);
    return {};
}

inline int flags_of(Access access) {
    return access == Access::Read ? RF_READ : RF_READ | RF_WRITE;
}

}  // namespace detail

class Mapping {
  public:
    // Where the mapping stays for its whole life, wherever the memory under it moves.
    std::span<std::byte> bytes() const {
        return {static_cast<std::byte*>(rf_address(handle_.get())),
                static_cast<std::size_t>(rf_length(handle_.get()))};
    }
    void* address() const { return rf_address(handle_.get()); }

    // Durable when it returns. The range lies inside of bytes().
    Expected<void> persist(std::span<const std::byte> range) {
        return detail::checked(handle_.get_deleter().session,
                               rf_persist(handle_.get(), range.data(), range.size()));
    }
    Expected<void> persist() { return persist(bytes()); }
    // Goes on with the older bytes in this part; whole pages. See refault.h, "When memory is lost".
    Expected<void> accept(std::span<const std::byte> range) {
        return detail::checked(handle_.get_deleter().session,
                               rf_accept(handle_.get(), range.data(), range.size()));
    }

  private:
    friend class File;
    // Holding the session here makes it go after the handle, in destruction and in assignment.
    struct Unmap {
        detail::SharedSession session;
        void operator()(rf_mapping* mapping) const { (void)rf_unmap(mapping); }
    };
    Mapping(detail::SharedSession session, rf_mapping* handle)
        : handle_(handle, Unmap{std::move(session)}) {}

    std::unique_ptr<rf_mapping, Unmap> handle_;
};

class File {
  public:
    Expected<void> resize(std::uint64_t size_bytes) {
        return detail::checked(session(), rf_resize(handle_.get(), size_bytes));
    }
    // Whole pages become zeros; what was lost there can be used again.
    Expected<void> punch(std::uint64_t offset, std::uint64_t length) {
        return detail::checked(session(), rf_punch(handle_.get(), offset, length));
    }
    Expected<Stat> stat() const {
        Stat stat{};
        if (const int result = rf_file_stat(handle_.get(), &stat); result != 0)
            return detail::error_of(session().get(), result);
        return stat;
    }
    // Whole pages of 4096 bytes; may reach beyond the end of the file, where a touch is SIGBUS
    // until the file grows.
    Expected<Mapping> map(std::uint64_t offset, std::uint64_t length, Access access,
                          Populate populate = Populate::No) {
        rf_mapping* mapping = nullptr;
        const int flags = detail::flags_of(access) | (populate == Populate::Yes ? RF_POPULATE : 0);
        if (const int result = rf_map(handle_.get(), offset, length, flags, &mapping); result != 0)
            return detail::error_of(session().get(), result);
        return Mapping(session(), mapping);
    }
    // All of it, up to the end of its last page.
    Expected<Mapping> map(Access access, Populate populate = Populate::No) {
        auto now = stat();
        if (!now) return now.error();
        constexpr std::uint64_t kPage = 4096;
        return map(0, (now->size_bytes + kPage - 1) / kPage * kPage, access, populate);
    }

  private:
    friend class Session;
    struct Close {
        detail::SharedSession session;
        void operator()(rf_file* file) const { (void)rf_close(file); }
    };
    File(detail::SharedSession session, rf_file* handle)
        : handle_(handle, Close{std::move(session)}) {}
    const detail::SharedSession& session() const { return handle_.get_deleter().session; }

    std::unique_ptr<rf_file, Close> handle_;
};

class Session {
  public:
    // socket_path: the daemon's session socket; empty: $REFAULT_SOCKET, else the usual place.
    static Expected<Session> connect(const std::string& socket_path = {}) {
        rf_session* session = nullptr;
        char detail[512] = "";
        const int result = rf_connect(socket_path.empty() ? nullptr : socket_path.c_str(), &session,
                                      detail, sizeof detail);
        if (result != 0) return Error(result, detail);
        return Session(detail::SharedSession(session, rf_disconnect));
    }

    std::string pool_name() const { return rf_pool_name(session_.get()); }
    // How long a daemon that is gone is waited for; negative: for ever.
    void set_patience(std::chrono::milliseconds patience) {
        (void)rf_set_patience(session_.get(), patience.count());
    }
    // In a child process: as rf_after_fork.
    Expected<void> after_fork() {
        char detail[512] = "";
        const int result = rf_after_fork(session_.get(), detail, sizeof detail);
        if (result != 0) return Error(result, detail);
        return {};
    }
    // What a touch of memory that is shut does then: wait on, or SIGBUS.
    enum class WhenAbandoned { Wait = RF_ABANDONED_WAIT, Sigbus = RF_ABANDONED_SIGBUS };
    void set_when_abandoned(WhenAbandoned choice) {
        (void)rf_set_when_abandoned(session_.get(), static_cast<int>(choice));
    }
    // False: a system call that touches memory on the move fails with EFAULT instead of waiting.
    bool handles_kernel_faults() const { return rf_handles_kernel_faults(session_.get()) != 0; }

    // How losses are told; see refault.h.
    Expected<void> set_notice(Notice mode) {
        return detail::checked(session_, rf_set_notice(session_.get(), static_cast<int>(mode)));
    }
    // To poll; for Notice::Descriptor. Negative when there is none.
    int notice_descriptor() const { return rf_notice_descriptor(session_.get()); }
    std::optional<Loss> read_notice() {
        Loss loss{};
        if (rf_read_notice(session_.get(), &loss) != 0) return std::nullopt;
        return loss;
    }

    // Open for reading and writing.
    Expected<File> create(const std::string& path, std::uint32_t mode = 0600,
                          IfExists if_exists = IfExists::Fail) {
        rf_file* file = nullptr;
        const int flags = if_exists == IfExists::Fail ? RF_EXCLUSIVE : 0;
        if (const int result = rf_create(session_.get(), path.c_str(), mode, flags, &file);
            result != 0)
            return detail::error_of(session_.get(), result);
        return File(session_, file);
    }
    Expected<File> open(const std::string& path, Access access) {
        rf_file* file = nullptr;
        if (const int result =
                rf_open(session_.get(), path.c_str(), detail::flags_of(access), &file);
            result != 0)
            return detail::error_of(session_.get(), result);
        return File(session_, file);
    }

    Expected<Stat> stat(const std::string& path) const {
        Stat stat{};
        if (const int result = rf_path_stat(session_.get(), path.c_str(), &stat); result != 0)
            return detail::error_of(session_.get(), result);
        return stat;
    }
    Expected<std::vector<Entry>> list(const std::string& path) const {
        std::vector<Entry> entries;
        const rf_visitor visit = [](const char* name, const rf_stat* stat, void* context) {
            static_cast<std::vector<Entry>*>(context)->push_back({name, *stat});
            return 0;
        };
        if (const int result = rf_list(session_.get(), path.c_str(), visit, &entries); result != 0)
            return detail::error_of(session_.get(), result);
        return entries;
    }
    Expected<void> unlink(const std::string& path) {
        return detail::checked(session_, rf_unlink(session_.get(), path.c_str()));
    }
    Expected<void> make_directory(const std::string& path, std::uint32_t mode = 0700) {
        return detail::checked(session_, rf_mkdir(session_.get(), path.c_str(), mode));
    }
    Expected<void> remove_directory(const std::string& path) {
        return detail::checked(session_, rf_rmdir(session_.get(), path.c_str()));
    }
    Expected<void> rename(const std::string& from, const std::string& to) {
        return detail::checked(session_, rf_rename(session_.get(), from.c_str(), to.c_str()));
    }

  private:
    explicit Session(detail::SharedSession session) : session_(std::move(session)) {}
    detail::SharedSession session_;
};

}  // namespace refault
