// The calls that change files.
#include "device/medium.h"

#include <fcntl.h>

#include <algorithm>

#include "sys/file.h"

namespace refault::device {

using base::Result;
using base::Status;
using base::UniqueFd;
using Kind = MediumCall::Kind;

Result<UniqueFd> Medium::create(const std::string& name, int flags, DurableWrite row) const {
    auto fd = sys::open_at(directory_fd_, name, flags | O_CREAT, 0600);
    if (fd && trace_) trace_({Kind::Create, row, name, {}, 0, 0, {}});
    return fd;
}

Status Medium::write(int fd, const std::string& name, std::uint64_t offset,
                     std::span<const std::uint8_t> bytes, DurableWrite row) const {
    return told(sys::write_fully(fd, offset, bytes), [&] {
        return MediumCall{Kind::Write, row, name, {}, offset, bytes.size(), bytes};
    });
}

Status Medium::copy(int from_fd, std::uint64_t from_offset, int fd, const std::string& name,
                    std::uint64_t offset, std::uint64_t length, std::span<std::uint8_t> buffer,
                    DurableWrite row) const {
    if (!trace_) return sys::copy_through(from_fd, from_offset, fd, offset, length, buffer);
    for (std::uint64_t done = 0; done < length;) {
        const auto part = buffer.first(std::min<std::uint64_t>(length - done, buffer.size()));
        RETURN_IF_ERROR(sys::read_fully(from_fd, from_offset + done, part));
        RETURN_IF_ERROR(write(fd, name, offset + done, part, row));
        done += part.size();
    }
    return {};
}

Status Medium::set_size(int fd, const std::string& name, std::uint64_t size_bytes,
                        DurableWrite row) const {
    return told(sys::set_size(fd, size_bytes),
                [&] { return MediumCall{Kind::SetSize, row, name, {}, size_bytes, 0, {}}; });
}

Status Medium::punch(int fd, const std::string& name, std::uint64_t offset, std::uint64_t length,
                     DurableWrite row) const {
    return told(sys::punch_hole(fd, offset, length),
                [&] { return MediumCall{Kind::Punch, row, name, {}, offset, length, {}}; });
}

Status Medium::allocate(int fd, const std::string& name, std::uint64_t offset, std::uint64_t length,
                        DurableWrite row) const {
    return told(sys::allocate(fd, offset, length),
                [&] { return MediumCall{Kind::Allocate, row, name, {}, offset, length, {}}; });
}

Status Medium::sync(int fd, const std::string& name, DurableWrite row) const {
    return told(sys::sync_data(fd),
                [&] { return MediumCall{Kind::Sync, row, name, {}, 0, 0, {}}; });
}

Status Medium::remove(const std::string& name, DurableWrite row) const {
    return told(sys::remove_file(directory_fd_, name),
                [&] { return MediumCall{Kind::Remove, row, name, {}, 0, 0, {}}; });
}

Status Medium::rename(const std::string& name, const std::string& to_name, DurableWrite row) const {
    return told(sys::rename_file(directory_fd_, name, to_name),
                [&] { return MediumCall{Kind::Rename, row, name, to_name, 0, 0, {}}; });
}

Status Medium::sync_names(DurableWrite row) const {
    return told(sys::sync_directory(directory_fd_),
                [&] { return MediumCall{Kind::SyncNames, row, {}, {}, 0, 0, {}}; });
}

Status Medium::replace(const std::string& name, std::span<const std::uint8_t> bytes,
                       DurableWrite row) const {
    const std::string temporary = name + ".new";
    const auto put = [&]() -> Status {
        auto fd = create(temporary, O_WRONLY | O_TRUNC, row);
        if (!fd) return fd.error();
        RETURN_IF_ERROR(write(fd->get(), temporary, 0, bytes, row));
        RETURN_IF_ERROR(sync(fd->get(), temporary, row));
        return rename(temporary, name, row);
    };
    if (const auto done = put(); !done) {
        base::discard(remove(temporary, row), "the first error is the one to tell");
        return done.error().within("replace " + name);
    }
    return sync_names(row);
}

}  // namespace refault::device
