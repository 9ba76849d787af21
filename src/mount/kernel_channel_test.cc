// What is put into messages where they pass, and what of FUSE_INIT is kept for the next session.
#include "mount/kernel_channel.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

namespace refault::mount {
namespace {

using Message = std::vector<std::uint8_t>;

template <typename Body>
Message message(std::uint32_t opcode, std::uint64_t unique, const Body& body,
                std::size_t body_bytes = sizeof(Body)) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + body_bytes);
    header.opcode = opcode;
    header.unique = unique;
    Message made(header.len);
    std::memcpy(made.data(), &header, sizeof header);
    std::memcpy(made.data() + sizeof header, &body, body_bytes);
    return made;
}

class KernelChannelTest : public ::testing::Test {
  protected:
    static constexpr std::size_t kOldInitBytes = offsetof(fuse_init_in, flags2);

    static fuse_init_in init() {
        fuse_init_in asked{};
        asked.major = FUSE_KERNEL_VERSION;
        asked.minor = FUSE_KERNEL_MINOR_VERSION;
        asked.flags = FUSE_HANDLE_KILLPRIV_V2;
        return asked;
    }
    // The flags that the kernel gets.
    std::uint32_t answer(std::uint64_t unique) {
        fuse_out_header header{sizeof header + sizeof(fuse_init_out), 0, unique};
        fuse_init_out body{};
        const std::array<iovec, 2> parts{iovec{&header, sizeof header}, iovec{&body, sizeof body}};
        EXPECT_TRUE(channel_.translate_reply(parts));
        return body.flags;
    }
    void refuse(std::uint64_t unique) {
        fuse_out_header header{sizeof header, -EIO, unique};
        const std::array<iovec, 1> parts{iovec{&header, sizeof header}};
        EXPECT_TRUE(channel_.translate_reply(parts));
    }

    KernelChannel channel_;
};

TEST_F(KernelChannelTest, AsksForKillPrivWhereTheKernelHasIt) {
    auto first = message(FUSE_INIT, 7, init());
    channel_.translate_request(first);
    EXPECT_EQ(answer(7), std::uint32_t{FUSE_HANDLE_KILLPRIV_V2});
    EXPECT_EQ(channel_.agreement().request, first);
    EXPECT_EQ(channel_.agreement().reply.size(), sizeof(fuse_init_out));
    EXPECT_EQ(answer(8), 0u) << "the reply to something else";
}

TEST_F(KernelChannelTest, KernelsBefore517SayLessInTheirInit) {
    auto first = message(FUSE_INIT, 7, init(), kOldInitBytes);
    channel_.translate_request(first);
    EXPECT_EQ(answer(7), std::uint32_t{FUSE_HANDLE_KILLPRIV_V2});
    EXPECT_EQ(channel_.agreement().request, first);
}

TEST_F(KernelChannelTest, WhatWasRefusedIsNotAgreedOn) {
    auto first = message(FUSE_INIT, 7, init());
    channel_.translate_request(first);
    answer(7);
    auto second = message(FUSE_INIT, 9, init());
    channel_.translate_request(second);
    refuse(9);
    EXPECT_EQ(channel_.agreement().request, first);
}

TEST_F(KernelChannelTest, WhatEndsEarlyIsLeftAsItIs) {
    for (const auto opcode : {FUSE_INIT, FUSE_OPEN, FUSE_WRITE, FUSE_TMPFILE}) {
        const auto whole = message(opcode, 7, std::array<std::uint8_t, 17>{});
        for (std::size_t length = 0; length < sizeof(fuse_in_header) + 8; ++length) {
            Message cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
            const auto before = cut;
            channel_.translate_request(cut);
            EXPECT_EQ(cut, before);
        }
    }
    EXPECT_TRUE(channel_.agreement().request.empty());
}

TEST_F(KernelChannelTest, AFileWithoutANameIsACreateOfNoName) {
    struct {
        fuse_create_in create{};
        char name[8] = "name";
    } body;
    auto made = message(FUSE_TMPFILE, 7, body);
    channel_.translate_request(made);
    fuse_in_header header{};
    std::memcpy(&header, made.data(), sizeof header);
    EXPECT_EQ(header.opcode, std::uint32_t{FUSE_CREATE});
    EXPECT_STREQ(reinterpret_cast<const char*>(made.data()) + sizeof header + sizeof body.create,
                 kNoName);
}

}  // namespace
}  // namespace refault::mount
