// Reads an input as requests of a kernel: which operation, how, and its numbers and names,
// plausible and otherwise. Not thread-safe.
#pragma once

#include <algorithm>
#include <iterator>
#include <string>

#include "fuzz/kernel.h"
#include "fuzz/script.h"

namespace refault::fuzz {

// The body of a message.
class Body {
  public:
    template <typename Part>
    Body& put(const Part& part) {
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(&part);
        bytes_.insert(bytes_.end(), bytes, bytes + sizeof part);
        return *this;
    }
    // Ends at the first zero.
    Body& text(const std::string& text) {
        bytes_.insert(bytes_.end(), text.begin(), text.end());
        bytes_.push_back(0);
        return *this;
    }
    Body& raw(Input bytes) {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    Bytes take() { return std::move(bytes_); }

  private:
    Bytes bytes_;
};

class MountScript {
  public:
    static constexpr std::size_t kOperations = 28;

    // The kernel says what there is to ask for.
    MountScript(Input input, const Kernel& kernel) : script_(input), kernel_(kernel) {}

    Script& numbers() { return script_; }
    // The operation of this number.
    KernelRequest request(std::size_t operation) {
        using Make = void (MountScript::*)();
        static constexpr Make kMakers[kOperations] = {
            &MountScript::lookup,         &MountScript::make_node,
            &MountScript::make_directory, &MountScript::make_symlink,
            &MountScript::link,           &MountScript::remove,
            &MountScript::rename,         &MountScript::create,
            &MountScript::open,           &MountScript::read,
            &MountScript::write,          &MountScript::release,
            &MountScript::sync,           &MountScript::open_directory,
            &MountScript::list,           &MountScript::release_directory,
            &MountScript::get_attributes, &MountScript::set_attributes,
            &MountScript::set_extended,   &MountScript::look_extended,
            &MountScript::look,           &MountScript::allocate,
            &MountScript::seek,           &MountScript::copy,
            &MountScript::forget,         &MountScript::forget_many,
            &MountScript::interrupt,      &MountScript::ask_other};
        how_ = script_.u8();
        (this->*kMakers[operation])();
        return std::move(request_);
    }

    // One that the kernel was told of, forgotten or not, or any.
    std::uint64_t node() {
        const auto which = script_.u8();
        if (which == 255) return script_.u64();
        if (which == 254) return 0;
        return kernel_.met()[which % kernel_.met().size()];
    }
    // How a file is open, or a directory that is open, or any.
    std::uint64_t handle() {
        const auto which = script_.u8();
        if (which == 255) return script_.u64();
        if (which < 128 || kernel_.directories().empty()) return which % 4;
        return *std::next(kernel_.directories().begin(),
                          which % static_cast<std::ptrdiff_t>(kernel_.directories().size()));
    }
    std::string name() {
        const auto which = script_.u8();
        if (which < 240) return std::string(1, static_cast<char>('a' + which % 6));
        return which == 240 ? std::string(script_.u16() % 300, 'n') : script_.text();
    }

  private:
    static constexpr std::uint32_t kReadBytesMax = 64 * 1024;

    void ask(std::uint32_t opcode, std::uint64_t node, Body body = {}) {
        request_ = {opcode, node, body.take(), how_ % 4u, how_ >= 248};
        auto& bytes = request_.body;
        if (how_ >= 216 && how_ < 232) bytes.resize(script_.u8() % (bytes.size() + 1));
        if (how_ >= 232 && how_ < 240) bytes.insert(bytes.end(), how_ - 230u, how_);
    }

