// Keeping what is durable apart from what is not, and putting both together.
#include "tests/power_cut/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"

namespace refault::power_cut {

using device::MediumCall;
using Kind = MediumCall::Kind;

Disk::Disk(const Image& image) {
    for (const auto& [name, files] : image) {
        auto& directory = directories_[name];
        for (const auto& [file, content] : files) {
            files_[next_file_].durable = content;
            directory.durable[file] = directory.now[file] = next_file_++;
        }
    }
}

void Disk::change_names(Directory& directory, std::map<std::string, FileNo> names) {
    for (const auto& [name, file] : names) {
        if (file == 0)
            directory.now.erase(name);
        else
            directory.now[name] = file;
    }
    directory.pending.push_back({next_age_++, std::move(names)});
}

void Disk::apply(const std::string& name, const MediumCall& call) {
    auto& directory = directories_[name];
    const auto found = directory.now.find(call.name);
    switch (call.kind) {
        case Kind::SyncNames:
            directory.durable = directory.now;
            directory.pending.clear();
            return;
        case Kind::Create:
            if (found == directory.now.end()) {
                files_[next_file_];
                change_names(directory, {{call.name, next_file_++}});
            } else {
                files_[found->second].pending.push_back(
                    {FileChange::Kind::SetSize, next_age_++, 0, 0, {}});
            }
            return;
        case Kind::Remove:
            if (found != directory.now.end()) change_names(directory, {{call.name, 0}});
            return;
        case Kind::Rename:
            CHECK(found != directory.now.end());
            change_names(directory, {{call.name, 0}, {call.to_name, found->second}});
            return;
        default:
            // A file without a name is nobody's after the power went.
            if (found != directory.now.end()) change_file(files_[found->second], call);
    }
}

void Disk::change_file(File& file, const MediumCall& call) {
    switch (call.kind) {
        case Kind::Sync:
            for (const auto& change : file.pending) apply_change(file.durable, change);
            file.pending.clear();
            return;
        case Kind::SetSize:
            file.pending.push_back(
                {FileChange::Kind::SetSize, next_age_++, call.offset, call.offset, {}});
            return;
        case Kind::Punch:
            file.pending.push_back(
                {FileChange::Kind::Punch, next_age_++, call.offset, call.offset + call.length, {}});
            return;
        case Kind::Write:
            for (std::uint64_t done = 0; done < call.bytes.size();) {
                const auto at = call.offset + done;
                const auto length = std::min<std::uint64_t>(kSectorBytes - at % kSectorBytes,
                                                            call.bytes.size() - done);
                const auto part = call.bytes.subspan(done, length);
                file.pending.push_back({FileChange::Kind::Bytes, next_age_++, at, at + length,
                                        std::vector<std::uint8_t>(part.begin(), part.end())});
                done += length;
            }
            return;
        default:
            return;  // memory that is taken shows nothing
    }
}

void Disk::apply_change(Content& content, const FileChange& change) {
    // A part of a sector that becomes zeros, or bytes.
    const auto put = [&](std::uint64_t begin, std::uint64_t end, const std::uint8_t* bytes) {
        const auto number = begin / kSectorBytes;
        auto& place = content.sectors[number];
        Sector sector{};
        if (place) sector = *place;
        const auto at = begin - number * kSectorBytes;
        if (bytes != nullptr)
            std::memcpy(sector.data() + at, bytes, end - begin);
        else
            std::memset(sector.data() + at, 0, end - begin);
        if (sector == Sector{})
            content.sectors.erase(number);
        else
            place = std::make_shared<const Sector>(sector);
    };
    const auto clear = [&](std::uint64_t begin, std::uint64_t end) {
        for (auto at = begin; at < end;) {
            const auto next = std::min(end, (at / kSectorBytes + 1) * kSectorBytes);
            if (content.sectors.contains(at / kSectorBytes)) put(at, next, nullptr);
            at = next;
        }
    };
    switch (change.kind) {
        case FileChange::Kind::Bytes:
            // The size is of the inode: without the cut or growth before it, it is as it was.
            put(change.begin, change.end, change.bytes.data());
            content.size_bytes = std::max(content.size_bytes, change.end);
            return;
        case FileChange::Kind::Punch:
            clear(change.begin, std::min(change.end, content.size_bytes));
            return;
        case FileChange::Kind::SetSize:
            if (change.begin < content.size_bytes) clear(change.begin, content.size_bytes);
            content.size_bytes = change.begin;
            return;
    }
}

std::vector<Disk::Pending> Disk::pending() const {
    std::vector<Pending> all;
    std::set<FileNo> reachable;
    for (const auto& [name, directory] : directories_) {
        for (const auto& [file_name, file] : directory.durable) reachable.insert(file);
        for (const auto& change : directory.pending) {
            all.push_back({change.age, &change, nullptr});
            for (const auto& [file_name, file] : change.names) reachable.insert(file);
        }
    }
    for (const auto file : reachable)
        if (file != 0)
            for (const auto& change : files_.at(file).pending)
                all.push_back({change.age, nullptr, &change});
    std::sort(all.begin(), all.end(),
              [](const Pending& one, const Pending& other) { return one.age < other.age; });
    return all;
}

std::size_t Disk::pending_count() const {
    return pending().size();
}

Image Disk::image(const Reached& reached) const {
    const auto all = pending();
    CHECK(all.size() == reached.size());
    std::set<std::uint64_t> ages;
    for (std::size_t i = 0; i < all.size(); ++i)
        if (reached[i]) ages.insert(all[i].age);
    Image image;
    for (const auto& [name, directory] : directories_) {
        auto names = directory.durable;
        std::set<std::string> missed;
        for (const auto& change : directory.pending) {
            bool may_reach = ages.contains(change.age);
            for (const auto& [file_name, file] : change.names)
                may_reach = may_reach && !missed.contains(file_name);
            for (const auto& [file_name, file] : change.names) {
                if (!may_reach)
                    missed.insert(file_name);
                else if (file == 0)
                    names.erase(file_name);
                else
                    names[file_name] = file;
            }
        }
        auto& files = image[name];
        for (const auto& [file_name, number] : names) {
            const auto& file = files_.at(number);
            auto& content = files[file_name];
            content = file.durable;
            for (const auto& change : file.pending)
                if (ages.contains(change.age)) apply_change(content, change);
        }
    }
    return image;
}

void write_image(const Image& image, const std::string& base) {
    for (const auto& [name, files] : image) {
        const auto directory = base + "/" + name;
        CHECK(::mkdir(directory.c_str(), 0700) == 0);
        for (const auto& [file_name, content] : files) {
            const int fd = ::open((directory + "/" + file_name).c_str(),
                                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            CHECK(fd >= 0);
            CHECK(::ftruncate(fd, static_cast<off_t>(content.size_bytes)) == 0);
            for (const auto& [number, sector] : content.sectors) {
                const auto at = number * kSectorBytes;
                const auto length = std::min(kSectorBytes, content.size_bytes - at);
                CHECK(::pwrite(fd, sector->data(), length, static_cast<off_t>(at)) ==
                      static_cast<ssize_t>(length));
            }
            ::close(fd);
        }
    }
}

std::uint64_t hash_of(const Image& image) {
    std::uint64_t hash = 1469598103934665603ull;
    const auto mix = [&](std::string_view text) {
        hash = (hash ^ std::hash<std::string_view>{}(text)) * 1099511628211ull;
    };
    for (const auto& [name, files] : image) {
        mix(name);
        for (const auto& [file_name, content] : files) {
            mix(file_name);
            mix(std::to_string(content.size_bytes));
            for (const auto& [number, sector] : content.sectors) {
                mix(std::to_string(number));
                mix({reinterpret_cast<const char*>(sector->data()), sector->size()});
            }
        }
    }
    return hash;
}

}  // namespace refault::power_cut
