// What a client reads from the daemon on the session channel.
#include "fuzz/target.h"
#include "wire/message.h"

namespace refault::fuzz {
namespace {

std::vector<Bytes> seeds() {
    wire::Reply failed;
    failed.error = 2;
    failed.message = "there is no /none";
    wire::Reply listed;
    const wire::FileInfo info{12, true, 0755, 1000, 1000, 2, 4096, 1, 2};
    listed.info = info;
    listed.entries = {{"one", info}, {"two", {}}};
    listed.has_more = true;
    wire::Reply greeted;
    greeted.handle = 3;
    greeted.mapping = base::MappingId(4);
    greeted.pool = "scratch";
    greeted.session = 5;
    return {wire::encode(failed), wire::encode(listed), wire::encode(greeted)};
}

void run(Input input) {
    if (const auto reply = wire::decode_reply(input))
        CHECK(same_bytes(wire::encode(*reply), input));
}

const Registration registered({"reply", seeds, run, 300'000});

}  // namespace
}  // namespace refault::fuzz
