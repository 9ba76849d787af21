// Opening what a cut has left, and comparing it with what was promised.
#include "tests/power_cut/model.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "store/tree.h"

namespace refault::power_cut {

using base::kPageBytes;
using device::Device;
using store::DevicePtr;
using store::FileType;

namespace {

std::string text_of(const View& view) {
    std::string text;
    for (const auto& [path, line] : view) text += path + "=(" + line + ") ";
    return text;
}

void collect(Store& store, const std::string& directory, View& view) {
    const auto entries = store.list(directory, {});
    if (!entries) {
        view[directory] = entries.error().message();
        return;
    }
    store::Tree tree(store);
    for (const auto& entry : *entries) {
        const auto& a = entry.attributes;
        const auto path = directory + entry.name;
        auto& line = view[path];
        line = std::to_string(a.inode.raw()) + " size " + std::to_string(a.size_bytes) + " mode " +
               std::to_string(a.mode) + " links " + std::to_string(a.links) + " copies " +
               std::to_string(a.replicas);
        if (const auto names = tree.attribute_names(a.inode))
            for (const auto& name : *names)
                line += " " + name + "=" + std::to_string(tree.attribute(a.inode, name)->size());
        base::RangeSet lost;
        for (const auto& part : store.lost(a.inode, FileRange(0, UINT64_MAX))) lost.add(part.range);
        for (const auto& part : lost.parts())
            line += " lost " + std::to_string(part.begin()) + "+" + std::to_string(part.length());
        if (a.type == FileType::Directory) collect(store, path + "/", view);
    }
}

// Whose sector it is; nothing when it is none that the workload wrote for this place.
std::optional<Version> version_of(std::span<const std::uint8_t> sector, InodeNo inode,
                                  std::uint64_t number) {
    std::uint64_t word = 0;
    std::memcpy(&word, sector.data(), sizeof word);
    const auto version = static_cast<Version>(word >> 24 & 0xffff);
    const auto wanted = sector_of(inode, version, number);
    if (!std::equal(sector.begin(), sector.end(), wanted.begin())) return std::nullopt;
    return version;
}

class ImageCheck {
  public:
    ImageCheck(const std::string& base, const Expectation& expected, const TraceOf& trace)
        : base_(base), expected_(expected), trace_(trace) {}

    Problems run() {
        auto given = directories();
        auto opened = open(given, /*allow_missing=*/false);
        if (!opened && opened.error().code() == base::Code::NotFound) {
            if (!expected_.coming_back.empty()) {
                given.insert(expected_.coming_back);
                opened = open(given, false);
                is_back_ = true;
            } else if (expected_.is_being_lost) {
                opened = open(given, true);
            }
        }
        // Once this pool has forgotten devices that are another's, they are not to be given any
        // more.
        if (!opened && opened.error().code() == base::Code::Invalid && !expected_.leaving.empty()) {
            for (const auto& name : expected_.leaving) given.erase(name);
            opened = open(given, false);
        }
        if (!opened) {
            if (!expected_.is_being_made) problems_.add("open: " + opened.error().message());
            return std::move(problems_);
        }
        pool_ = (*opened)->pool_uuid().to_string();
        look_at(**opened);
        if (!expected_.coming_back.empty() && !is_back_) rejoin(**opened);
        opened->reset();
        check_labels();
        check_leaving();
        return std::move(problems_);
    }

  private:
    device::DeviceSpec spec(const std::string& directory) const {
        device::DeviceSpec spec;
        spec.name = directory;
        spec.kind = device::DeviceKind::Dir;
        spec.path = base_ + "/" + directory;
        return spec;
    }
    std::set<std::string> directories() const {
        std::set<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(base_)) {
            const auto name = entry.path().filename().string();
            const bool has_left = expected_.has_left && expected_.leaving.contains(name);
            if (!expected_.gone.contains(name) && name != expected_.coming_back && !has_left)
                names.insert(name);
        }
        return names;
    }

    base::Result<std::unique_ptr<Store>> open(const std::set<std::string>& names,
                                              bool allow_missing) {
        std::vector<DevicePtr> devices;
        for (const auto& name : names) {
            auto device = Device::open(spec(name), trace_ ? trace_(name) : device::MediumTrace());
            if (!device && device.error().code() == base::Code::NotFound) continue;
            if (!device) return device.error();
            devices.push_back(std::move(*device));
        }
        return Store::open(std::move(devices), allow_missing);
    }

    void look_at(Store& store) {
        for (const auto& line : store.check()) problems_.add("check: " + line);
        const auto view = view_of(store);
        if (std::find(expected_.views.begin(), expected_.views.end(), view) ==
            expected_.views.end()) {
            problems_.add("neither before nor after: " + text_of(view));
            for (const auto& allowed : expected_.views)
                problems_.add("   one that is right: " + text_of(allowed));
            return;
        }
        for (const auto& [inode, size] : store.files()) check_file(store, inode, size);
    }

    void check_file(Store& store, InodeNo inode, std::uint64_t size_bytes) {
        const auto allowed = expected_.bytes.find(inode);
        for (std::uint64_t at = 0; at < size_bytes; at += kPageBytes) {
            const auto page = FileRange(at, std::min(at + kPageBytes, size_bytes));
            if (!store.lost(inode, page).empty()) continue;
            std::vector<std::uint8_t> bytes(page.length());
            const auto read = store.read(inode, at, bytes);
            if (!read || *read != bytes.size()) {
                problems_.add(store.path_of(inode) + " cannot be read at " + std::to_string(at) +
                              (read ? "" : ": " + read.error().message()));
                continue;
            }
            check_sectors(store, inode, at, bytes,
                          allowed == expected_.bytes.end() ? nullptr : &allowed->second);
            check_copies(store, inode, page, bytes);
        }
    }

