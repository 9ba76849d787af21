// The C API: what a program does about lost memory.
#include <cerrno>

#include "base/range.h"
#include "client/guard.h"
#include "client/handles.h"
#include "client/sigbus.h"

using refault::base::Code;
using refault::base::kPageBytes;
using refault::client::Error;
using refault::client::exchange;
using refault::client::fail;
using refault::client::Guard;
using refault::client::invalid;
using refault::client::NoticeBox;
namespace wire = refault::wire;

namespace {

int error_of(wire::Answer answer) {
    switch (answer) {
        case wire::Answer::Stale:
            return -ESTALE;
        case wire::Answer::BeyondEnd:
        case wire::Answer::NotOurs:
            return -EFAULT;
        default:
            return -EIO;
    }
}

int loss_of(int error) {
    return error == -ESTALE ? RF_STALE : error == -EFAULT ? RF_BEYOND : RF_LOST;
}

}  // namespace

extern "C" {

int rf_handle_sigbus(void* info) {
    return info != nullptr && refault::client::resolve_sigbus(*static_cast<siginfo_t*>(info)) ? 1
                                                                                              : 0;
}

int rf_try(void (*body)(void* context), void* context, rf_loss* loss) {
    if (body == nullptr) return -EINVAL;
    Guard guard;
    if (sigsetjmp(guard.jump, 0) != 0) {
        guard.leave();
        const auto first = refault::base::align_down(guard.hit.address, kPageBytes);
        const int error = error_of(guard.hit.answer);
        if (loss != nullptr)
            *loss = {reinterpret_cast<void*>(static_cast<std::uintptr_t>(first)), kPageBytes,
                     loss_of(error)};
        return error;
    }
    guard.enter();
    body(context);
    guard.leave();
    return 0;
}

int rf_accept(rf_mapping* mapping, const void* address, size_t length) {
    if (mapping == nullptr) return -EINVAL;
    const auto begin = reinterpret_cast<std::uintptr_t>(address);
    const std::uint64_t offset = begin - mapping->place.address;
    if (begin < mapping->place.address || offset > mapping->length ||
        length > mapping->length - offset || offset % kPageBytes != 0 || length % kPageBytes != 0)
        return invalid(mapping->session, "rf_accept: give whole pages inside of the mapping");
    const auto accepted = mapping->session->session->accept(mapping->place, offset, length);
    return accepted ? 0 : fail(mapping->session, accepted.error());
}

int rf_punch(rf_file* file, uint64_t offset, uint64_t length) {
    if (file == nullptr) return -EINVAL;
    if (offset % kPageBytes != 0 || length % kPageBytes != 0)
        return invalid(file->session, "rf_punch: punch whole pages of 4096 bytes");
    return exchange(file->session, wire::Punch{file->handle, offset, length});
}

int rf_set_notice(rf_session* session, int mode) {
    if (session == nullptr) return -EINVAL;
    if (mode != RF_NOTICE_LATE && mode != RF_NOTICE_SIGNAL && mode != RF_NOTICE_DESCRIPTOR)
        return invalid(session, "rf_set_notice: the mode is one of RF_NOTICE_*");
    if (mode == RF_NOTICE_DESCRIPTOR) {
        const int descriptor = rf_notice_descriptor(session);
        if (descriptor < 0) return descriptor;
    }
    session->session->notices().set_mode(mode == RF_NOTICE_SIGNAL ? NoticeBox::Mode::Signal
                                         : mode == RF_NOTICE_DESCRIPTOR
                                             ? NoticeBox::Mode::Descriptor
                                             : NoticeBox::Mode::Late);
    return exchange(session, wire::SetNotice{mode != RF_NOTICE_LATE});
}

int rf_notice_descriptor(rf_session* session) {
    if (session == nullptr) return -EINVAL;
    refault::base::MutexLock lock(session->mutex);
    auto descriptor = session->session->notices().descriptor();
    return descriptor ? *descriptor : fail(session, descriptor.error());
}

int rf_read_notice(rf_session* session, rf_loss* loss) {
    if (session == nullptr || loss == nullptr) return -EINVAL;
    return session->session->notices().take(*loss) ? 0 : -EAGAIN;
}

}  // extern "C"
