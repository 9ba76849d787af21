// What a disk may show after the power went, kept from the calls that were made on it
// (device/medium.h).
//
//   names    durable with the sync of their directory; until then each change of a name may have
//            reached the medium or not, but of one name none without those before it
//   bytes    durable with the sync of their file; until then each sector of 512 bytes of each
//   write,
//            each cut and each punch may have reached the medium or not
//
// That is weaker than what ext4 and XFS promise, which keep names in order. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/medium.h"

namespace refault::power_cut {

inline constexpr std::uint64_t kSectorBytes = 512;

using Sector = std::array<std::uint8_t, kSectorBytes>;

// The bytes of a file: sectors that are not there are zeros.
struct Content {
    std::uint64_t size_bytes = 0;
    std::map<std::uint64_t, std::shared_ptr<const Sector>> sectors;
    bool operator==(const Content&) const = default;
};

// Directories of devices, by name, and the files in them.
using Image = std::map<std::string, std::map<std::string, Content>>;

// Which of the changes that are not durable yet have reached the medium, in the order of
// Disk::pending_count().
using Reached = std::vector<bool>;

class Disk {
  public:
    Disk() = default;
    // All of the image is durable.
    explicit Disk(const Image& image);

    void apply(const std::string& directory, const device::MediumCall& call);

    // Changes that may have reached the medium or not, the oldest first.
    std::size_t pending_count() const;
    Image image(const Reached& reached) const;

  private:
    using FileNo = std::uint64_t;
    struct FileChange {
        enum class Kind : std::uint8_t { Bytes, SetSize, Punch } kind;
        std::uint64_t age = 0;
        std::uint64_t begin = 0;  // SetSize: the size
        std::uint64_t end = 0;
        std::vector<std::uint8_t> bytes;  // within one sector
    };
    struct File {
        Content durable;
        std::vector<FileChange> pending;
    };
    // Names that change together.
    struct NameChange {
        std::uint64_t age = 0;
        std::map<std::string, FileNo> names;  // 0: no such name any more
    };
    struct Directory {
        std::map<std::string, FileNo> durable;
        std::map<std::string, FileNo> now;
        std::vector<NameChange> pending;
    };
    // Where a pending change lies.
    struct Pending {
        std::uint64_t age;
        const NameChange* names = nullptr;
        const FileChange* bytes = nullptr;
    };

    void change_names(Directory& directory, std::map<std::string, FileNo> names);
    void change_file(File& file, const device::MediumCall& call);
    std::vector<Pending> pending() const;
    static void apply_change(Content& content, const FileChange& change);

    std::map<std::string, Directory> directories_;
    std::map<FileNo, File> files_;
    FileNo next_file_ = 1;
    std::uint64_t next_age_ = 1;
};

// The image as directories below `base`, for a pool to be opened.
void write_image(const Image& image, const std::string& base);
std::uint64_t hash_of(const Image& image);

}  // namespace refault::power_cut
