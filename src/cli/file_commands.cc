// refault ls, cat, cp, rm, mkdir, rmdir, mv, stat, resize.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/range.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "cli/command.h"

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

namespace {

constexpr std::string_view kPoolPrefix = "pool:";
// One request's worth of bytes.
constexpr std::size_t kStepBytes = 4u << 20;
constexpr base::FileRange kWholeFile(0, UINT64_MAX);

std::string data_target(const std::string& path, std::uint64_t offset) {
    return "/v1/files/data?path=" + url_encode(path) + "&offset=" + std::to_string(offset);
}

Status write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t put = ::write(fd, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return base::sys_error("write");
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
}

// Up to a step of the file's bytes; none at its end.
Result<std::string> read_step(const ControlClient& client, const std::string& path,
                              base::FileRange left) {
    const auto length = std::min<std::uint64_t>(left.length(), kStepBytes);
    return client.get_bytes(data_target(path, left.begin()) + "&length=" + std::to_string(length));
}

// Copies a part of a pool file to a descriptor; returns how many bytes it had.
Result<std::uint64_t> copy_out(const ControlClient& client, const std::string& path,
                               base::FileRange part, int fd) {
    for (auto at = part.begin(); at < part.end();) {
        auto bytes = read_step(client, path, {at, part.end()});
        if (!bytes) return bytes.error();
        if (bytes->empty()) return at - part.begin();
        RETURN_IF_ERROR(write_all(fd, *bytes));
        at += bytes->size();
    }
    return part.length();
}

Result<std::uint64_t> copy_in(const ControlClient& client, int fd, const std::string& path) {
    // By itself first: a refusal would cut an upload short, and the reason be lost with it.
    auto made = client.post("/v1/files/create", {{"path", path}});
    if (!made && made.error().code() != Code::Exists) return made.error();
    std::string buffer(kStepBytes, '\0');
    for (std::uint64_t offset = 0;;) {
        const ssize_t got = ::read(fd, buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return base::sys_error("read");
        if (got == 0) {
            // Shortens a longer file that was there.
            auto sized = client.post("/v1/files/resize", {{"path", path}, {"size_bytes", offset}});
            if (!sized) return sized.error();
            return offset;
        }
        auto put = client.put_bytes(data_target(path, offset),
                                    std::string_view(buffer.data(), static_cast<std::size_t>(got)));
        if (!put) return put.error();
        offset += static_cast<std::uint64_t>(got);
    }
}

bool is_local_directory(const std::string& path) {
    struct stat status {};
    return path != "-" && ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// A copy to a directory has the name of what is copied.
std::string into_directory(const std::string& target, bool is_directory,
                           const std::string& source) {
    if (!is_directory) return target;
    return target + (target.ends_with('/') ? "" : "/") + source.substr(source.rfind('/') + 1);
}

// Exactly one side is "pool:/path".
Result<std::uint64_t> copy(const ControlClient& client, const std::string& from,
                           const std::string& to) {
    const bool is_out = from.starts_with(kPoolPrefix);
    if (is_out == to.starts_with(kPoolPrefix))
        return Error(Code::Invalid, "one side of cp is in the pool: write it as pool:/path");
    const auto inside = (is_out ? from : to).substr(kPoolPrefix.size());
    std::string local = is_out ? to : from;
    // Before anything is made in the pool.
    if (!is_out && is_local_directory(local))
        return Error(Code::Invalid, local + " is a directory; cp copies one file", EISDIR);
    auto stat = client.get("/v1/files/stat?path=" + url_encode(inside));
    const bool is_directory = stat && stat->value("type", "") == "directory";
    if (is_out) {
        // Before the local file is cut to nothing.
        if (!stat) return stat.error();
        if (is_directory)
            return Error(Code::Invalid, inside + " is a directory; cp copies one file");
        local = into_directory(local, is_local_directory(local), inside);
    }
    if (is_out)
        // Nor is an empty file left behind of one that cannot be read.
        if (auto first = read_step(client, inside, kWholeFile); !first) return first.error();
    base::UniqueFd fd(local == "-" ? ::dup(is_out ? STDOUT_FILENO : STDIN_FILENO)
                      : is_out
                          ? ::open(local.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)
                          : ::open(local.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) return base::sys_error(local);
    if (!is_out) return copy_in(client, fd.get(), into_directory(inside, is_directory, local));
    auto copied = copy_out(client, inside, kWholeFile, fd.get());
    // Some filesystems say only now that a write has failed.
    if (copied && ::close(fd.release()) != 0) return base::sys_error(local);
    return copied;
}

// A pool path with or without the prefix.
std::string pool_path(const std::string& text) {
    return text.starts_with(kPoolPrefix) ? text.substr(kPoolPrefix.size()) : text;
}

// As in `ls -l`.
char type_letter(const std::string& type) {
    if (type == "file") return '-';
    return type == "fifo" ? 'p' : type == "symlink" ? 'l' : type.empty() ? '?' : type.front();
}

void show_entries(const Json& answer, bool is_long) {
    for (const auto& entry : answer["entries"]) {
        const bool is_directory = entry.value("type", "") == "directory";
        if (is_long)
            std::printf("%c%04o %5u %5u %12llu  ", type_letter(entry.value("type", "")),
                        entry.value("mode", 0u), entry.value("uid", 0u), entry.value("gid", 0u),
                        entry.value("size_bytes", 0ull));
        std::printf("%s%s\n", printable(entry.value("name", "")).c_str(), is_directory ? "/" : "");
    }
}

void show_stat(const Json& stat) {
    std::printf(
        "path    %s\ntype    %s\ninode   %llu\nsize    %llu (%s), %s of it in memory\nmode    "
        "%04o\nowner   %u:%u\nlinks   %u\n",
        all_paths(stat).c_str(), stat.value("type", "").c_str(), stat.value("inode", 0ull),
        stat.value("size_bytes", 0ull), base::format_size(stat.value("size_bytes", 0ull)).c_str(),
        base::format_size(stat.value("allocated_bytes", 0ull)).c_str(), stat.value("mode", 0u),
        stat.value("uid", 0u), stat.value("gid", 0u), stat.value("links", 0u));
    std::printf("copies  %u%s\non-loss %s\n", stat.value("replicas", 1u),
                stat.value("type", "") == "directory" ? " (of files made in it)" : "",
                stat.value("on_loss", "").c_str());
    for (const auto& range : stat["lost"])
        std::printf("lost    bytes 0x%llx-0x%llx (%s)\n", range.value("file_begin", 0ull),
                    range.value("file_end", 0ull), range.value("kind", "").c_str());
}

// mkdir -p: every missing directory on the way.
Result<Json> make_directories(const ControlClient& client, const std::string& path) {
    Result<Json> made = Json::object();
    for (std::size_t at = 1; at != std::string::npos;) {
        at = path.find('/', at);
        const auto part = path.substr(0, at);
        if (at != std::string::npos) ++at;
        made = client.post("/v1/files/mkdir", {{"path", part}});
        if (!made && made.error().code() != Code::Exists) return made;
    }
    if (made) return made;
    // What was there already may be a file.
    auto stat = client.get("/v1/files/stat?path=" + url_encode(path));
    if (stat && stat->value("type", "") != "directory") return made;
    return stat;
}

void add_cat_command(CLI::App& app, Context& context) {
    struct Arguments {
        std::string path, offset = "0", length;
    };
    auto arguments = std::make_shared<Arguments>();
    CLI::App* cat = add_command(
        app, context, "cat", "Write a file to standard output",
        "  refault cat /log | tail\n"
        "  refault cat /state --offset 0x2000 --length 1M > saved    what is good of a file that "
        "has lost bytes",
        [&context, arguments] {
            auto offset = base::parse_size(arguments->offset);
            if (!offset) return context.fail(offset.error(), kWrongUsage);
            auto length = arguments->length.empty() ? Result<std::uint64_t>(UINT64_MAX)
                                                    : base::parse_size(arguments->length);
            if (!length) return context.fail(length.error(), kWrongUsage);
            const base::FileRange part(*offset, *offset + std::min(*length, UINT64_MAX - *offset));
            auto done = copy_out(context.client(), pool_path(arguments->path), part, STDOUT_FILENO);
            if (!done) context.fail(done.error());
        });
    cat->add_option("path", arguments->path, "In the pool")->required();
    cat->add_option("--offset", arguments->offset, "From here")->capture_default_str();
    cat->add_option("--length", arguments->length, "So many bytes; to the end of the file");
}

}  // namespace

void add_file_commands(CLI::App& app, Context& context) {
    struct Arguments {
        std::string path, to, size;
        bool is_long = false, parents = false;
    };
    auto arguments = std::make_shared<Arguments>();
    // A command on one path that posts and says nothing when done.
    const auto add_post = [&](const char* name, const char* what, const char* example,
                              const char* target) {
        CLI::App* command =
            add_command(app, context, name, what, example, [&context, arguments, target] {
                context.finish(
                    context.client().post(target, {{"path", pool_path(arguments->path)}}),
                    [](const Json&) {});
            });
        command->add_option("path", arguments->path, "In the pool")->required();
    };
    CLI::App* ls = add_command(
        app, context, "ls", "List a directory", "  refault ls -l /", [&context, arguments] {
            context.finish(context.client().get("/v1/files/list?path=" +
                                                url_encode(pool_path(arguments->path))),
                           [&](const Json& answer) { show_entries(answer, arguments->is_long); });
        });
    arguments->path = "/";
    ls->add_option("path", arguments->path, "In the pool")->capture_default_str();
    ls->add_flag("-l", arguments->is_long, "With mode, owner and size");

    add_cat_command(app, context);
    CLI::App* cp = add_command(
        app, context, "cp", "Copy into or out of the pool ('-' is standard input or output)",
        "  refault cp model.bin pool:/models/a\n  refault cp pool:/models/a copy.bin",
        [&context, arguments] {
            auto done = copy(context.client(), arguments->path, arguments->to);
            if (!done) return context.fail(done.error());
            context.finish(Json{{"bytes", *done}}, [](const Json&) {});
        });
    cp->add_option("from", arguments->path, "Local path or pool:/path")->required();
    cp->add_option("to", arguments->to, "Local path or pool:/path")->required();

    add_post("rm", "Remove a file", "  refault rm /models/old", "/v1/files/remove");
    add_post("rmdir", "Remove an empty directory", "  refault rmdir /models", "/v1/files/rmdir");
    add_post("create", "Make an empty file", "  refault create /state", "/v1/files/create");

    CLI::App* mkdir = add_command(
        app, context, "mkdir", "Make a directory", "  refault mkdir -p /models/2031",
        [&context, arguments] {
            const auto path = pool_path(arguments->path);
            context.finish(arguments->parents
                               ? make_directories(context.client(), path)
                               : context.client().post("/v1/files/mkdir", {{"path", path}}),
                           [](const Json&) {});
        });
    mkdir->add_option("path", arguments->path, "In the pool")->required();
    mkdir->add_flag("-p", arguments->parents, "And the missing directories above it");

    CLI::App* mv = add_command(
        app, context, "mv", "Rename a file or directory", "  refault mv /new /current",
        [&context, arguments] {
            context.finish(
                context.client().post("/v1/files/rename", {{"from", pool_path(arguments->path)},
                                                           {"to", pool_path(arguments->to)}}),
                [](const Json&) {});
        });
    mv->add_option("from", arguments->path, "In the pool")->required();
    mv->add_option("to", arguments->to, "In the pool")->required();

    CLI::App* stat =
        add_command(app, context, "stat", "Show a file's attributes", "  refault stat /log --json",
                    [&context, arguments] {
                        context.finish(context.client().get("/v1/files/stat?path=" +
                                                            url_encode(pool_path(arguments->path))),
                                       show_stat);
                    });
    stat->add_option("path", arguments->path, "In the pool")->required();

    CLI::App* resize = add_command(
        app, context, "resize", "Change a file's size; growing takes the space at once",
        "  refault resize /state 4G", [&context, arguments] {
            auto size = base::parse_size(arguments->size);
            if (!size) return context.fail(size.error(), kWrongUsage);
            context.finish(
                context.client().post("/v1/files/resize", {{"path", pool_path(arguments->path)},
                                                           {"size_bytes", *size}}),
                [](const Json&) {});
        });
    resize->add_option("path", arguments->path, "In the pool")->required();
    resize->add_option("size", arguments->size, "For example 4096, 512M, 4G")->required();
}

}  // namespace refault::cli
