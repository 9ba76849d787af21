// Counts its runs in a file of the pool, with plain loads and stores:  visits [/path]
// The counter survives the program; while it runs, the device under it may be pulled.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <refault/refault.hpp>
#include <string>

namespace {

struct Visits {
    char magic[8];
    std::uint64_t count;
};
constexpr char kMagic[8] = {'v', 'i', 's', 'i', 't', 's', '1', '\0'};
constexpr std::uint64_t kFileBytes = 4096;

int fail(const char* what, const refault::Error& error) {
    std::fprintf(stderr, "visits: %s: %s\n", what, error.message().c_str());
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "/visits";
    auto session = refault::Session::connect();
    if (!session) return fail("connect", session.error());
    auto file = session->create(path, 0600, refault::IfExists::Open);
    if (!file) return fail(path.c_str(), file.error());
    auto stat = file->stat();
    if (!stat) return fail(path.c_str(), stat.error());
    if (stat->size_bytes < kFileBytes)
        if (auto resized = file->resize(kFileBytes); !resized)
            return fail("resize", resized.error());
    auto mapping = file->map(0, kFileBytes, refault::Access::ReadWrite);
    if (!mapping) return fail("map", mapping.error());

    auto* const visits = reinterpret_cast<Visits*>(mapping->bytes().data());
    const Visits empty{};  // as a new file is
    if (std::memcmp(visits, &empty, sizeof empty) != 0 &&
        std::memcmp(visits->magic, kMagic, sizeof kMagic) != 0) {
        std::fprintf(stderr, "visits: %s holds something else; name another file\n", path.c_str());
        return 1;
    }
    std::memcpy(visits->magic, kMagic, sizeof kMagic);
    ++visits->count;
    if (auto persisted = mapping->persist(mapping->bytes().first(sizeof(Visits))); !persisted)
        return fail("persist", persisted.error());
    std::printf("%s in pool %s: visit %" PRIu64 "\n", path.c_str(), session->pool_name().c_str(),
                visits->count);
    return 0;
}
