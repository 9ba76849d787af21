// The operations of the mount as the kernel asks for them: a script of raw FUSE messages to a real
// libfuse session, on a pool in shared memory, through a socket in the place of /dev/fuse. Each
// gets the replies that it must, in the form that linux/fuse.h has for them; what the kernel was
// given is exactly what the mount keeps for it; and when it is given back, nothing is left.
//
// What a kernel may say is in bounds, and much that it never would: any number for an inode or a
// file handle (none of ours is a pointer: file_handle.h, listings.h), released or never given,
// other counts to forget, flags, offsets and lengths, replies that it does not take, messages that
// end early or go on, operations that there are not, a mount that is handed over between any two
// requests. Out of bounds is what libfuse itself takes on trust: a name without its end, a length
// in FUSE_WRITE, FUSE_SETXATTR or FUSE_BATCH_FORGET beyond the message, FUSE_NOTIFY_REPLY to what
// was never asked, a buffer larger than was agreed on.
//
//   input   [FUSE_INIT: 0, or major, minor, flags][how it ends][step, how, numbers ...]...
#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "fuzz/kernel.h"
#include "fuzz/mount_script.h"
#include "fuzz/served.h"

namespace refault::fuzz {
namespace {

constexpr std::size_t kStepsMax = 64;

ServedPool& pool() {
    static ServedPool the_pool;
    return the_pool;
}

class Player {
  public:
    explicit Player(Input input)
        : script_(input, kernel_),
          served_(std::make_unique<Served>(pool(), kernel_.connection())) {}

    void play() {
        init();
        const bool is_cut_off = numbers().flag();
        for (std::size_t i = 0; i < kStepsMax && !numbers().is_over() && can_go_on(); ++i) step();
        for (const auto node : claims_) served_->opens().unclaim(base::InodeNo(node));
        if (can_go_on()) end(is_cut_off);
        served_.reset();
        pool().empty();
    }

  private:
    Script& numbers() { return script_.numbers(); }
    bool can_go_on() const { return kernel_.is_ready() && !served_->has_failed(); }

    void exchange(const KernelRequest& request) {
        kernel_.send(request);
        served_->serve(request.is_given_up);
        kernel_.take_replies();
    }

    void init() {
        fuse_init_in init{};
        init.major = FUSE_KERNEL_VERSION;
        init.minor = FUSE_KERNEL_MINOR_VERSION;
        init.max_readahead = 128 * 1024;
        init.flags = UINT32_MAX;
        if (numbers().u8() != 0) {
            init.major = 6 + static_cast<std::uint32_t>(numbers().below(3));
            init.minor = numbers().u8();
            init.flags = numbers().u32();
            init.flags2 = numbers().u32();
            init.max_readahead = numbers().u32();
        }
        exchange({FUSE_INIT, 0, Body().put(init).take()});
        if (init.major <= FUSE_KERNEL_VERSION) return;
        init.major = FUSE_KERNEL_VERSION;
        exchange({FUSE_INIT, 0, Body().put(init).take()});
    }

    void step() {
        const auto what = numbers().below(MountScript::kOperations + 3);
        if (what < MountScript::kOperations) return exchange(script_.request(what));
        if (what == MountScript::kOperations) return claim();
        if (what == MountScript::kOperations + 1) return unclaim();
        hand_over();
    }

    // A client is to map the file: who opens it meanwhile goes past the kernel's cache.
    void claim() {
        const auto file = script_.node();
        if (served_->opens().claim(base::InodeNo(file))) claims_.push_back(file);
    }
    void unclaim() {
        if (claims_.empty()) return;
        served_->opens().unclaim(base::InodeNo(claims_.back()));
        claims_.pop_back();
    }
    void hand_over() {
        settle_interrupts();
        served_ = std::make_unique<Served>(pool(), *served_);
        // Once each: a client comes back, and claims the file again.
        std::sort(claims_.begin(), claims_.end());
        claims_.erase(std::unique(claims_.begin(), claims_.end()), claims_.end());
    }

