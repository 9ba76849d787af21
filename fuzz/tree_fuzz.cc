// The layer under the mount: a script of operations on the namespace by inode numbers, with names,
// numbers and flags as the bytes have them, on a pool in shared memory. After each script the
// checker finds nothing, and when everything is taken away again nothing is left.
#include <map>
#include <optional>

#include "fuzz/devices.h"
#include "fuzz/script.h"
#include "store/store.h"
#include "store/tree.h"

namespace refault::fuzz {
namespace {

using namespace store;
using base::kRootInode;

constexpr std::size_t kStepsMax = 64;

class Player {
  public:
    Player(Store& store, Input input) : store_(store), tree_(store), script_(input) {}

    void play() {
        for (std::size_t i = 0; i < kStepsMax && !script_.is_over(); ++i) step();
        CHECK(store_.check().empty());
    }
    void tidy() {
        for (const auto inode : open_) tree_.close(inode);
        empty(kRootInode);
        for (const auto& [inode, count] : remembered_) tree_.forget(inode, count);
        CHECK(store_.check().empty());
        CHECK(tree_.usage().inodes == 1);
        for (const auto& usage : store_.usage()) CHECK(usage.data_bytes == 0);
    }

  private:
    // One that was met, or any number.
    InodeNo inode() {
        const auto which = script_.u8();
        if (which == 255) return InodeNo(script_.u64());
        return met_[which % met_.size()];
    }
    // Few short names, so that they meet; now and then whatever the bytes are.
    std::string name() {
        const auto which = script_.u8();
        if (which < 240) return std::string(1, char('a' + which % 6));
        return which == 240 ? std::string(script_.u16() % 300, 'n') : script_.text();
    }
    void keep(const Result<Attributes>& made) {
        if (!made) return;
        ++remembered_[made->inode];
        met_.push_back(made->inode);
    }
    FileRange range() {
        const auto begin = script_.size();
        const auto length = script_.size();
        return FileRange::of_length(begin, std::min(length, UINT64_MAX - begin));
    }
    NewNode node() {
        NewNode made;
        made.type = static_cast<FileType>(1 + script_.below(7));
        made.mode = script_.u16() & kModeBits;
        made.uid = script_.u8();
        made.gid = script_.u8();
        const bool is_device =
            made.type == FileType::CharDevice || made.type == FileType::BlockDevice;
        if (is_device) made.device = script_.u64();
        if (made.type == FileType::Symlink) made.target = script_.text();
        return made;
    }
    std::optional<std::uint64_t> maybe() {
        return script_.flag() ? std::optional(script_.u64()) : std::nullopt;
    }

    void step() {
        using Step = void (Player::*)();
        static constexpr Step kSteps[] = {
            &Player::make,       &Player::make_unnamed,  &Player::link,
            &Player::unlink,     &Player::remove,        &Player::rename,
            &Player::remember,   &Player::forget,        &Player::look,
            &Player::change,     &Player::set_attribute, &Player::remove_attribute,
            &Player::open,       &Player::close,         &Player::set_size,
            &Player::write,      &Player::read,          &Player::allocate,
            &Player::deallocate, &Player::seek};
        (this->*kSteps[script_.below(std::size(kSteps))])();
    }

