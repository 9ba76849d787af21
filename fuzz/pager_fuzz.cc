// The pager channel in both directions. The client's own decoder, which may not allocate, takes
// what the general one takes of the daemon's messages, and sees the same in it.
#include "fuzz/target.h"
#include "wire/message.h"

namespace refault::fuzz {
namespace {

using namespace wire;

std::vector<Bytes> seeds() {
    Places places;
    places.sequence = 7;
    for (std::uint64_t i = 0; i < 3; ++i) {
        Place place;
        place.mapping = MappingId(i + 1);
        place.address = (i + 1) << 30;
        place.length = 2u << 20;
        place.replica = static_cast<std::uint8_t>(i);
        if (i == 0) place.descriptor = 0;
        place.kind = i == 0 ? PlaceKind::Segment : PlaceKind::Lost;
        place.access = i == 0 ? Access::ReadWrite : Access::Read;
        places.places.push_back(place);
    }
    const std::vector<PagerMessage> messages{Doorbell{},
                                             Fetch{7},
                                             places,
                                             Places{},
                                             Fault{3, 0x7f0000001000, true, 12},
                                             Verdict{3, Answer::Stale, 0x7f0000000000, 4096},
                                             Notice{0x7f0000000000, 4096, Answer::Lost}};
    std::vector<Bytes> all;
    for (const auto& message : messages) all.push_back(encode(message));
    return all;
}

PagerMessage message_of(const FromDaemon& from) {
    switch (from.kind) {
        case FromDaemon::Kind::Doorbell:
            return Doorbell{};
        case FromDaemon::Kind::Places:
            return from.places;
        case FromDaemon::Kind::Verdict:
            return from.verdict;
        case FromDaemon::Kind::Notice:
            return from.notice;
    }
    CHECK(false);
}

void run(Input input) {
    const auto message = decode_pager_message(input);
    if (message) CHECK(same_bytes(encode(*message), input));
    bool is_from_client = false;
    if (message && std::holds_alternative<Fetch>(*message)) {
        is_from_client = true;
        CHECK(same_bytes(encode_fetch(std::get<Fetch>(*message)), input));
    } else if (message && std::holds_alternative<Fault>(*message)) {
        is_from_client = true;
        CHECK(same_bytes(encode_fault(std::get<Fault>(*message)), input));
    }
    static FromDaemon into;
    into.places.places.reserve(kPlacesMax);
    const auto* const storage = into.places.places.data();
    const bool is_from_daemon = decode_from_daemon(input, into).ok();
    CHECK(into.places.places.data() == storage);
    CHECK(is_from_daemon == (message.ok() && !is_from_client));
    if (is_from_daemon) CHECK(message_of(into) == *message);
}

const Registration registered({"pager", seeds, run, 300'000});

}  // namespace
}  // namespace refault::fuzz
