// mount: the same programs on the mount, on another FUSE filesystem over a tmpfs, and on a tmpfs
// itself, in turn. fio reads and writes a file in several ways; then many small files are made,
// looked at and removed by plain system calls. Files of the pool have one copy, as those of the
// others.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "bench/harness.h"
#include "bench/mounted_places.h"

namespace refault::bench {

namespace {

using base::Code;
using base::Error;

constexpr const char* kPoolSize = "4G";
constexpr std::uint64_t kPlainBytes = 4ull << 30;
constexpr int kStormFilesMax = 100'000;
constexpr int kFilesOfDirectory = 1000;

struct Workload {
    const char* name;
    const char* engine;
    const char* pattern;
    const char* block;
};
constexpr std::array kWorkloads{Workload{"read 1 MiB", "psync", "read", "1M"},
                                Workload{"write 1 MiB", "psync", "write", "1M"},
                                Workload{"read 4 KiB", "psync", "read", "4k"},
                                Workload{"write 4 KiB", "psync", "write", "4k"},
                                Workload{"random read 4 KiB", "psync", "randread", "4k"},
                                Workload{"random write 4 KiB", "psync", "randwrite", "4k"},
                                Workload{"random mixed 4 KiB", "psync", "randrw", "4k"},
                                Workload{"mapped random read 4 KiB", "mmap", "randread", "4k"},
                                Workload{"mapped random write 4 KiB", "mmap", "randwrite", "4k"}};

// MiB/s, reads and writes together.
Result<double> run_fio(const Workload& workload, const std::string& directory) {
    const std::string command = std::string("fio --name=bench --directory=") + directory +
                                " --ioengine=" + workload.engine + " --rw=" + workload.pattern +
                                " --bs=" + workload.block +
                                " --size=256M --runtime=1 --time_based --end_fsync=1 --unlink=1"
                                " --thread --output-format=json 2>/dev/null";
    std::FILE* const pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) return base::sys_error("fio");
    std::string text;
    std::array<char, 4096> part{};
    for (std::size_t got = 0; (got = std::fread(part.data(), 1, part.size(), pipe)) > 0;)
        text.append(part.data(), got);
    const int status = ::pclose(pipe);
    const auto answer = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (status != 0 || !answer.is_object() || !answer.contains("jobs"))
        return Error(Code::Io, "fio failed at " + std::string(workload.name) +
                                   "; is it installed? (apt-get install fio)");
    const auto& job = answer["jobs"][0];
    return (job["read"].value("bw_bytes", 0.0) + job["write"].value("bw_bytes", 0.0)) / (1 << 20);
}

std::string storm_file(const std::string& directory, int i) {
    return directory + "/storm" + std::to_string(i / kFilesOfDirectory) + "/" + std::to_string(i);
}

bool open_and_close(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    return fd >= 0 && ::close(fd) == 0;
}

bool exists(const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0;
}

struct Storm {
    const char* name;
    bool reaches_server;
    bool (*action)(const std::string& path);
};
constexpr std::array kStorms{
    Storm{
        "create", true,
        [](const std::string& path) { return open_and_close(path, O_CREAT | O_EXCL | O_WRONLY); }},
    Storm{"stat", false, exists},
    Storm{"open", true, [](const std::string& path) { return open_and_close(path, O_RDONLY); }},
    Storm{"look for what is not there", true,
          [](const std::string& path) { return !exists(path + "-"); }},
    Storm{"remove", true, [](const std::string& path) { return ::unlink(path.c_str()) == 0; }}};

struct Place {
    std::string name;
    std::string directory;
    std::map<std::string, std::vector<double>> figures;
};

Status run_storms(Place& place, int files) {
    int failures = 0;
    const auto for_directories = [&](auto&& action) {
        for (int i = 0; i < files; i += kFilesOfDirectory)
            failures +=
                action(place.directory + "/storm" + std::to_string(i / kFilesOfDirectory)) == 0 ? 0
                                                                                                : 1;
    };
    for_directories([](const std::string& path) { return ::mkdir(path.c_str(), 0700); });
    for (const auto& storm : kStorms) {
        const double seconds = time_s([&] {
            for (int i = 0; i < files; ++i)
                failures += storm.action(storm_file(place.directory, i)) ? 0 : 1;
        });
        place.figures[storm.name].push_back(files / seconds);
    }
    for_directories([](const std::string& path) { return ::rmdir(path.c_str()); });
    if (failures > 0)
        return Error(Code::Io, std::to_string(failures) + " operations on small files failed in " +
                                   place.directory);
    return {};
}

Status run_once(std::vector<Place>& places, bool counts) {
    for (const auto& workload : kWorkloads)
        for (auto& place : places) {
            auto figure = run_fio(workload, place.directory);
            if (!figure) return figure.error();
            if (counts) place.figures[workload.name].push_back(*figure);
        }
    return {};
}

// True when the mount is at least as quick as the peer.
bool add_row(Report& report, const std::vector<Place>& places, const std::string& what,
             const char* unit) {
    Json row = {{"workload", what}, {"unit", unit}};
    for (const auto& place : places) row[place.name] = median(place.figures.at(what));
    const double mount = row["mount"], peer = row["peer"], plain = row["tmpfs"];
    row["over_peer"] = mount / peer;
    row["over_tmpfs"] = mount / plain;
    report.row(row);
    return mount >= peer;
}

}  // namespace

Status run_mount(const Options& options) {
    auto pool = MountedPool::create(kPoolSize);
    if (!pool) return pool.error();
    auto tmpfs = PlainTmpfs::create(kPlainBytes);
    if (!tmpfs) return tmpfs.error();
    const auto plain = tmpfs->file("bench");
    if (::mkdir(plain.c_str(), 0755) != 0) return base::sys_error("mkdir " + plain);
    auto peer = FusePeer::create(plain);
    if (!peer) return peer.error();
    std::vector<Place> places{
        {"mount", (*pool)->path(), {}}, {"peer", (*peer)->path(), {}}, {"tmpfs", plain, {}}};
    Report report("mount", options);
    report.input("peer", (*peer)->name() + " over a tmpfs of the same kind");
    report.input("fio", "256 MiB, 1 s each, one thread, through the page cache");
    const int files = std::min(kStormFilesMax, (*peer)->files_max());
    report.input("small files", files);
    for (int run = 0; run <= options.runs; ++run) {
        RETURN_IF_ERROR(run_once(places, /*counts=*/run > 0));
        if (run > 0)
            for (auto& place : places) RETURN_IF_ERROR(run_storms(place, files));
    }
    bool is_ahead = true, is_metadata_ahead = true;
    for (const auto& workload : kWorkloads)
        is_ahead = add_row(report, places, workload.name, "MiB/s") && is_ahead;
    for (const auto& storm : kStorms) {
        const bool is_first = add_row(report, places, storm.name, "1/s");
        if (storm.reaches_server) is_metadata_ahead = is_first && is_metadata_ahead;
    }
    report.target("at least the FUSE peer in each of fio's", is_ahead);
    report.target("ahead of it in metadata that is not in the kernel's cache (stat is)",
                  is_metadata_ahead);
    report.finish();
    return {};
}

}  // namespace refault::bench
