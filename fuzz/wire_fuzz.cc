// What clients and daemon read from each other: no input may do more than give an error, and what
// was read is written as it was read.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "wire/message.h"

using namespace refault;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span input(data, size);
    if (auto hello = wire::decode_hello(input))
        CHECK(*wire::decode_hello(wire::encode(*hello)) == *hello);
    if (auto request = wire::decode_request(input))
        CHECK(*wire::decode_request(wire::encode(*request)) == *request);
    (void)wire::decode_reply(input);
    (void)wire::decode_pager_message(input);
    static wire::FromDaemon into;
    (void)wire::decode_from_daemon(input, into);
    return 0;
}
