// For tests: the daemon's side of the protocol in a few lines, for one session at a time. move()
// takes a range of a file to another segment under the running program as the real daemon does:
// write-protect, copy, punch the old place, ring.
//
// The server and pager threads are its own; what is below mutex_ is guarded by it. Waits are for
// conditions and give up, loudly, after kPatience.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/test_mapping.h"
#include "sys/socket.h"
#include "sys/userfaultfd.h"
#include "wire/message.h"

namespace refault::client::testing {

inline constexpr std::chrono::seconds kPatience{20};

class TestDaemon {
  public:
    using Intercept = std::function<std::optional<wire::Reply>(const wire::Request&)>;

    TestDaemon() {
        std::string path = "/tmp/refault-client-test-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) give_up("mkdtemp");
        directory_ = path;
        listener_ = must(sys::listen_seqpacket(socket_path(), 0600));
        server_ = std::thread([this] { run_server(); });
    }
    ~TestDaemon() {
        stop();
        std::filesystem::remove_all(directory_);
    }
    TestDaemon(const TestDaemon&) = delete;
    TestDaemon& operator=(const TestDaemon&) = delete;

    std::string socket_path() const { return directory_ + "/session.sock"; }

    // A reply from it takes the place of the daemon's own. Called on the server thread without the
    // lock.
    void intercept(Intercept intercept) {
        std::lock_guard lock(mutex_);
        intercept_ = std::move(intercept);
    }

    // Everything a dying daemon lets go of: both channels, its userfaultfd, its socket.
    void stop() {
        {
            std::lock_guard lock(mutex_);
            has_stopped_ = true;
            ::shutdown(listener_.get(), SHUT_RDWR);
            if (channel_) ::shutdown(channel_.get(), SHUT_RDWR);
        }
        if (server_.joinable()) server_.join();
        listener_.reset();
    }

    // Makes, grows or shrinks a file; what is mapped is placed anew.
    void set_file(const std::string& path, std::uint64_t size_bytes) {
        std::lock_guard lock(mutex_);
        resize_locked(path, size_bytes);
    }

    std::vector<std::uint8_t> read(const std::string& path, std::uint64_t offset,
                                   std::uint64_t length) {
        std::lock_guard lock(mutex_);
        const auto& part = files_.at(path).part(offset);
        std::vector<std::uint8_t> bytes(length);
        must(sys::read_fully(part.segment->writable.get(), part.offset_of(offset), bytes));
        return bytes;
    }

    void write(const std::string& path, std::uint64_t offset, std::span<const std::uint8_t> bytes) {
        std::lock_guard lock(mutex_);
        const auto& part = files_.at(path).part(offset);
        must(sys::write_fully(part.segment->writable.get(), part.offset_of(offset), bytes));
    }

    // Stops writers, copies, punches the old place, rings. Writers and readers wait from here until
    // it is placed.
    void start_move(const std::string& path, FileRange range) {
        std::unique_lock lock(mutex_);
        // What the pager was handed and has not mapped yet cannot be fenced.
        is_move_waiting_ = true;
        wait_locked(lock, "a place to be mapped",
                    [&] { return has_stopped_ || !is_placing_locked(path, range); });
        is_move_waiting_ = false;
        close_barrier_locked(path, range);
        files_.at(path).move(range);
        mark_stale_locked(path, range);
    }
    void finish_move(const std::string& path) {
        std::unique_lock lock(mutex_);
        wait_locked(lock, "a place to be in force",
                    [&] { return has_stopped_ || is_settled_locked(path); });
    }
    void move(const std::string& path, FileRange range) {
        start_move(path, range);
        finish_move(path);
    }

    // The range is placed anew where it is.
    void replace(const std::string& path, FileRange range) {
        {
            std::lock_guard lock(mutex_);
            mark_stale_locked(path, range);
        }
        finish_move(path);
    }
    // Until a thread of the program waits in a fault. Takes no fault off the queue.
    void wait_for_fault() {
        int userfaultfd;
        {
            std::lock_guard lock(mutex_);
            userfaultfd = userfaultfd_.get();
        }
        pollfd event{userfaultfd, POLLIN, 0};
        if (::poll(&event, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) != 1)
            give_up("waited too long for a fault");
    }

    // Nobody reads or writes the range from now on, and nothing is handed out for it.
    void fence(const std::string& path, FileRange range) {
        std::lock_guard lock(mutex_);
        close_barrier_locked(path, range);
        files_.at(path).punch(range);
    }

