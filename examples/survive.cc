// Keeps checksummed blocks in a file of the pool, and goes on when memory under them is lost:
//   survive [/path]          checks every block; mends what is lost or older; writes a new round
// What other programs would keep of it: touch memory inside try_access, tell a loss by its kind,
// mend that block alone.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <refault/refault.hpp>
#include <string>

namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::uint64_t kBlocks = 256;

struct Block {
    std::uint64_t round;
    std::uint64_t number;
    std::uint64_t check;
};

std::uint64_t check_of(const Block& block) {
    return (block.round * 0x9E3779B97F4A7C15u) ^ (block.number + 1);
}

int fail(const char* what, const refault::Error& error) {
    std::fprintf(stderr, "survive: %s: %s\n", what, error.message().c_str());
    return 1;
}

struct Found {
    std::uint64_t whole = 0, fresh = 0, older = 0, lost = 0, broken = 0;
};

// The block, or why it cannot be had.
std::optional<refault::Loss> read_block(const std::byte* at, Block& into) {
    return refault::try_access([&] { std::memcpy(&into, at, sizeof into); });
}

// After this the block can be read and written again.
refault::Expected<void> mend(refault::File& file, refault::Mapping& mapping, std::uint64_t number,
                             const refault::Loss& loss, Found& found) {
    if (loss.what == RF_STALE) {
        // The copy that is left may lack our last stores: good enough here, every block has its
        // check.
        ++found.older;
        return mapping.accept(mapping.bytes().subspan(number * kBlockBytes, kBlockBytes));
    }
    ++found.lost;
    return file.punch(number * kBlockBytes, kBlockBytes);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "/survive";
    auto session = refault::Session::connect();
    if (!session) return fail("connect", session.error());
    auto file = session->create(path, 0600, refault::IfExists::Open);
    if (!file) return fail(path.c_str(), file.error());
    if (auto sized = file->resize(kBlocks * kBlockBytes); !sized)
        return fail("resize", sized.error());
    auto mapping = file->map(refault::Access::ReadWrite);
    if (!mapping) return fail("map", mapping.error());

    Found found;
    std::uint64_t newest = 0;
    for (std::uint64_t i = 0; i < kBlocks; ++i) {
        std::byte* const at = mapping->bytes().data() + i * kBlockBytes;
        Block block{};
        if (const auto loss = read_block(at, block)) {
            if (auto mended = mend(*file, *mapping, i, *loss, found); !mended)
                return fail("mend", mended.error());
            if (read_block(at, block)) return 1;
        }
        const bool is_fresh = block.round == 0 && block.check == 0;
        const bool is_whole = !is_fresh && block.number == i && block.check == check_of(block);
        found.fresh += is_fresh ? 1 : 0;
        found.whole += is_whole ? 1 : 0;
        found.broken += !is_fresh && !is_whole ? 1 : 0;
        if (is_whole && block.round > newest) newest = block.round;
    }
    for (std::uint64_t i = 0; i < kBlocks; ++i) {
        Block block{newest + 1, i, 0};
        block.check = check_of(block);
        std::memcpy(mapping->bytes().data() + i * kBlockBytes, &block, sizeof block);
    }
    if (auto persisted = mapping->persist(); !persisted) return fail("persist", persisted.error());
    std::printf("round %" PRIu64 ": %" PRIu64 " whole, %" PRIu64 " fresh, %" PRIu64
                " were lost, %" PRIu64 " older, %" PRIu64 " broken\n",
                newest + 1, found.whole, found.fresh, found.lost, found.older, found.broken);
    return found.broken == 0 ? 0 : 1;
}
