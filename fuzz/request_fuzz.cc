// What the daemon reads from a client on the session channel. There is one way to write a message:
// what decodes is encoded to the same bytes again.
#include "fuzz/target.h"
#include "wire/message.h"

namespace refault::fuzz {
namespace {

std::vector<Bytes> seeds() {
    using namespace wire;
    const std::vector<Request> requests{
        CreateFile{"/a", 0640, true},
        OpenFile{"/d/b", Access::ReadWrite},
        CloseFile{7},
        Resize{7, 1u << 30},
        StatHandle{7},
        StatPath{"/"},
        Map{7, 4096, 8192, 0x7f0000000000, Access::ReadWrite, true},
        Unmap{MappingId(9)},
        List{"/d", "name"},
        Unlink{"/a"},
        MakeDirectory{"/d", 0755},
        Reopen{"a ticket", 7},
        Remap{"a ticket", 4096, 8192, 0x7f0000000000, Access::ReadWrite, 3, {{0, 4096}}},
        RemoveDirectory{"/d"},
        Rename{"/a", "/b"},
        Accept{MappingId(9), 0, 4096},
        SetNotice{true},
        Punch{7, 4096, 8192},
    };
    std::vector<Bytes> all{encode(Hello{true})};
    for (const auto& request : requests) all.push_back(encode(request));
    return all;
}

void run(Input input) {
    if (const auto hello = wire::decode_hello(input))
        CHECK(same_bytes(wire::encode(*hello), input));
    if (const auto request = wire::decode_request(input))
        CHECK(same_bytes(wire::encode(*request), input));
}

const Registration registered({"request", seeds, run, 300'000});

}  // namespace
}  // namespace refault::fuzz