    // ---- names. Braces evaluate from left to right, arguments do not.
    void lookup() {
        const auto directory = node();
        ask(FUSE_LOOKUP, directory, Body().text(name()));
    }
    void make_node() {
        const auto directory = node();
        const fuse_mknod_in made{script_.u16(), script_.u8(), script_.u8(), 0};
        ask(FUSE_MKNOD, directory, Body().put(made).text(name()));
    }
    void make_directory() {
        const auto directory = node();
        const fuse_mkdir_in made{script_.u16(), script_.u8()};
        ask(FUSE_MKDIR, directory, Body().put(made).text(name()));
    }
    void make_symlink() {
        const auto directory = node();
        const auto called = name();
        ask(FUSE_SYMLINK, directory, Body().text(called).text(script_.text()));
    }
    void link() {
        const fuse_link_in linked{node()};
        const auto directory = node();
        ask(FUSE_LINK, directory, Body().put(linked).text(name()));
    }
    void remove() {
        const auto opcode = script_.flag() ? FUSE_RMDIR : FUSE_UNLINK;
        const auto directory = node();
        ask(opcode, directory, Body().text(name()));
    }
    void rename() {
        const bool has_flags = script_.flag();
        const auto from = node(), to = node();
        const fuse_rename2_in wanted{to, script_.u8(), 0};
        const auto from_name = name(), to_name = name();
        Body body;
        if (has_flags)
            body.put(wanted);
        else
            body.put(fuse_rename_in{to});
        ask(has_flags ? FUSE_RENAME2 : FUSE_RENAME, from, body.text(from_name).text(to_name));
    }
    void create() {
        const auto opcode = script_.flag() ? FUSE_TMPFILE : FUSE_CREATE;
        const auto directory = node();
        const fuse_create_in made{script_.u32(), script_.u16(), script_.u8(), script_.u8()};
        ask(opcode, directory, Body().put(made).text(name()));
    }
    void forget() {
        const auto which = node();
        const fuse_forget_in count{script_.size()};
        ask(FUSE_FORGET, which, Body().put(count));
    }
    void forget_many() {
        const auto count = static_cast<std::uint32_t>(script_.below(8));
        Body body;
        body.put(fuse_batch_forget_in{count, 0});
        for (std::uint32_t i = 0; i < count; ++i) {
            const auto which = node();
            body.put(fuse_forget_one{which, script_.size()});
        }
        ask(FUSE_BATCH_FORGET, 0, std::move(body));
    }

    // ---- files
    void open() {
        const auto file = node();
        const fuse_open_in wanted{script_.u32(), script_.u8()};
        ask(FUSE_OPEN, file, Body().put(wanted));
    }
    void read() {
        const auto file = node();
        fuse_read_in wanted{};
        wanted.fh = handle();
        wanted.offset = script_.size();
        wanted.size = script_.u32() % (kReadBytesMax + 1);
        ask(FUSE_READ, file, Body().put(wanted));
    }
    void write() {
        const auto file = node();
        fuse_write_in wanted{};
        wanted.fh = handle();
        wanted.offset = script_.size();
        wanted.write_flags = script_.u8();
        wanted.flags = script_.u32();
        wanted.size = script_.u16();
        const Bytes bytes(wanted.size, script_.u8());
        ask(FUSE_WRITE, file, Body().put(wanted).raw(bytes));
    }
    void release() {
        const auto file = node();
        fuse_release_in wanted{};
        wanted.fh = handle();
        wanted.release_flags = script_.u8();
        ask(FUSE_RELEASE, file, Body().put(wanted));
    }
    void sync() {
        static constexpr std::uint32_t kOpcodes[] = {FUSE_FSYNC, FUSE_FSYNCDIR, FUSE_FLUSH};
        const auto opcode = kOpcodes[script_.below(std::size(kOpcodes))];
        const auto file = node();
        ask(opcode, file, Body().put(fuse_flush_in{handle(), 0, 0, 0}));
    }
    void allocate() {
        const auto file = node();
        const fuse_fallocate_in wanted{handle(), script_.size(), script_.size(), script_.u8(), 0};
        ask(FUSE_FALLOCATE, file, Body().put(wanted));
    }
    void seek() {
        const auto file = node();
        const fuse_lseek_in wanted{handle(), script_.size(), script_.u8() % 6u, 0};
        ask(FUSE_LSEEK, file, Body().put(wanted));
    }
    void copy() {
        const auto from = node();
        const fuse_copy_file_range_in wanted{handle(),       script_.size(), node(), handle(),
                                             script_.size(), script_.size(), 0};
        ask(FUSE_COPY_FILE_RANGE, from, Body().put(wanted));
    }

