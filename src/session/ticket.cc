// u64 inode | u8 access | 16 bytes of HMAC-SHA-256 over these, the user and the pool.
#include "session/ticket.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <span>

#include "base/codec.h"

namespace refault::session {

using base::Access;
using base::Code;
using base::Error;
using base::Result;

namespace {

constexpr std::size_t kSignatureBytes = 16;
constexpr std::size_t kNamedBytes = 9;

std::span<const std::uint8_t> bytes_of(const std::string& text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::string text_of(std::span<const std::uint8_t> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Result<TicketKey> make_ticket_key() {
    TicketKey key;
    if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size()))
        return base::sys_error("getrandom");
    return key;
}

std::string Tickets::sign(uid_t user, const std::string& text) const {
    base::Encoder all;
    all.raw(bytes_of(text)).u32(user).raw(pool_.bytes);
    std::array<std::uint8_t, EVP_MAX_MD_SIZE> digest;
    unsigned length = 0;
    CHECK(::HMAC(::EVP_sha256(), key_.data(), static_cast<int>(key_.size()), all.data().data(),
                 all.data().size(), digest.data(), &length) != nullptr &&
          length >= kSignatureBytes);
    return text_of(std::span(digest).first(kSignatureBytes));
}

std::string Tickets::issue(uid_t user, const Opened& opened) const {
    base::Encoder named;
    named.u64(opened.inode.raw()).u8(opened.access == Access::ReadWrite ? 1 : 0);
    const auto text = text_of(named.data());
    return text + sign(user, text);
}

Result<Tickets::Opened> Tickets::check(uid_t user, const std::string& ticket) const {
    const Error refused(Code::Denied,
                        "this ticket was not given to this user for a file of this pool; open the "
                        "file anew");
    if (ticket.size() != kNamedBytes + kSignatureBytes) return refused;
    const auto named = ticket.substr(0, kNamedBytes);
    const auto signature = sign(user, named);
    if (::CRYPTO_memcmp(signature.data(), ticket.data() + kNamedBytes, kSignatureBytes) != 0)
        return refused;
    base::Decoder in(bytes_of(named));
    const base::InodeNo inode(in.u64());
    return Opened{inode, in.u8() == 1 ? Access::ReadWrite : Access::Read};
}

}  // namespace refault::session