    void check_sectors(Store& store, InodeNo inode, std::uint64_t at,
                       std::span<const std::uint8_t> bytes, const AllowedBytes* allowed) {
        for (std::uint64_t done = 0; done + kSectorBytes <= bytes.size(); done += kSectorBytes) {
            const auto number = (at + done) / kSectorBytes;
            const auto version = version_of(bytes.subspan(done, kSectorBytes), inode, number);
            const auto where = store.path_of(inode) + " sector " + std::to_string(number);
            if (!version) {
                std::uint64_t word = 0;
                std::memcpy(&word, bytes.data() + done, sizeof word);
                problems_.add(where + " has bytes of inode " + std::to_string(word >> 40) +
                              " sector " + std::to_string(word & 0xffffff));
                continue;
            }
            const bool is_known = allowed != nullptr && number < allowed->size();
            if (is_known ? !(*allowed)[number].contains(*version) : *version != 0) {
                std::string list;
                if (is_known)
                    for (const auto one : (*allowed)[number]) list += " " + std::to_string(one);
                problems_.add(where + " has version " + std::to_string(*version) + ", not" + list);
            }
        }
    }

    // Copies say the same, or the journal says that they may not.
    void check_copies(Store& store, InodeNo inode, FileRange page,
                      std::span<const std::uint8_t> primary) {
        if (store.is_unsynced(inode)) return;
        for (const auto& extent : store.extents(inode, page)) {
            if (extent.replica == 0) continue;
            std::vector<std::uint8_t> copy(extent.length);
            const auto device = store.device(extent.device);
            if (!device || !(*device)->read(extent.device_offset, copy)) {
                problems_.add(store.path_of(inode) + ": a copy cannot be read");
                continue;
            }
            const auto skip = extent.file_offset - page.begin();
            const auto length = std::min<std::uint64_t>(copy.size(), primary.size() - skip);
            if (!std::equal(copy.begin(), copy.begin() + static_cast<std::ptrdiff_t>(length),
                            primary.begin() + static_cast<std::ptrdiff_t>(skip)))
                problems_.add(store.path_of(inode) + ": copy " + std::to_string(extent.replica) +
                              " differs at " + std::to_string(page.begin()) +
                              " and nothing says so");
        }
    }

    // What was lost with the device is there again.
    void rejoin(Store& store) {
        auto device = Device::open(spec(expected_.coming_back));
        if (!device) return problems_.add("rejoin: " + device.error().message());
        const auto joined = store.rejoin_device(std::move(*device));
        if (!joined) return problems_.add("rejoin: " + joined.error().message());
        std::vector<store::Move> copies(joined->copies);
        store.abort_moves(copies);
        look_at(store);
    }

    void check_labels() {
        for (const auto& name : expected_.tombstones) {
            const auto label = Device::peek_label(spec(name));
            if (!label || label->state != device::LabelState::Removed)
                problems_.add(name + " has no tombstone");
        }
    }

    // All or none of them are the other pool's by now, and that has the files.
    void check_leaving() {
        if (expected_.leaving.empty()) return;
        std::set<std::string> pools;
        for (const auto& name : expected_.leaving)
            if (const auto label = Device::peek_label(spec(name)))
                pools.insert(label->pool.to_string());
        if (pools.size() != 1) return problems_.add("devices that leave are of several pools");
        if (!expected_.has_left && pools.contains(pool_)) return;
        const auto opened = open(expected_.leaving, false);
        if (!opened) return problems_.add("the other pool: " + opened.error().message());
        const auto found = view_of(**opened);
        if (found != expected_.leaving_view)
            problems_.add("the other pool shows " + text_of(found));
        for (const auto& [inode, size] : (*opened)->files()) check_file(**opened, inode, size);
    }

    const std::string& base_;
    const Expectation& expected_;
    const TraceOf& trace_;
    Problems problems_;
    bool is_back_ = false;
    std::string pool_;
};

}  // namespace

View view_of(Store& store) {
    View view;
    collect(store, "/", view);
    return view;
}

Sector sector_of(InodeNo inode, Version version, std::uint64_t number) {
    Sector sector{};
    if (version == 0) return sector;
    const std::uint64_t word = inode.raw() << 40 | std::uint64_t{version} << 24 | number;
    for (std::size_t at = 0; at < sector.size(); at += sizeof word)
        std::memcpy(sector.data() + at, &word, sizeof word);
    return sector;
}

std::vector<std::uint8_t> bytes_of(InodeNo inode, Version version, FileRange range) {
    std::vector<std::uint8_t> bytes;
    for (auto at = range.begin(); at < range.end(); at += kSectorBytes) {
        const auto sector = sector_of(inode, version, at / kSectorBytes);
        bytes.insert(bytes.end(), sector.begin(), sector.end());
    }
    bytes.resize(range.length());
    return bytes;
}

Problems check_image(const std::string& base, const Expectation& expected, const TraceOf& trace) {
    return ImageCheck(base, expected, trace).run();
}

}  // namespace refault::power_cut
