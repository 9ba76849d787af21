// Random work on files of a mount while devices are pulled, torn out and poisoned, held against
// plain strings that have the bytes the files must have. Every file has two copies and one thing
// is harmed at a time, so nothing may be lost, ever. One thread, which is the program that uses the
// mount as well.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <set>

#include "base/unique_fd.h"
#include "tests/mount_support.h"

namespace refault::tests {

class MountChaos {
  public:
    static constexpr std::size_t kFilesMax = 5;
    static constexpr std::size_t kBytesMax = 700'000;
    static constexpr std::size_t kDevices = 5;

    MountChaos(std::uint64_t seed, std::string options)
        : options_(std::move(options)), random_(seed), pool_({"d0=ram:64M", "d1=ram:64M"}) {
        while (members().size() < kDevices) add_device();
        pool_.post("/v1/files/set", {{"path", "/"}, {"replicas", 2}});
        mount_.emplace(pool_, options_);
        for (int i = 0; i < 3; ++i) make();
    }

    void step() {
        const auto kind = below(100);
        if (files_.empty() || kind < 4) return make();
        auto& file = *files_[below(files_.size())];
        if (kind < 26) return write(file);
        if (kind < 40) return store(file);
        if (kind < 60) return read(file);
        if (kind < 66) return resize(file);
        if (kind < 76) return change_space(file);
        if (kind < 80) return copy();
        if (kind < 84) return flush(file);
        if (kind < 87) return rename(file);
        if (kind < 89) return remove();
        if (kind < 90) return remount();
        if (kind < 93) return read_directly(file);
        harm();
    }

    void finish() {
        wait_for_resync(pool_);
        check_all();
        remount();
        check_all();
        EXPECT_TRUE(pool_.get("/v1/lost")["lost"].empty()) << pool_.get("/v1/lost").dump();
        pool_.expect_sound();
    }

    Pool& pool() { return pool_; }

    void check_all() {
        for (auto& file : files_) {
            drop_cache(*file);
            compare(*file, 0, kBytesMax);
        }
    }

  private:
    // One file: what it must hold, and how the program has it open.
    struct Model {
        std::string name;
        std::string bytes;
        base::UniqueFd fd;
        char* mapped = nullptr;  // kBytesMax, shared; null when it is not

        void unmap() {
            if (mapped != nullptr) ::munmap(mapped, kBytesMax);
            mapped = nullptr;
        }
        ~Model() { unmap(); }
    };

    std::size_t below(std::size_t limit) { return random_() % limit; }
    std::string path(const Model& file) const { return *mount_ / file.name; }

    void open(Model& file, int flags) {
        file.fd = base::UniqueFd(::open(path(file).c_str(), O_RDWR | flags, 0600));
        ASSERT_TRUE(file.fd.valid()) << file.name << ": " << std::strerror(errno);
    }

    void make() {
        if (files_.size() >= kFilesMax) return;
        auto file = std::make_unique<Model>();
        file->name = "f" + std::to_string(names_made_++);
        open(*file, O_CREAT | O_EXCL);
        files_.push_back(std::move(file));
    }

