// The requests of a session, each checked against the client's own credentials.
#include <algorithm>

#include "session/connection.h"

namespace refault::session {

using base::Access;
using base::Code;
using base::Error;
using base::kPageBytes;
using wire::Reply;

namespace {

// The end of the addresses that a program may use on x86-64 and arm64 with 48-bit tables.
constexpr std::uint64_t kAddressEnd = 1ull << 47;
// Entries in one answer to List; keeps it below wire::kMessageBytesMax with the longest names.
constexpr std::size_t kEntriesMax = 128;

wire::FileInfo info_of(const store::Attributes& attributes) {
    return {attributes.inode.raw(), attributes.type == store::FileType::Directory,
            attributes.mode,        attributes.uid,
            attributes.gid,         attributes.links,
            attributes.size_bytes,  attributes.modified_ns,
            attributes.changed_ns};
}

Result<Reply> done(const Status& status) {
    if (!status) return status.error();
    return Reply{};
}

}  // namespace

Result<Connection::OpenFile> Connection::file_of(std::uint32_t handle) const {
    const auto at = files_.find(handle);
    if (at == files_.end()) return Error(Code::Invalid, "no open file has this handle", EBADF);
    return at->second;
}

Status Connection::check_room_for_file() const {
    if (files_.size() < context_.options.limits.files_per_session) return {};
    return Error(Code::NoSpace, "this session has too many open files; close some", EMFILE);
}

Result<Reply> Connection::opened(const std::string& path, Access access) {
    RETURN_IF_ERROR(check_room_for_file());
    auto attributes = context_.store.open_file(path, access, session_->cred());
    if (!attributes) return attributes.error();
    Reply reply;
    reply.handle = next_handle_++;
    reply.info = info_of(*attributes);
    reply.ticket = context_.tickets.issue(session_->cred().uid, {attributes->inode, access});
    files_.emplace(reply.handle, OpenFile{attributes->inode, access});
    return reply;
}

Result<Reply> Connection::handle(const wire::CreateFile& request) {
    auto created = context_.store.create_file(request.path, request.mode & 07777, session_->cred());
    if (!created && (request.exclusive || created.error().code() != Code::Exists))
        return created.error();
    context_.files.name_changed(request.path);
    return opened(request.path, Access::ReadWrite);
}

Result<Reply> Connection::handle(const wire::OpenFile& request) {
    return opened(request.path, request.access);
}

Result<Reply> Connection::handle(const wire::CloseFile& request) {
    auto file = file_of(request.handle);
    if (!file) return file.error();
    files_.erase(request.handle);
    context_.store.unpin(file->inode);
    return Reply{};
}

Result<Reply> Connection::handle(const wire::Resize& request) {
    auto file = file_of(request.handle);
    if (!file) return file.error();
    if (file->access != Access::ReadWrite)
        return Error(Code::Invalid, "the file is open for reading only", EBADF);
    return done(context_.files.resize(file->inode, request.size_bytes));
}

Result<Reply> Connection::handle(const wire::StatHandle& request) {
    auto file = file_of(request.handle);
    if (!file) return file.error();
    auto attributes = context_.store.stat(file->inode);
    if (!attributes) return attributes.error();
    Reply reply;
    reply.info = info_of(*attributes);
    return reply;
}

Result<Reply> Connection::handle(const wire::StatPath& request) {
    auto attributes = context_.store.stat(request.path, session_->cred());
    if (!attributes) return attributes.error();
    Reply reply;
    reply.info = info_of(*attributes);
    return reply;
}

Result<Connection::Wanted> Connection::check_bounds(std::uint64_t offset, std::uint64_t length,
                                                    std::uint64_t address, Access access) {
    for (const auto value : {offset, length, address})
        if (value % kPageBytes != 0)
            return Error(Code::Invalid, "offset, length and address are whole pages of 4096");
    if (length == 0 || length > kAddressEnd / (2 * wire::kReplicasMax) ||
        address > kAddressEnd - length || offset > UINT64_MAX / 2)
        return Error(Code::Invalid, "the range to map is empty or out of bounds");
    const auto addresses = AddressRange::of_length(address, wire::reserved_bytes(length, access));
    if (addresses.end() > kAddressEnd)
        return Error(Code::Invalid,
                     "the addresses behind the mapping, for its copies, are out of bounds");
    return Wanted{FileRange::of_length(offset, length), addresses, access};
}

Status Connection::check_map(const Wanted& wanted, const OpenFile& file) const {
    if (wanted.access == Access::ReadWrite && file.access != Access::ReadWrite)
        return Error(Code::Denied,
                     "the file is open for reading only; open it for writing to map it so");
    if (mapped_.size() >= context_.options.limits.mappings_per_session)
        return Error(Code::NoSpace, "this session has too many mappings; unmap some", ENOMEM);
    for (const auto& [id, mapped] : mapped_)
        if (mapped.addresses.overlaps(wanted.addresses))
            return Error(Code::Invalid,
                         "the addresses overlap those of another mapping of this session");
    return {};
}

Result<Reply> Connection::handle(const wire::Map& request) {
    auto file = file_of(request.handle);
    if (!file) return file.error();
    const auto wanted =
        check_bounds(request.offset, request.length, request.address, request.access);
    if (!wanted) return wanted.error();
    return map(*wanted, *file, request.populate ? Populate::Yes : Populate::No, {});
}

Result<Reply> Connection::map(const Wanted& wanted, const OpenFile& file, Populate populate,
                              Registry::Earlier earlier) {
    RETURN_IF_ERROR(check_map(wanted, file));
    const auto claim = context_.files.claim(file.inode);
    if (!claim) return claim.error();
    RETURN_IF_ERROR(context_.files.make_mappable(file.inode, session_->cred()));
    if (populate == Populate::Yes) {
        auto layout = context_.store.lock_layout(file.inode);
        RETURN_IF_ERROR(context_.store.populate(file.inode, wanted.range));
    }
    RETURN_IF_ERROR(context_.store.pin(file.inode));  // the mapping outlives the handle
    // Before the first store: a daemon that is restarted must know that the copies may differ.
    if (wanted.access == Access::ReadWrite) {
        const auto attributes = context_.store.stat(file.inode);
        if (attributes && attributes->replicas > 1)
            RETURN_IF_ERROR(context_.store.set_unsynced(file.inode, true));
    }
    Reply reply;
    reply.mapping =
        context_.registry.add_mapping(session_, file.inode, wanted.range, wanted.addresses.begin(),
                                      wanted.access, std::move(earlier));
    mapped_.emplace(reply.mapping, Mapped{wanted.addresses, file.inode, wanted.access});
    return reply;
}

// The client keeps the number: one that is taken again is a client that has lost count.
Result<Reply> Connection::handle(const wire::Reopen& request) {
    RETURN_IF_ERROR(check_room_for_file());
    const auto opened = context_.tickets.check(session_->cred().uid, request.ticket);
    if (!opened) return opened.error();
    if (request.handle == 0 || request.handle == UINT32_MAX || files_.contains(request.handle))
        return Error(Code::Invalid, "no new file can have this handle", EBADF);
    RETURN_IF_ERROR(context_.store.pin(opened->inode));
    files_.emplace(request.handle, OpenFile{opened->inode, opened->access});
    next_handle_ = std::max(next_handle_, request.handle + 1);
    Reply reply;
    reply.handle = request.handle;
    return reply;
}

Result<Reply> Connection::handle(const wire::Remap& request) {
    const auto opened = context_.tickets.check(session_->cred().uid, request.ticket);
    if (!opened) return opened.error();
    const auto wanted =
        check_bounds(request.offset, request.length, request.address, request.access);
    if (!wanted) return wanted.error();
    RangeSet held;
    for (const auto& part : request.held) {
        if (part.offset % kPageBytes != 0 || part.length % kPageBytes != 0 ||
            part.length > request.length || part.offset > request.length - part.length)
            return Error(Code::Invalid, "a part that is held back lies outside of the mapping");
        held.add(FileRange::of_length(request.offset + part.offset, part.length));
    }
    if (held.parts().size() + context_.registry.held_parts(id_) >
        context_.options.limits.held_parts_per_session)
        return Error(Code::NoSpace, "this session has too many parts that are held back", ENOMEM);
    if (wanted->access == Access::ReadWrite)
        for (const auto part :
             context_.store.taken_over_at_open(opened->inode).parts(wanted->range))
            held.add(part);
    return map(*wanted, {opened->inode, opened->access}, Populate::No,
               {request.replicas, std::move(held)});
}

Result<Reply> Connection::handle(const wire::Unmap& request) {
    const auto at = mapped_.find(request.mapping);
    if (at == mapped_.end()) return Error(Code::NotFound, "no such mapping in this session");
    RETURN_IF_ERROR(context_.registry.remove_mapping(id_, request.mapping));
    const auto mapped = at->second;
    mapped_.erase(at);
    if (mapped.access == Access::ReadWrite) context_.faults.writer_gone(mapped.inode);
    context_.store.unpin(mapped.inode);
    return Reply{};
}

Result<Reply> Connection::handle(const wire::List& request) {
    auto entries = context_.store.list(request.path, session_->cred());
    if (!entries) return entries.error();
    Reply reply;
    for (const auto& entry : *entries) {
        if (entry.name <= request.after) continue;
        if (reply.entries.size() == kEntriesMax) {
            reply.has_more = true;
            break;
        }
        reply.entries.push_back({entry.name, info_of(entry.attributes)});
    }
    return reply;
}

Result<Reply> Connection::handle(const wire::Unlink& request) {
    const auto removed = context_.store.unlink(request.path, session_->cred());
    context_.files.name_changed(request.path);
    return done(removed);
}

Result<Reply> Connection::handle(const wire::MakeDirectory& request) {
    auto made = context_.store.make_directory(request.path, request.mode & 07777, session_->cred());
    if (!made) return made.error();
    context_.files.name_changed(request.path);
    return Reply{};
}

Result<Reply> Connection::handle(const wire::RemoveDirectory& request) {
    const auto removed = context_.store.remove_directory(request.path, session_->cred());
    context_.files.name_changed(request.path);
    return done(removed);
}

Result<Reply> Connection::handle(const wire::Rename& request) {
    const auto renamed = context_.store.rename(request.from, request.to, session_->cred());
    context_.files.name_changed(request.from);
    context_.files.name_changed(request.to);
    return done(renamed);
}

Result<Reply> Connection::handle(const wire::Accept& request) {
    return done(context_.registry.accept(id_, request.mapping, request.offset, request.length,
                                         context_.options.limits.held_parts_per_session));
}

Result<Reply> Connection::handle(const wire::SetNotice& request) {
    session_->set_early_notice(request.early);
    return Reply{};
}

Result<Reply> Connection::handle(const wire::Punch& request) {
    auto file = file_of(request.handle);
    if (!file) return file.error();
    if (file->access != Access::ReadWrite)
        return Error(Code::Invalid, "the file is open for reading only", EBADF);
    return done(context_.files.punch(file->inode, request.offset, request.length));
}

}  // namespace refault::session
