// What a ticket opens, and for whom.
#include "session/ticket.h"

#include <gtest/gtest.h>

namespace refault::session {
namespace {

using base::Access;
using base::InodeNo;

TEST(TicketTest, OpensWhatItWasGivenForAndNothingElse) {
    const auto key = *make_ticket_key();
    const auto pool = *base::Uuid::random();
    const Tickets tickets(key, pool);
    for (const auto access : {Access::Read, Access::ReadWrite}) {
        const auto ticket = tickets.issue(1000, {InodeNo(17), access});
        // A later daemon of the same run directory.
        const auto opened = Tickets(key, pool).check(1000, ticket);
        ASSERT_TRUE(opened);
        EXPECT_EQ(opened->inode, InodeNo(17));
        EXPECT_EQ(opened->access, access);
        EXPECT_EQ(tickets.check(1001, ticket).error().code(), base::Code::Denied);
        EXPECT_FALSE(Tickets(*make_ticket_key(), pool).check(1000, ticket));
        EXPECT_FALSE(Tickets(key, *base::Uuid::random()).check(1000, ticket));
        // Another inode, more access, or anything else but what was given.
        for (std::size_t i = 0; i < ticket.size(); ++i) {
            auto changed = ticket;
            changed[i] = static_cast<char>(changed[i] ^ 1);
            EXPECT_FALSE(tickets.check(1000, changed)) << i;
            EXPECT_FALSE(tickets.check(1000, ticket.substr(0, i))) << i;
        }
        EXPECT_FALSE(tickets.check(1000, ticket + "x"));
    }
}

}  // namespace
}  // namespace refault::session