    // While held, every Fetch is answered with nothing.
    void hold_places(bool hold) {
        std::lock_guard lock(mutex_);
        holds_places_ = hold;
        if (!hold) ring_locked();
    }
    void wait_for_mappings(std::size_t count) {
        std::unique_lock lock(mutex_);
        wait_locked(lock, "mappings", [&] { return mappings_.size() == count; });
    }

    std::vector<TestMapping> mappings() {
        std::lock_guard lock(mutex_);
        return mappings_;
    }
    // Anything at all, on the pager channel.
    void send_to_pager(std::span<const std::uint8_t> bytes, std::span<const int> descriptors = {}) {
        std::lock_guard lock(mutex_);
        must(sys::send_message(pager_channel_.get(), bytes, descriptors));
    }
    void ring() {
        std::lock_guard lock(mutex_);
        ring_locked();
    }

  private:
    template <typename Condition>
    void wait_locked(std::unique_lock<std::mutex>& lock, const char* what, Condition condition) {
        if (!changed_.wait_for(lock, kPatience, condition))
            give_up(std::string("waited too long for ") + what);
    }

    void resize_locked(const std::string& path, std::uint64_t size_bytes) {
        mark_stale_locked(path, files_[path].resize(size_bytes));
    }

    void close_barrier_locked(const std::string& path, FileRange range) {
        for (const auto& mapping : mappings_) {
            if (mapping.path != path) continue;
            const bool writes = mapping.access == base::Access::ReadWrite;
            for (const auto live : mapping.stale.gaps(mapping.file_range.intersect(range))) {
                const auto addresses = mapping.addresses_of(live);
                must(sys::userfaultfd_register(userfaultfd_.get(), addresses,
                                               {.missing = true, .write_protect = writes}));
                if (writes) must(sys::userfaultfd_write_protect(userfaultfd_.get(), addresses));
            }
        }
    }

    void mark_stale_locked(const std::string& path, FileRange range) {
        for (auto& mapping : mappings_)
            if (mapping.path == path) mapping.stale.add(mapping.file_range.intersect(range));
        ring_locked();
    }

    bool is_placing_locked(const std::string& path, FileRange range) const {
        for (const auto& mapping : mappings_)
            for (const auto& [sequence, placed] : mapping.placing)
                if (mapping.path == path && placed.overlaps(range)) return true;
        return false;
    }

    bool is_settled_locked(const std::string& path) const {
        for (const auto& mapping : mappings_)
            if (mapping.path == path && (!mapping.stale.empty() || !mapping.placing.empty()))
                return false;
        return true;
    }

    void ring_locked() {
        if (pager_channel_)
            base::discard(sys::send_message(pager_channel_.get(),
                                            wire::encode(wire::PagerMessage(wire::Doorbell{}))),
                          "the client may be gone");
    }

    void run_server() {
        for (;;) {
            auto channel = sys::accept_connection(listener_.get());
            if (!channel) return;
            int fd;
            {
                std::lock_guard lock(mutex_);
                if (has_stopped_) return;
                channel_ = std::move(*channel);
                fd = channel_.get();
            }
            std::thread pager;
            if (shake_hands()) {
                pager =
                    std::thread([this, pager_fd = pager_channel_.get()] { run_pager(pager_fd); });
                serve(fd);
                ::shutdown(pager_channel_.get(), SHUT_RDWR);
                pager.join();
            }
            std::lock_guard lock(mutex_);
            mappings_.clear();
            handles_.clear();
            channel_.reset();
            pager_channel_.reset();
            userfaultfd_.reset();
            changed_.notify_all();
        }
    }

    bool shake_hands() {
        auto message = sys::receive_message(channel_.get(), wire::kMessageBytesMax);
        if (!message) return false;
        must(wire::decode_hello(message->bytes));
        if (message->descriptors.size() != 2) give_up("Hello without two descriptors");
        must(sys::userfaultfd_handshake(message->descriptors[0].get()));
        {
            std::lock_guard lock(mutex_);
            userfaultfd_ = std::move(message->descriptors[0]);
            pager_channel_ = std::move(message->descriptors[1]);
        }
        wire::Reply reply;
        reply.pool = "test-pool";
        return sys::send_message(channel_.get(), wire::encode(reply)).ok();
    }

