// Writing and reading mount.json.
#include "daemon/mount_record.h"

#include <fcntl.h>

#include <cstdint>
#include <span>

#include "sys/file.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using mount::MountOptions;
using Json = nlohmann::json;

namespace {
constexpr const char* kFile = "mount.json";
constexpr int kFormat = 1;
constexpr std::size_t kBytesMax = 64 * 1024;

Error unreadable() {
    return Error(Code::Corrupt,
                 "mount.json in the run directory cannot be read; remove it and "
                 "mount again with: refault mount");
}
}  // namespace

Json to_json(const MountOptions& options) {
    return Json{
        {"directory", options.directory},          {"allow_other", options.allows_others},
        {"read_only", options.is_read_only},       {"writeback", options.has_writeback},
        {"patience_ms", options.patience.count()}, {"kernel_options", options.kernel_options}};
}

Result<MountOptions> mount_options_from(const Json& json) {
    const auto is = [&](const char* name, auto check) {
        return json.is_object() && json.contains(name) && (json[name].*check)();
    };
    if (!is("directory", &Json::is_string) || !is("allow_other", &Json::is_boolean) ||
        !is("read_only", &Json::is_boolean) || !is("writeback", &Json::is_boolean) ||
        !is("patience_ms", &Json::is_number_unsigned) || !is("kernel_options", &Json::is_array))
        return unreadable();
    MountOptions options;
    options.directory = json["directory"].get<std::string>();
    options.allows_others = json["allow_other"].get<bool>();
    options.is_read_only = json["read_only"].get<bool>();
    options.has_writeback = json["writeback"].get<bool>();
    options.patience = std::chrono::milliseconds(json["patience_ms"].get<std::uint32_t>());
    for (const auto& option : json["kernel_options"]) {
        if (!option.is_string()) return unreadable();
        options.kernel_options.push_back(option.get<std::string>());
    }
    return options;
}

Status save_mount_record(const std::string& run_dir, const base::Uuid& pool,
                         const MountOptions* options) {
    if (run_dir.empty()) return {};
    const auto directory = sys::open_directory(run_dir);
    if (!directory) return directory.error();
    if (options == nullptr) return sys::remove_file(directory->get(), kFile);
    const auto text =
        Json{{"format", kFormat}, {"pool", pool.to_string()}, {"mount", to_json(*options)}}.dump() +
        "\n";
    // Under another name first: a daemon that dies here leaves no half of a record. The run
    // directory does not outlive the machine, so nothing is synced.
    const std::string fresh = std::string(kFile) + ".new";
    const auto file =
        sys::open_at(directory->get(), fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (!file) return file.error();
    RETURN_IF_ERROR(sys::write_fully(
        file->get(), 0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
    return sys::rename_file(directory->get(), fresh, kFile);
}

Result<std::optional<MountOptions>> load_mount_record(const std::string& run_dir,
                                                      const base::Uuid& pool) {
    if (run_dir.empty()) return std::optional<MountOptions>();
    const auto directory = sys::open_directory(run_dir);
    if (!directory) return directory.error();
    const auto text = sys::read_small_file(directory->get(), kFile, kBytesMax);
    if (!text && text.error().code() == Code::NotFound) return std::optional<MountOptions>();
    if (!text) return text.error();
    const auto json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || json.value("format", Json()) != kFormat || !json.contains("mount"))
        return unreadable();
    if (json.value("pool", Json()) != pool.to_string()) return std::optional<MountOptions>();
    auto options = mount_options_from(json["mount"]);
    if (!options) return options.error();
    return std::optional<MountOptions>(std::move(*options));
}

}  // namespace refault::daemon
