// Every message survives the wire, and nothing that comes from it is trusted: what decodes is
// exactly what would encode, everything else is an error. REFAULT_SEED in the environment replays
// the random test.
#include "wire/message.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "wire/codec.h"

namespace refault::wire {
namespace {

using base::Code;
using Input = std::span<const std::uint8_t>;

const std::vector<Request>& every_request() {
    static const std::vector<Request> requests{
        CreateFile{"/a/b", 0640, false},
        OpenFile{"/a/b", Access::ReadWrite},
        CloseFile{0x01020304},
        Resize{7, 0x1122334455667788},
        StatHandle{8},
        StatPath{std::string(kPathBytesMax, 'p')},
        Map{9, 4096, 8192, 0x7f0000200000, Access::ReadWrite, true},
        Unmap{MappingId(0xfedcba9876543210)},
        List{"/", "last"},
        Unlink{""},
        MakeDirectory{"/d", 0711},
        RemoveDirectory{"/d"},
        Rename{"/from", "/to"},
        Accept{MappingId(7), 4096, 8192},
        SetNotice{true},
        Punch{9, 4096, 8192},
        Reopen{std::string(kTicketBytesMax, 't'), 9},
        Remap{
            "ticket", 4096, 16384, 0x7f0000200000, Access::ReadWrite, 3, {{0, 4096}, {8192, 4096}}},
    };
    static_assert(std::variant_size_v<Request> == 18);
    return requests;
}

FileInfo some_info(std::uint64_t salt) {
    return {salt + 1, salt % 2 == 0, 0755, 1000, 100, 2, salt << 30, salt + 3, salt + 4};
}

const std::vector<Reply>& every_reply() {
    static const std::vector<Reply> replies{
        Reply{},
        Reply{28, "no space: free some", 0, {}, {}, {}, false, "", 0, ""},
        Reply{0, "", 77, MappingId(78), some_info(5), {}, false, "pool", 79, "ticket"},
        Reply{0, "", 0, {}, {}, {{"a", some_info(1)}, {"b", some_info(2)}}, true, "", 0, ""},
    };
    return replies;
}

Place some_place(std::uint64_t salt) {
    return {MappingId(salt),
            0x7f0000000000 + salt * 4096,
            (salt + 1) * 4096,
            static_cast<std::uint16_t>(salt % 3 == 0 ? kNoDescriptor : salt),
            salt * 8192,
            salt % 2 == 0 ? Access::Read : Access::ReadWrite,
            salt % 3 == 0 ? static_cast<PlaceKind>(1 + salt % 4) : PlaceKind::Segment,
            static_cast<std::uint8_t>(salt % kReplicasMax),
            salt % 2 == 0};
}

Places full_places() {
    Places places{42, {}};
    for (std::uint64_t i = 0; i < kPlacesMax; ++i) places.places.push_back(some_place(i));
    return places;
}

const std::vector<PagerMessage>& every_pager_message() {
    static const std::vector<PagerMessage> messages{Doorbell{},
                                                    Fetch{0x8877665544332211},
                                                    Places{3, {}},
                                                    Places{4, {some_place(1), some_place(3)}},
                                                    full_places(),
                                                    Fault{7, 0x7f0000001234, true, 21},
                                                    Verdict{7, Answer::Stale, 0x7f0000001000, 4096},
                                                    Notice{0x7f0000001000, 8192, Answer::Lost}};
    static_assert(std::variant_size_v<PagerMessage> == 6);
    return messages;
}

// All of them, encoded.
std::vector<Bytes> every_message() {
    std::vector<Bytes> messages{encode(Hello{false}), encode(Hello{true}),
                                encode(Hello{true, true})};
    for (const auto& request : every_request()) messages.push_back(encode(request));
    for (const auto& reply : every_reply()) messages.push_back(encode(reply));
    for (const auto& message : every_pager_message()) messages.push_back(encode(message));
    return messages;
}

// Gives the bytes to every decoder, and each answer must be an error a peer may cause, or a message
// that encodes to the same bytes: then there is one way to write a message, and no byte of it is
// ignored.
template <typename Message>
int check_one(Input bytes, const Result<Message>& decoded) {
    if (decoded) {
        EXPECT_EQ(encode(*decoded), Bytes(bytes.begin(), bytes.end()));
        return 1;
    }
    EXPECT_TRUE(decoded.error().code() == Code::Corrupt ||
                decoded.error().code() == Code::NotSupported)
        << decoded.error().message();
    return 0;
}

PagerMessage as_message(const FromDaemon& from_daemon) {
    switch (from_daemon.kind) {
        case FromDaemon::Kind::Doorbell:
            return Doorbell{};
        case FromDaemon::Kind::Places:
            return from_daemon.places;
        case FromDaemon::Kind::Verdict:
            return from_daemon.verdict;
        case FromDaemon::Kind::Notice:
            return from_daemon.notice;
    }
    return Doorbell{};
}

int accepted_by(Input bytes) {
    FromDaemon into;
    auto from_daemon = decode_from_daemon(bytes, into);
    auto pager_message = decode_pager_message(bytes);
    const bool is_from_client = pager_message && (std::holds_alternative<Fetch>(*pager_message) ||
                                                  std::holds_alternative<Fault>(*pager_message));
    EXPECT_EQ(from_daemon.ok(), pager_message.ok() && !is_from_client);
    if (from_daemon) {
        EXPECT_EQ(as_message(into), *pager_message);
    }
    return check_one(bytes, decode_hello(bytes)) + check_one(bytes, decode_request(bytes)) +
           check_one(bytes, decode_reply(bytes)) + check_one(bytes, pager_message);
}

TEST(Message, HelloAndEveryRequestComeBackEqual) {
    EXPECT_EQ(*decode_hello(encode(Hello{true})), Hello{true});
    EXPECT_EQ(*decode_hello(encode(Hello{false})), Hello{false});
    for (const auto& request : every_request()) {
        auto decoded = decode_request(encode(request));
        ASSERT_TRUE(decoded) << request.index() << ": " << decoded.error().message();
        EXPECT_EQ(*decoded, request) << request.index();
    }
}

TEST(Message, EveryReplyComesBackEqual) {
    for (const auto& reply : every_reply()) {
        auto decoded = decode_reply(encode(reply));
        ASSERT_TRUE(decoded) << decoded.error().message();
        EXPECT_EQ(*decoded, reply);
    }
}

TEST(Message, EveryPagerMessageComesBackEqual) {
    for (const auto& message : every_pager_message()) {
        auto decoded = decode_pager_message(encode(message));
        ASSERT_TRUE(decoded) << decoded.error().message();
        EXPECT_EQ(*decoded, message);
    }
}

TEST(Message, TheLargestFitIntoOneMessage) {
    for (const auto& bytes : every_message()) EXPECT_LE(bytes.size(), kMessageBytesMax);
    EXPECT_LE(
        encode(Request(Rename{std::string(kPathBytesMax, 'a'), std::string(kPathBytesMax, 'b')}))
            .size(),
        kMessageBytesMax);
}

TEST(Message, TheAllocationFreeSideSpeaksTheSameBytes) {
    for (const std::uint64_t placed :
         {std::uint64_t{0}, std::uint64_t{0x0123456789abcdef}, ~std::uint64_t{0}}) {
        const auto bytes = encode_fetch({placed});
        EXPECT_EQ(Bytes(bytes.begin(), bytes.end()), encode(PagerMessage(Fetch{placed})));
    }
    const Fault fault{0x01234567, 0x0123456789abcdef, true, 12};
    const auto bytes = encode_fault(fault);
    EXPECT_EQ(Bytes(bytes.begin(), bytes.end()), encode(PagerMessage(fault)));
    FromDaemon into;
    into.places = {9, {some_place(1)}};
    ASSERT_TRUE(decode_from_daemon(encode(PagerMessage(Doorbell{})), into));
    EXPECT_EQ(into.kind, FromDaemon::Kind::Doorbell);
    ASSERT_TRUE(decode_from_daemon(encode(PagerMessage(full_places())), into));
    EXPECT_EQ(into.kind, FromDaemon::Kind::Places);
    EXPECT_EQ(into.places, full_places());
    EXPECT_EQ(decode_from_daemon(encode_fetch({1}), into).error().code(), Code::Corrupt);
    EXPECT_EQ(decode_from_daemon(bytes, into).error().code(), Code::Corrupt);
}

TEST(Message, EachIsAcceptedByOneDecoderOnly) {
    for (const auto& bytes : every_message()) EXPECT_EQ(accepted_by(bytes), 1);
}

TEST(Message, EveryTruncationAndEveryExcessIsCorrupt) {
    for (const auto& bytes : every_message()) {
        for (std::size_t length = 0; length < bytes.size(); ++length)
            EXPECT_EQ(accepted_by(Input(bytes).first(length)), 0)
                << length << " of " << bytes.size();
        auto longer = bytes;
        longer.push_back(0);
        EXPECT_EQ(accepted_by(longer), 0);
    }
}

TEST(Message, AnotherVersionIsNamedAsSuch) {
    auto bytes = encode(Hello{true});
    bytes[4] = 5;
    auto decoded = decode_hello(bytes);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code(), Code::NotSupported);
    EXPECT_NE(decoded.error().message().find("version 5"), std::string::npos);
}

TEST(Message, PathBeyondTheLimitIsCorrupt) {
    const auto bytes = encode(Request(StatPath{std::string(kPathBytesMax + 1, 'p')}));
    EXPECT_EQ(decode_request(bytes).error().code(), Code::Corrupt);
}

TEST(Message, MoreThanTheLargestMessageIsCorrupt) {
    EXPECT_EQ(accepted_by(Bytes(kMessageBytesMax + 1)), 0);
}

TEST(Message, CountsThatTheBytesCannotHoldAreCorruptAndCheap) {
    auto places = begin_message(Type::Places);
    places.u64(1).u32(0xffffffff);
    EXPECT_EQ(accepted_by(places.data()), 0);
    auto too_many = full_places();
    too_many.places.push_back(some_place(1));
    EXPECT_EQ(accepted_by(encode(PagerMessage(too_many))), 0);
}

TEST(Message, NegativeErrorInAReplyIsCorrupt) {
    EXPECT_EQ(decode_reply(encode(Reply{-1, "", 0, {}, {}, {}, false, "", 0, ""})).error().code(),
              Code::Corrupt);
}

TEST(Message, PlaceThatIsNoRangeOfPagesIsCorrupt) {
    const auto is_accepted = [](std::uint64_t address, std::uint64_t length, std::uint64_t offset) {
        const Places places{1, {{MappingId(1), address, length, 0, offset, Access::Read}}};
        return decode_pager_message(encode(PagerMessage(places))).ok();
    };
    constexpr std::uint64_t kLastPage = ~std::uint64_t{0} - 4095;
    EXPECT_TRUE(is_accepted(4096, 4096, 0));
    EXPECT_FALSE(is_accepted(4096, 0, 0));
    EXPECT_FALSE(is_accepted(4097, 4096, 0));
    EXPECT_FALSE(is_accepted(4096, 4097, 0));
    EXPECT_FALSE(is_accepted(4096, 4096, 1));
    EXPECT_FALSE(is_accepted(kLastPage, 8192, 0));
    EXPECT_FALSE(is_accepted(4096, 8192, kLastPage));
}

TEST(Message, RandomDamageIsAnErrorOrAnotherValidMessage) {
    const char* replay = std::getenv("REFAULT_SEED");
    const std::uint64_t seed =
        replay != nullptr ? std::strtoull(replay, nullptr, 10) : std::random_device{}();
    std::cout << "REFAULT_SEED=" << seed << std::endl;
    std::mt19937_64 random(seed);
    const auto messages = every_message();
    for (int round = 0; round < 20000; ++round) {
        auto bytes = messages[random() % messages.size()];
        for (auto flips = 1 + random() % 4; flips > 0; --flips)
            bytes[random() % bytes.size()] ^= static_cast<std::uint8_t>(1 + random() % 255);
        if (random() % 4 == 0) bytes.resize(random() % (bytes.size() + 20));
        (void)accepted_by(bytes);
        if (HasFailure()) FAIL() << "round " << round;
    }
}

}  // namespace
}  // namespace refault::wire