    void serve(int channel) {
        for (;;) {
            auto message = sys::receive_message(channel, wire::kMessageBytesMax);
            if (!message) return;
            const auto request = must(wire::decode_request(message->bytes));
            Intercept before;
            {
                std::lock_guard lock(mutex_);
                before = intercept_;
            }
            auto reply = before ? before(request) : std::nullopt;
            if (!reply)
                reply = std::visit([this](const auto& typed) { return handle(typed); }, request);
            if (!sys::send_message(channel, wire::encode(*reply))) return;
        }
    }

    static wire::Reply refuse(int error, const std::string& message) {
        wire::Reply reply;
        reply.error = error;
        reply.message = message;
        return reply;
    }

    wire::Reply open_locked(const std::string& path) {
        wire::Reply reply;
        reply.handle = next_handle_++;
        handles_[reply.handle] = path;
        return reply;
    }
    wire::Reply handle(const wire::CreateFile& request) {
        std::lock_guard lock(mutex_);
        if (request.exclusive && files_.contains(request.path))
            return refuse(EEXIST, "it exists: choose another");
        files_.try_emplace(request.path);
        return open_locked(request.path);
    }
    wire::Reply handle(const wire::OpenFile& request) {
        std::lock_guard lock(mutex_);
        if (!files_.contains(request.path))
            return refuse(ENOENT, "there is no " + request.path + ": create it");
        return open_locked(request.path);
    }
    wire::Reply handle(const wire::CloseFile& request) {
        std::lock_guard lock(mutex_);
        handles_.erase(request.handle);
        return {};
    }
    wire::Reply handle(const wire::Resize& request) {
        std::lock_guard lock(mutex_);
        resize_locked(handles_.at(request.handle), request.size_bytes);
        return {};
    }
    wire::Reply handle(const wire::StatHandle& request) {
        std::lock_guard lock(mutex_);
        wire::Reply reply;
        reply.info.size_bytes = files_.at(handles_.at(request.handle)).size_bytes();
        return reply;
    }
    wire::Reply handle(const wire::Map& request) {
        std::lock_guard lock(mutex_);
        TestMapping mapping;
        mapping.id = base::MappingId(next_mapping_++);
        mapping.path = handles_.at(request.handle);
        mapping.file_range = FileRange::of_length(request.offset, request.length);
        mapping.addresses = AddressRange::of_length(request.address, request.length);
        mapping.access = request.access;
        mapping.stale.add(mapping.file_range);
        wire::Reply reply;
        reply.mapping = mapping.id;
        mappings_.push_back(std::move(mapping));
        changed_.notify_all();
        ring_locked();
        return reply;
    }
    wire::Reply handle(const wire::Unmap& request) {
        std::lock_guard lock(mutex_);
        if (std::erase_if(mappings_,
                          [&](const auto& mapping) { return mapping.id == request.mapping; }) == 0)
            return refuse(ENOENT, "no such mapping");
        changed_.notify_all();
        return {};
    }
    template <typename Other>
    wire::Reply handle(const Other&) {
        return refuse(ENOSYS, "the test daemon cannot do this");
    }

    void run_pager(int channel) {
        for (;;) {
            auto message = sys::receive_message(channel, wire::kMessageBytesMax);
            if (!message) return;
            const auto decoded = must(wire::decode_pager_message(message->bytes));
            std::lock_guard lock(mutex_);
            if (!answer_locked(channel, std::get<wire::Fetch>(decoded))) return;
        }
    }

    bool answer_locked(int channel, const wire::Fetch& fetch) {
        wire::Places places{next_sequence_, {}};
        std::vector<int> descriptors;
        for (auto& mapping : mappings_) {
            std::erase_if(mapping.placing,
                          [&](const auto& sent) { return sent.first <= fetch.placed; });
            if (holds_places_ || is_move_waiting_) continue;
            mapping.add_places(files_.at(mapping.path), places, descriptors);
        }
        if (!places.places.empty()) ++next_sequence_;
        changed_.notify_all();
        return sys::send_message(channel, wire::encode(wire::PagerMessage(places)), descriptors)
            .ok();
    }

    std::string directory_;
    UniqueFd listener_;
    std::thread server_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool has_stopped_ = false;
    bool holds_places_ = false;
    bool is_move_waiting_ = false;  // until then nothing is handed out
    Intercept intercept_;
    UniqueFd channel_, pager_channel_, userfaultfd_;
    std::map<std::string, TestFile> files_;
    std::map<std::uint32_t, std::string> handles_;
    std::vector<TestMapping> mappings_;
    std::uint32_t next_handle_ = 1;
    std::uint64_t next_mapping_ = 1;
    std::uint64_t next_sequence_ = 1;
};

}  // namespace refault::client::testing