    // What has met no request is kept by libfuse, and each request takes one of them.
    void settle_interrupts() {
        for (auto left = kernel_.interrupts(); left > 0; --left) exchange({FUSE_STATFS, 1, {}});
    }
    void end(bool is_cut_off) {
        settle_interrupts();
        check_books();
        if (is_cut_off) return;
        for (const auto& [node, opens] : std::map(kernel_.opens())) {
            for (auto left = opens.cached; left > 0; --left) close(node, mount::OpenMode::Cached);
            for (auto left = opens.direct; left > 0; --left) close(node, mount::OpenMode::Direct);
        }
        for (const auto directory : std::set(kernel_.directories()))
            exchange({FUSE_RELEASEDIR, 1, Body().put(fuse_release_in{directory, 0, 0, 0}).take()});
        for (const auto& [node, count] : std::map(kernel_.lookups()))
            exchange({FUSE_FORGET, node, Body().put(fuse_forget_in{count}).take()});
        check_books();
        CHECK(served_->opens().count() == 0 && served_->remembered().hand_over().empty());
    }
    void close(std::uint64_t node, mount::OpenMode mode) {
        const auto handle = static_cast<std::uint64_t>(mode);
        exchange({FUSE_RELEASE, node, Body().put(fuse_release_in{handle, 0, 0, 0}).take()});
    }
    // What the mount keeps for the kernel is what the kernel has.
    void check_books() {
        std::map<std::uint64_t, std::uint64_t> remembered;
        for (const auto& [inode, count] : served_->remembered().hand_over())
            remembered[inode.raw()] = count;
        CHECK(remembered == kernel_.lookups());
        std::map<std::uint64_t, Kernel::Opens> opens;
        for (const auto& one : served_->opens().hand_over())
            if (one.cached + one.direct > 0) opens[one.inode.raw()] = {one.cached, one.direct};
        CHECK(opens == kernel_.opens());
        std::set<std::uint64_t> directories;
        for (const auto& one : served_->listings().hand_over()) directories.insert(one.number);
        CHECK(directories == kernel_.directories());
        CHECK(pool().store().check().empty());
    }