    // ---- directories
    void open_directory() {
        const auto directory = node();
        ask(FUSE_OPENDIR, directory, Body().put(fuse_open_in{script_.u32(), 0}));
    }
    void list() {
        const auto opcode = script_.flag() ? FUSE_READDIRPLUS : FUSE_READDIR;
        const auto directory = node();
        fuse_read_in wanted{};
        wanted.fh = handle();
        wanted.offset = script_.flag() ? script_.u8() : script_.size();
        wanted.size = script_.u16();
        ask(opcode, directory, Body().put(wanted));
    }
    void release_directory() {
        const auto directory = node();
        ask(FUSE_RELEASEDIR, directory, Body().put(fuse_release_in{handle(), 0, 0, 0}));
    }

    // ---- attributes
    void get_attributes() {
        const auto file = node();
        const fuse_getattr_in wanted{script_.u8(), 0, handle()};
        ask(FUSE_GETATTR, file, Body().put(wanted));
    }
    void set_attributes() {
        const auto file = node();
        fuse_setattr_in wanted{};
        wanted.valid = script_.u32();
        wanted.fh = handle();
        wanted.size = script_.size();
        wanted.atime = script_.u64();
        wanted.mtime = script_.u64();
        wanted.ctime = script_.u64();
        wanted.atimensec = wanted.mtimensec = wanted.ctimensec = script_.u32();
        wanted.mode = script_.u16();
        wanted.uid = script_.u8();
        wanted.gid = script_.u8();
        ask(FUSE_SETATTR, file, Body().put(wanted));
    }
    void set_extended() {
        const auto file = node();
        const auto called = name();
        const auto flags = script_.u8();
        const auto value = script_.bytes();
        const std::uint32_t head[] = {static_cast<std::uint32_t>(value.size()), flags};
        ask(FUSE_SETXATTR, file, Body().put(head).text(called).raw(value));
    }
    void look_extended() {
        static constexpr std::uint32_t kOpcodes[] = {FUSE_GETXATTR, FUSE_LISTXATTR,
                                                     FUSE_REMOVEXATTR};
        const auto opcode = kOpcodes[script_.below(std::size(kOpcodes))];
        const auto file = node();
        const auto called = name();
        if (opcode == FUSE_REMOVEXATTR) return ask(opcode, file, Body().text(called));
        ask(opcode, file, Body().put(fuse_getxattr_in{script_.u16(), 0}).text(called));
    }
    void look() {
        const auto opcode = script_.flag() ? FUSE_READLINK : FUSE_STATFS;
        ask(opcode, node());
    }

    // ---- what is not about files
    void interrupt() {
        // The request before, the one after, or any.
        const auto which = script_.u8();
        const auto unique = which == 255 ? script_.u64() : kernel_.last_request() + which % 4u;
        ask(FUSE_INTERRUPT, 0, Body().put(fuse_interrupt_in{unique}));
    }
    // Those that the mount does not have, FUSE_DESTROY, and what is no operation.
    void ask_other() {
        static constexpr std::uint32_t kOpcodes[] = {0,
                                                     7,
                                                     19,
                                                     FUSE_INIT,
                                                     FUSE_GETLK,
                                                     FUSE_SETLK,
                                                     FUSE_SETLKW,
                                                     FUSE_ACCESS,
                                                     FUSE_BMAP,
                                                     FUSE_DESTROY,
                                                     FUSE_IOCTL,
                                                     FUSE_POLL,
                                                     FUSE_SETUPMAPPING,
                                                     FUSE_REMOVEMAPPING,
                                                     FUSE_SYNCFS,
                                                     FUSE_TMPFILE,
                                                     CUSE_INIT};
        const auto which = script_.u8();
        const auto opcode = which < 240 ? kOpcodes[which % std::size(kOpcodes)]
                                        : FUSE_TMPFILE + script_.u32() % (UINT32_MAX - 64);
        const auto file = node();
        Body body;
        body.raw(script_.bytes());
        ask(opcode, file, std::move(body));
    }

    Script script_;
    const Kernel& kernel_;
    KernelRequest request_;
    std::uint8_t how_ = 0;
};

}  // namespace refault::fuzz