    // A range that begins in the file or a little behind it.
    std::pair<std::size_t, std::size_t> some_range(const Model& file) {
        const auto begin = below(std::min(file.bytes.size() + 30'000, kBytesMax - 1));
        const auto most =
            below(4) == 0 ? kBytesMax - begin : std::min<std::size_t>(9000, kBytesMax - begin);
        const auto length = 1 + below(most);
        if (below(3) != 0) return {begin, length};
        // Whole pages.
        constexpr auto kPages = kBytesMax / kPage;
        const auto first = std::min(begin / kPage, kPages - 1);
        const auto pages = std::min((length + kPage - 1) / kPage, kPages - first);
        return {first * kPage, pages * kPage};
    }

    static void put(Model& file, std::size_t begin, const std::string& bytes) {
        if (bytes.empty()) return;
        if (file.bytes.size() < begin + bytes.size()) file.bytes.resize(begin + bytes.size(), 0);
        file.bytes.replace(begin, bytes.size(), bytes);
    }

    std::string some_bytes(std::size_t length) {
        std::string bytes(length, static_cast<char>(1 + below(255)));
        for (std::size_t at = 0; at < length; at += 97) bytes[at] = static_cast<char>(random_());
        return bytes;
    }

    void write(Model& file) {
        const auto [begin, length] = some_range(file);
        const auto bytes = some_bytes(length);
        ASSERT_EQ(::pwrite(file.fd.get(), bytes.data(), length, static_cast<off_t>(begin)),
                  static_cast<ssize_t>(length))
            << file.name << ": " << std::strerror(errno);
        put(file, begin, bytes);
    }

    // By a shared mapping, within the file.
    void store(Model& file) {
        if (file.bytes.empty()) return;
        if (file.mapped == nullptr) {
            void* at =
                ::mmap(nullptr, kBytesMax, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd.get(), 0);
            ASSERT_NE(at, MAP_FAILED) << std::strerror(errno);
            file.mapped = static_cast<char*>(at);
        }
        const auto begin = below(file.bytes.size());
        const auto length = 1 + below(std::min<std::size_t>(20'000, file.bytes.size() - begin));
        const auto bytes = some_bytes(length);
        std::memcpy(file.mapped + begin, bytes.data(), length);
        put(file, begin, bytes);
    }

    void compare(const Model& file, std::size_t begin, std::size_t length) {
        std::string got(length, 0);
        const auto count = ::pread(file.fd.get(), got.data(), length, static_cast<off_t>(begin));
        ASSERT_GE(count, 0) << file.name << ": " << std::strerror(errno);
        got.resize(static_cast<std::size_t>(count));
        same(file, begin, got,
             begin >= file.bytes.size() ? std::string() : file.bytes.substr(begin, length));
    }

    static void same(const Model& file, std::size_t begin, const std::string& got,
                     const std::string& wanted) {
        ASSERT_EQ(got.size(), wanted.size()) << file.name << " read from " << begin;
        const auto differs = std::mismatch(got.begin(), got.end(), wanted.begin()).first;
        ASSERT_TRUE(differs == got.end())
            << file.name << " has other bytes from "
            << begin + static_cast<std::size_t>(differs - got.begin());
    }

    void read(Model& file) {
        if (below(3) == 0) drop_cache(file);
        const auto [begin, length] = some_range(file);
        if (file.mapped == nullptr || begin >= file.bytes.size())
            return compare(file, begin, length);
        const auto end = std::min(file.bytes.size(), begin + length);
        same(file, begin, std::string(file.mapped + begin, end - begin),
             file.bytes.substr(begin, end - begin));
    }

    static void drop_cache(Model& file) {
        (void)::fdatasync(file.fd.get());
        (void)::posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    }

    // What a tool of the pool sees.
    void read_directly(Model& file) {
        if (file.bytes.empty()) return;
        // With this option the size is the kernel's until it writes back.
        if (!options_.empty()) flush(file);
        const auto got = pool_.control().get_bytes("/v1/files/data?path=/" + file.name +
                                                   "&offset=0&length=" + std::to_string(kBytesMax));
        ASSERT_TRUE(got) << got.error().message();
        same(file, 0, *got, file.bytes);
    }

    void resize(Model& file) {
        const auto size = below(5) == 0 ? 0 : below(kBytesMax);
        ASSERT_EQ(::ftruncate(file.fd.get(), static_cast<off_t>(size)), 0) << std::strerror(errno);
        file.bytes.resize(size, 0);
    }

    void change_space(Model& file) {
        constexpr int kModes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                  0};
        const auto how = below(3);
        const auto [begin, length] = some_range(file);
        ASSERT_EQ(::fallocate(file.fd.get(), kModes[how], static_cast<off_t>(begin),
                              static_cast<off_t>(length)),
                  0)
            << how << " " << std::strerror(errno);
        const auto end = how == 0 ? std::min(begin + length, file.bytes.size()) : begin + length;
        if (how == 2) {
            if (file.bytes.size() < end) file.bytes.resize(end, 0);
        } else if (begin < end) {
            put(file, begin, std::string(end - begin, 0));
        }
    }

    void copy() {
        auto& from = *files_[below(files_.size())];
        auto& to = *files_[below(files_.size())];
        if (&from == &to || from.bytes.empty()) return;
        off_t source = static_cast<off_t>(below(from.bytes.size()));
        off_t target = static_cast<off_t>(below(kBytesMax / 2));
        const auto begin = static_cast<std::size_t>(source);
        const auto at = static_cast<std::size_t>(target);
        const auto copied = ::copy_file_range(from.fd.get(), &source, to.fd.get(), &target,
                                              below(kBytesMax / 2), 0);
        ASSERT_GE(copied, 0) << std::strerror(errno);
        put(to, at, from.bytes.substr(begin, static_cast<std::size_t>(copied)));
    }

    void flush(Model& file) {
        const bool by_mapping = file.mapped != nullptr && below(2) == 0;
        ASSERT_EQ(by_mapping ? ::msync(file.mapped, kBytesMax, MS_SYNC) : ::fsync(file.fd.get()), 0)
            << std::strerror(errno);
    }

    void rename(Model& file) {
        const auto before = path(file);
        const auto other = below(files_.size());
        const bool replaces = files_[other].get() != &file && below(2) == 0;
        file.name = replaces ? files_[other]->name : "f" + std::to_string(names_made_++);
        ASSERT_EQ(::rename(before.c_str(), path(file).c_str()), 0) << std::strerror(errno);
        if (replaces) files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(other));
    }

    void remove() {
        const auto which = below(files_.size());
        ASSERT_EQ(::unlink(path(*files_[which]).c_str()), 0) << std::strerror(errno);
        files_.erase(files_.begin() + static_cast<std::ptrdiff_t>(which));
    }

    void remount() {
        for (auto& file : files_) {
            file->unmap();
            file->fd.reset();
        }
        mount_.reset();
        mount_.emplace(pool_, options_);
        for (auto& file : files_) open(*file, 0);
    }

    // ---- devices
    std::vector<std::string> members() {
        std::vector<std::string> names;
        const auto answer = pool_.get("/v1/devices");
        for (const auto& device : answer["devices"])
            if (device.value("state", "") == "in-service")
                names.push_back(device.value("name", ""));
        return names;
    }

    // Of those that will not come back nothing is kept, and names are used again: a pool remembers
    // every one that it had.
    void add_device() {
        std::set<std::string> taken;
        const auto answer = pool_.get("/v1/devices");
        for (const auto& device : answer["devices"]) {
            const auto name = device.value("name", ""), state = device.value("state", "");
            if (state == "lost")
                (void)pool_.control().post("/v1/devices/" + name + "/forget", Json::object());
            if (state != "removed") taken.insert(name);
        }
        int number = 0;
        while (taken.contains("d" + std::to_string(number))) ++number;
        pool_.post("/v1/devices", {{"spec", "d" + std::to_string(number) + "=ram:64M"}});
    }

    // The next harm waits until everything has its two copies again; work does not.
    void harm() {
        wait_for_resync(pool_);
        while (members().size() < kDevices) add_device();
        const auto devices = members();
        const auto device = devices[below(devices.size())];
        const auto kind = below(4);
        // Of a device that holds nothing there is nothing to tear out.
        const auto now = pool_.get("/v1/devices/" + device);
        if (kind == 0 && now.value("data_bytes", 0u) + now.value("metadata_bytes", 0u) > 0) {
            yank(pool_, device);
            is_gone(pool_, device);
        } else if (kind == 1) {
            pool_.pull({device});
        } else {
            auto& file = *files_[below(files_.size())];
            if (file.bytes.empty()) return;
            const auto place =
                place_of(pool_, "/" + file.name, below(file.bytes.size()) / kPage * kPage,
                         static_cast<unsigned>(below(2)));
            // A hole lies nowhere.
            if (!place.device.empty()) poison(pool_, place, kPage * (1 + below(8)));
        }
    }

    const std::string options_;
    std::mt19937_64 random_;
    Pool pool_;
    int names_made_ = 0;
    std::optional<Mounted> mount_;
    std::vector<std::unique_ptr<Model>> files_;
};

}  // namespace refault::tests