    Kernel kernel_;
    MountScript script_;
    std::unique_ptr<Served> served_;
    std::vector<std::uint64_t> claims_;
};

Bytes join(std::initializer_list<Bytes> parts) {
    Bytes all{0, 0};  // the usual FUSE_INIT; everything is given back in the end
    for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

const Bytes kMakeDirectory{2, 0, 0, 0xff, 1, 0, 0};               // /a
const Bytes kMakeFile{7, 0, 0, 0, 2, 0, 0, 0, 0xa4, 1, 0, 0, 1};  // /b, open
const Bytes kWrite{10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 64, 7};      // 16384 bytes
const Bytes kOpenRoot{13, 0, 0, 0, 0, 0, 0};
const Bytes kListRoot{14, 0, 1, 0, 128, 1, 0, 0xff, 0x0f};
const Bytes kHandOver{30};

// How to give up, to be cut short, to go on.
Bytes in_the_manner(std::uint8_t how, Bytes step) {
    step[1] = how;
    if (how >= 216 && how < 232) step.push_back(3);
    return step;
}

std::vector<Bytes> seeds() {
    const Bytes user_x{241, 6, 'u', 's', 'e', 'r', '.', 'x'};
    const auto extended = [&](Bytes before, const Bytes& after) {
        before.insert(before.end(), user_x.begin(), user_x.end());
        before.insert(before.end(), after.begin(), after.end());
        return before;
    };
    // Offsets and lengths that are none: 2^64 - 1, as all eight bytes of it.
    const auto at_the_end = [](Bytes before, const Bytes& after) {
        before.insert(before.end(), 9, 0xff);
        before.insert(before.end(), after.begin(), after.end());
        return before;
    };
    // A time that nanoseconds do not reach, and a size.
    Bytes set{17, 0, 1, 40, 0, 0, 0, 0, 4};
    set.insert(set.end(), 8, 0);
    set.insert(set.end(), {0, 0, 0, 0, 0, 0, 1, 0});
    set.insert(set.end(), 16, 0);
    return {
        join({kMakeFile,
              kWrite,
              {9, 0, 1, 0, 0, 0, 0, 1, 0},
              {22, 0, 1, 0, 0, 3},
              {21, 0, 1, 0, 4, 8, 3},
              {21, 0, 1, 0, 64, 8, 0},
              {23, 0, 1, 0, 0, 1, 0, 64, 8},
              kHandOver,
              {12, 0, 0, 1, 0},
              {11, 0, 1, 0, 0}}),
        join({kMakeFile,
              kMakeDirectory,
              {4, 0, 1, 2, 2},
              {6, 0, 1, 0, 0, 2, 0, 1},
              kOpenRoot,
              kListRoot,
              {14, 0, 0, 0, 128, 1, 0, 0xff, 0x0f},
              kHandOver,
              kListRoot,
              {0, 0, 0, 1},
              {5, 0, 0, 0, 1},
              {24, 0, 1, 1},
              {25, 0, 2, 2, 0, 3, 9},
              {15, 0, 0, 128}}),
        join({kMakeFile,
              set,
              extended({18, 0, 1}, {0, 3, 'a', 'b', 'c'}),
              extended({19, 0, 0, 1}, {0, 0}),
              extended({19, 0, 0, 1}, {9, 0}),
              extended({19, 0, 1, 1}, {99, 0}),
              extended({19, 0, 2, 1}, {}),
              {3, 0, 0, 3, 4, 'd', '/', 'e', '!'},
              {20, 0, 1, 2},
              {20, 0, 0, 0},
              {16, 0, 1, 1, 0},
              {1, 0, 0, 0xff, 0x11, 0, 0, 4}}),
        join({kMakeFile, kWrite, at_the_end({9, 0, 1, 0}, {0, 1, 0, 0}),
              at_the_end({10, 0, 1, 0}, {0, 0, 0, 0, 0, 0, 64, 7}),
              at_the_end({21, 0, 1, 0}, {8, 0}), at_the_end({21, 0, 1, 0, 8}, {0}),
              at_the_end({22, 0, 1, 0}, {3}), at_the_end({23, 0, 1, 0, 0, 1, 0}, {9}),
              // Into itself, a little further on.
              at_the_end({23, 0, 1, 0, 0, 1, 0, 1}, {}),
              at_the_end({17, 0, 1, 8, 0, 0, 0, 0}, {})}),
        // Nobody takes the replies.
        join({kOpenRoot,
              kMakeDirectory,
              in_the_manner(248, kMakeFile),
              {0, 0, 0, 1},
              in_the_manner(248, {0, 0, 0, 1}),
              in_the_manner(248, {8, 0, 1, 0, 2, 0, 0, 0}),
              in_the_manner(248, kOpenRoot),
              in_the_manner(248, kListRoot),
              {5, 0, 0, 0, 1}}),
        join({kMakeFile,
              {11, 0, 1, 0, 0},
              {28, 1},
              {8, 0, 1, 0, 0, 0, 0, 0},
              kHandOver,
              {10, 0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 64, 7},
              {21, 0, 1, 2, 4, 8, 3},
              {29},
              {8, 0, 1, 2, 2, 0, 0, 0},
              {11, 0, 1, 2, 0}}),
        join({{26, 0, 1},
              {26, 0, 2},
              {26, 0, 0},
              in_the_manner(220, kMakeFile),
              in_the_manner(236, kMakeFile),
              in_the_manner(220, kWrite),
              {27, 0, 9, 0, 2, 1, 2},
              {27, 0, 250, 9, 9, 9, 9, 1, 2, 3, 4},
              {25, 220, 3, 1, 1, 1, 1, 1, 1, 9}}),
        // An older kernel, then one that ends without a word.
        {1, 1, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0, 0, 0xff, 1, 0, 0},
        {0, 1, 7, 0, 0, 0, 2, 0, 0, 0, 0xa4, 1, 0, 0, 1, 13, 0, 0, 0, 0, 0, 0},
    };
}

void run(Input input) {
    Player(input).play();
}

const Registration registered({"mount", seeds, run, 700});

}  // namespace
}  // namespace refault::fuzz