    // Braces evaluate from left to right, arguments do not.
    void make() {
        const auto directory = inode();
        const auto called = name();
        keep(tree_.make(directory, called, node()));
    }
    void make_unnamed() {
        const auto directory = inode();
        auto wanted = node();
        wanted.type = FileType::Regular;
        wanted.device = 0;
        wanted.target.clear();
        keep(tree_.make_unnamed(directory, wanted));
    }
    void link() {
        const auto what = inode(), directory = inode();
        keep(tree_.link(what, directory, name()));
    }
    void unlink() {
        const auto directory = inode();
        done(tree_.unlink(directory, name()));
    }
    void remove() {
        const auto directory = inode();
        done(tree_.remove_directory(directory, name()));
    }
    void rename() {
        const auto from = inode(), to = inode();
        const auto from_name = name(), to_name = name();
        done(tree_.rename(from, from_name, to, to_name,
                          static_cast<Tree::RenameMode>(script_.below(3))));
    }
    void remember() {
        const auto directory = inode();
        keep(tree_.remember(directory, name()));
    }
    void forget() {
        const auto which = inode();
        const auto known = remembered_.find(which);
        if (known == remembered_.end()) return;
        const auto count = 1 + script_.below(known->second);
        tree_.forget(which, count);
        if ((known->second -= count) == 0) remembered_.erase(known);
    }
    void look() {
        const auto which = inode();
        const auto called = name();
        done(tree_.lookup(which, called));
        done(tree_.target(which));
        done(tree_.names(which, called, script_.u8()));
        done(tree_.attribute_names(which));
        done(tree_.attribute(which, called));
        tree_.note_accessed(which);
        done(tree_.kill_privileges(which));
    }
    void change() {
        const auto which = inode();
        Tree::AttributeChange wanted;
        if (script_.flag()) wanted.mode = script_.u16() & kModeBits;
        if (script_.flag()) wanted.uid = script_.u32();
        if (script_.flag()) wanted.gid = script_.u32();
        wanted.accessed_ns = maybe();
        wanted.modified_ns = maybe();
        wanted.changed_ns = maybe();
        done(tree_.change(which, wanted));
    }
    void set_attribute() {
        const auto which = inode();
        const auto called = name();
        const auto value = script_.bytes();
        done(tree_.set_attribute(which, called, value,
                                 static_cast<Tree::SetMode>(script_.below(3))));
    }
    void remove_attribute() {
        const auto which = inode();
        done(tree_.remove_attribute(which, name()));
    }
    void open() {
        const auto which = inode();
        if (tree_.open(which)) open_.push_back(which);
    }
    void close() {
        if (open_.empty()) return;
        tree_.close(open_.back());
        open_.pop_back();
    }
    void set_size() {
        const auto which = inode();
        const auto layout = store_.lock_layout(which);
        done(store_.set_size(which, script_.size()));
    }
    void write() {
        const auto which = inode();
        const Bytes bytes(script_.u16(), script_.u8());
        const auto layout = store_.lock_layout(which);
        done(store_.write_growing(which, script_.size(), bytes));
    }
    void read() {
        const auto which = inode();
        Bytes bytes(script_.u16());
        const auto layout = store_.lock_layout(which);
        done(store_.read(which, script_.size(), bytes));
    }
    void allocate() {
        const auto which = inode();
        const auto growth = script_.flag() ? Store::Growth::GrowSize : Store::Growth::KeepSize;
        const auto layout = store_.lock_layout(which);
        done(store_.allocate(which, range(), growth));
    }
    void deallocate() {
        const auto which = inode();
        const auto layout = store_.lock_layout(which);
        done(store_.deallocate(which, range()));
    }
    void seek() {
        const auto which = inode();
        const auto offset = script_.size();
        done(store_.next_data(which, offset));
        done(store_.next_hole(which, offset));
    }

    template <typename T>
    static void done(const T& result) {
        base::discard(result, "errors are as good as success");
    }
    void empty(InodeNo directory) {
        const auto names = tree_.names(directory);
        CHECK(names.ok());
        for (const auto& entry : *names) {
            if (entry.type == FileType::Directory) empty(entry.inode);
            const auto gone = entry.type == FileType::Directory
                                  ? tree_.remove_directory(directory, entry.name)
                                  : tree_.unlink(directory, entry.name);
            CHECK(gone.ok());
        }
    }

    Store& store_;
    Tree tree_;
    Script script_;
    std::vector<InodeNo> met_{kRootInode};
    std::map<InodeNo, std::uint64_t> remembered_;
    std::vector<InodeNo> open_;
};

// A pool lives for many scripts: each leaves it as it was found.
class World {
  public:
    World() {
        base::Uuid pool;
        pool.bytes.fill(7);
        std::vector<DevicePtr> made;
        for (const char* name : {"a", "b"}) made.push_back(devices_.make(name, 65536, 32, pool));
        auto created = Store::create("pool", made, {});
        CHECK(created.ok());
        store_ = std::move(*created);
    }
    Store& store() { return *store_; }

  private:
    Devices devices_;
    std::unique_ptr<Store> store_;
};

std::vector<Bytes> seeds() {
    // A directory a with a file b in it, which is written, linked, renamed and cut.
    const Bytes life{0,  0, 0, 1,  0xff, 1, 0,  0,               // make / a, a directory
                     0,  1, 1, 0,  0xff, 1, 0,  0,               // make a/b, a file
                     15, 2, 0, 64, 7,    2,                      // write 16384 bytes at 2048
                     2,  2, 0, 2,                                // link it to /c
                     12, 2, 5, 1,  0,    1, 3,  0,               // open it; rename a/b to /d
                     18, 2, 1, 4,  19,   2, 0,  16, 2, 0, 9, 3,  // a hole; where is it; read
                     3,  0, 2, 3,  0,    3, 13, 7,  2, 1};       // unlink both, close, forget
    const Bytes attributes{0, 0,  0, 0,   0xff, 1,    0,    0,    10,   1,    1,    3,
                           1, 2,  3, 0,   10,   1,    1,    0,    2,    8,    1,    1,
                           9, 11, 1, 1,   9,    1,    1,    0xff, 15,   0,    0,    0,
                           0, 14, 1, 200, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
    const Bytes nodes{0, 0, 0, 2, 0xff, 1, 0, 0, 3, 'x', '/', 'y', 0, 0, 1, 5,    0xff, 1, 0, 0,
                      3, 1, 0, 0, 0,    0, 0, 0, 8, 1,   0,   9,   1, 0, 1, 0xff, 1,    0, 0};
    return {life, attributes, nodes};
}

void run(Input input) {
    static World world;
    Player player(world.store(), input);
    player.play();
    player.tidy();
}

const Registration registered({"tree", seeds, run, 700});

}  // namespace
}  // namespace refault::fuzz
