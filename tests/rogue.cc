// A program that never cooperates: it speaks just enough of the client protocol to get descriptors
// of a file's segments, keeps them, maps them a second time where no userfaultfd is registered, and
// never answers its pager channel again. Then it obeys one-letter commands on stdin, one answer
// line each:
//   r  try to read every kept descriptor and the private mapping: "bytes N" non-zero bytes seen, or
//   "SIGBUS" w  try to write through the mapping and the descriptors: "wrote N" bytes that the
//   kernel took
//   p  claim that every page of the mapping, and some that are none of it, are bad memory: "told N"
//   once that many verdicts have come
//   x  drop mapping and descriptors: "dropped"
// Arguments: session socket, path of the file, its size.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "sys/socket.h"
#include "sys/userfaultfd.h"
#include "wire/message.h"

using namespace refault;

namespace {

sigjmp_buf g_jump;
void on_bus(int) {
    siglongjmp(g_jump, 1);
}

[[noreturn]] void die(const std::string& what) {
    std::fprintf(stderr, "rogue: %s\n", what.c_str());
    std::exit(1);
}

template <typename T>
T must(base::Result<T> result) {
    if (!result) die(result.error().message());
    return std::move(*result);
}

struct Kept {
    base::UniqueFd fd;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    volatile unsigned char* memory = nullptr;
};

wire::Reply ask(int channel, const wire::Request& request) {
    if (auto sent = sys::send_message(channel, wire::encode(request)); !sent)
        die(sent.error().message());
    auto reply =
        must(wire::decode_reply(must(sys::receive_message(channel, wire::kMessageBytesMax)).bytes));
    if (reply.error != 0) die(reply.message);
    return reply;
}

std::vector<Kept> steal(const std::string& socket, const std::string& path, std::uint64_t size,
                        base::UniqueFd& channel_out, base::UniqueFd& pager_out,
                        base::UniqueFd& uffd_out, std::uint64_t& address_out) {
    auto uffd = must(sys::create_userfaultfd());
    auto channel = must(sys::connect_seqpacket(socket));
    auto pager = must(sys::seqpacket_pair());
    const std::array descriptors{uffd.fd.get(), pager.second.get()};
    if (!sys::send_message(channel.get(), wire::encode(wire::Hello{true}), descriptors))
        die("hello");
    (void)must(wire::decode_reply(
        must(sys::receive_message(channel.get(), wire::kMessageBytesMax)).bytes));
    pager.second.reset();
    const auto file = ask(channel.get(), wire::OpenFile{path, base::Access::ReadWrite});
    void* const reserved =
        ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    address_out = reinterpret_cast<std::uintptr_t>(reserved);
    (void)ask(channel.get(),
              wire::Map{file.handle, 0, size, address_out, base::Access::ReadWrite, false});
    std::vector<Kept> kept;
    std::uint64_t placed = 0;
    for (std::uint64_t have = 0; have < size;) {
        auto message = must(sys::receive_message(pager.first.get(), wire::kMessageBytesMax));
        auto decoded = must(wire::decode_pager_message(message.bytes));
        if (const auto* places = std::get_if<wire::Places>(&decoded)) {
            for (const auto& place : places->places) {
                if (place.descriptor == wire::kNoDescriptor) continue;
                have += place.length;
                Kept one;
                one.fd = base::UniqueFd(::dup(message.descriptors[place.descriptor].get()));
                one.offset = place.segment_offset;
                one.length = place.length;
                void* memory = ::mmap(nullptr, place.length, PROT_READ | PROT_WRITE, MAP_SHARED,
                                      one.fd.get(), static_cast<off_t>(place.segment_offset));
                if (memory == MAP_FAILED) die("mmap");
                one.memory = static_cast<volatile unsigned char*>(memory);
                kept.push_back(std::move(one));
            }
            placed = places->sequence;
        }
        if (have < size)
            (void)sys::send_message(pager.first.get(),
                                    wire::encode(wire::PagerMessage(wire::Fetch{placed})));
    }
    // Says that all is in force, once, and never a word again.
    (void)sys::send_message(pager.first.get(),
                            wire::encode(wire::PagerMessage(wire::Fetch{placed})));
    channel_out = std::move(channel);
    pager_out = std::move(pager.first);
    uffd_out = std::move(uffd.fd);
    return kept;
}

// The byte at the address, after storing *value there if given; -1 when the access gives SIGBUS.
int touch(volatile unsigned char* address, const unsigned char* value) {
    if (sigsetjmp(g_jump, 1) != 0) return -1;
    if (value != nullptr) *address = *value;
    return *address;
}

void read_all(const std::vector<Kept>& kept) {
    std::uint64_t seen = 0, signals = 0;
    for (const auto& one : kept) {
        for (std::uint64_t at = 0; at < one.length; at += 4096) {
            const int byte = touch(one.memory + at, nullptr);
            if (byte < 0) signals = signals + 1;
            if (byte > 0) seen = seen + 1;
        }
        std::vector<unsigned char> buffer(one.length);
        const ssize_t got =
            ::pread(one.fd.get(), buffer.data(), buffer.size(), static_cast<off_t>(one.offset));
        for (ssize_t i = 0; i < got; i += 4096)
            if (buffer[static_cast<std::size_t>(i)] != 0) seen = seen + 1;
    }
    std::printf("bytes %llu signals %llu\n", static_cast<unsigned long long>(seen),
                static_cast<unsigned long long>(signals));
}

void write_all(const std::vector<Kept>& kept) {
    std::uint64_t written = 0;
    for (const auto& one : kept) {
        constexpr unsigned char kMark = 0xEE;
        for (std::uint64_t at = 0; at < one.length; at += 4096)
            if (touch(one.memory + at, &kMark) >= 0) written = written + 1;
    }
    std::printf("wrote %llu\n", static_cast<unsigned long long>(written));
}

// The daemon answers each claim, or this never ends (and the test gives up on it).
void claim_poison(int pager, std::uint64_t begin, std::uint64_t size) {
    std::uint32_t claimed = 0, told = 0;
    const auto read_verdicts = [&] {
        auto message = must(sys::receive_message(pager, wire::kMessageBytesMax));
        const auto decoded = must(wire::decode_pager_message(message.bytes));
        if (std::holds_alternative<wire::Verdict>(decoded)) ++told;
    };
    const auto claim = [&](std::uint64_t address, std::uint8_t length_log2) {
        wire::Fault fault;
        fault.ticket = ++claimed;
        fault.address = address;
        fault.is_poison = true;
        fault.length_log2 = length_log2;
        if (!sys::send_message(pager, wire::encode(wire::PagerMessage(fault)))) die("claim");
        while (told < claimed) read_verdicts();
    };
    for (std::uint64_t at = 0; at < size; at += 64 * 4096) claim(begin + at, 12);
    claim(begin, 40);             // all that there is
    claim(begin + size, 12);      // beyond the end
    claim(0, 12);                 // nobody's
    claim(~std::uint64_t{0}, 0);  // wraps around
    std::printf("told %u\n", told);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) die("arguments: socket path size");
    struct sigaction action {};
    action.sa_handler = on_bus;
    ::sigaction(SIGBUS, &action, nullptr);
    base::UniqueFd channel, pager, uffd;
    const std::uint64_t size = std::strtoull(argv[3], nullptr, 10);
    std::uint64_t address = 0;
    auto kept = steal(argv[1], argv[2], size, channel, pager, uffd, address);
    std::printf("holding %zu\n", kept.size());
    std::fflush(stdout);
    for (char command; ::read(STDIN_FILENO, &command, 1) == 1;) {
        if (command == 'r') read_all(kept);
        if (command == 'w') write_all(kept);
        if (command == 'p') claim_poison(pager.get(), address, size);
        if (command == 'x') {
            for (auto& one : kept) ::munmap(const_cast<unsigned char*>(one.memory), one.length);
            kept.clear();
            std::printf("dropped\n");
        }
        std::fflush(stdout);
    }
    return 0;
}
