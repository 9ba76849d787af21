// The hand-over as JSON in a memory file.
#include "daemon/hand_over.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <span>

#include "daemon/mount_record.h"
#include "sys/file.h"

namespace refault::daemon {

using base::Code;
using base::Error;
using base::Result;
using base::Status;
using base::UniqueFd;
using Json = nlohmann::json;

namespace {

// A kernel may remember millions of inodes.
constexpr std::uint64_t kBytesMax = 4ull << 30;

// Not closed any more by this program, nor by execve.
Result<int> inherited(UniqueFd fd) {
    if (!fd) return -1;
    if (::fcntl(fd.get(), F_SETFD, 0) != 0) return base::sys_error("keep a descriptor open");
    return fd.release();
}

Json device_json(const device::HandedOverDevice& device, const std::string& slot, int lock) {
    Json json{{"name", device.spec.name},
              {"spec", device.spec.to_string()},
              {"ram_directory", device.spec.ram_directory},
              {"directory", device.directory},
              {"private_mount", device.is_private_mount},
              {"owns_directory", device.owns_directory},
              {"slot", slot},
              {"lock", lock}};
    return json;
}

Json mount_json(const mount::HandedOver& mount, int connection) {
    Json opens = Json::array(), listings = Json::array(), remembered = Json::array();
    for (const auto& one : mount.opens)
        opens.push_back({one.inode.raw(), one.cached, one.direct, one.was_direct, one.was_dropped,
                         one.is_claimed});
    // Names are any bytes.
    for (const auto& one : mount.listings) {
        Json starts = Json::array();
        for (const auto& start : one.starts)
            starts.push_back(std::vector<std::uint8_t>(start.begin(), start.end()));
        listings.push_back({{"number", one.number}, {"starts", starts}});
    }
    for (const auto& [inode, count] : mount.remembered) remembered.push_back({inode.raw(), count});
    return Json{{"options", to_json(mount.options)},
                {"pool_name", mount.options.pool_name},
                {"connection", connection},
                {"init_request", mount.agreement.request},
                {"init_reply", mount.agreement.reply},
                {"remembered", std::move(remembered)},
                {"opens", std::move(opens)},
                {"listings", std::move(listings)}};
}

// Json's exceptions are how a field that is not what it should be is found.
mount::HandedOver mount_from(const Json& json) {
    mount::HandedOver mount;
    auto options = mount_options_from(json.at("options"));
    if (!options) throw Json::other_error::create(501, options.error().message(), &json);
    mount.options = std::move(*options);
    mount.options.pool_name = json.at("pool_name").get<std::string>();
    mount.connection = UniqueFd(json.at("connection").get<int>());
    mount.agreement.request = json.at("init_request").get<std::vector<std::uint8_t>>();
    mount.agreement.reply = json.at("init_reply").get<std::vector<std::uint8_t>>();
    for (const auto& one : json.at("remembered"))
        mount.remembered.emplace_back(base::InodeNo(one.at(0).get<std::uint64_t>()),
                                      one.at(1).get<std::uint64_t>());
    for (const auto& one : json.at("opens"))
        mount.opens.push_back({base::InodeNo(one.at(0).get<std::uint64_t>()),
                               one.at(1).get<std::uint32_t>(), one.at(2).get<std::uint32_t>(),
                               one.at(3).get<bool>(), one.at(4).get<bool>(),
                               one.at(5).get<bool>()});
    for (const auto& one : json.at("listings")) {
        mount::OpenListing listing{one.at("number").get<std::uint64_t>(), {}};
        for (const auto& start : one.at("starts")) {
            const auto bytes = start.get<std::vector<std::uint8_t>>();
            listing.starts.emplace_back(bytes.begin(), bytes.end());
        }
        mount.listings.push_back(std::move(listing));
    }
    return mount;
}

Result<device::HandedOverDevice> device_from(const Json& json) {
    auto spec = device::parse_device_spec(json.at("spec").get<std::string>(),
                                          json.at("name").get<std::string>());
    if (!spec) return spec.error();
    device::HandedOverDevice device;
    device.spec = std::move(*spec);
    device.spec.ram_directory = json.at("ram_directory").get<std::string>();
    device.directory = json.at("directory").get<std::string>();
    device.is_private_mount = json.at("private_mount").get<bool>();
    device.owns_directory = json.at("owns_directory").get<bool>();
    device.lock = UniqueFd(json.at("lock").get<int>());
    return device;
}

Result<HandOver> from_json(const Json& json) {
    HandOver hand_over;
    hand_over.run_dir = UniqueFd(json.at("run_dir").get<int>());
    hand_over.upgrades = json.at("upgrades").get<std::uint64_t>();
    hand_over.last_event = json.at("last_event").get<std::uint64_t>();
    hand_over.listener = UniqueFd(json.at("listener").get<int>());
    for (const auto& one : json.at("devices")) {
        auto device = device_from(one);
        if (!device) return device.error();
        hand_over.devices.push_back(std::move(*device));
        hand_over.slots.push_back(one.at("slot").get<std::string>());
    }
    if (json.contains("mount")) hand_over.mount = mount_from(json.at("mount"));
    return hand_over;
}

// What this program inherited is its own from here on.
void keep_from_children(const HandOver& hand_over) {
    const auto keep = [](const UniqueFd& fd) {
        if (fd) (void)::fcntl(fd.get(), F_SETFD, FD_CLOEXEC);
    };
    keep(hand_over.run_dir);
    keep(hand_over.listener);
    for (const auto& device : hand_over.devices) keep(device.lock);
    if (hand_over.mount) keep(hand_over.mount->connection);
}

}  // namespace

Result<UniqueFd> write_hand_over(HandOver hand_over) {
    const auto run_dir = inherited(std::move(hand_over.run_dir));
    if (!run_dir) return run_dir.error();
    const auto listener = inherited(std::move(hand_over.listener));
    if (!listener) return listener.error();
    Json json{{"format", kHandOverFormat},      {"run_dir", *run_dir},
              {"upgrades", hand_over.upgrades}, {"last_event", hand_over.last_event},
              {"listener", *listener},          {"devices", Json::array()}};
    for (std::size_t i = 0; i < hand_over.devices.size(); ++i) {
        const auto lock = inherited(std::move(hand_over.devices[i].lock));
        if (!lock) return lock.error();
        json["devices"].push_back(device_json(hand_over.devices[i], hand_over.slots[i], *lock));
    }
    if (hand_over.mount) {
        const auto connection = inherited(std::move(hand_over.mount->connection));
        if (!connection) return connection.error();
        json["mount"] = mount_json(*hand_over.mount, *connection);
    }
    const auto bytes = Json::to_cbor(json);
    UniqueFd file(::memfd_create("refault-hand-over", MFD_CLOEXEC));
    if (!file) return base::sys_error("make a memory file");
    RETURN_IF_ERROR(sys::write_fully(file.get(), 0, bytes));
    if (::fcntl(file.get(), F_SETFD, 0) != 0) return base::sys_error("keep a descriptor open");
    return file;
}

Result<HandOver> read_hand_over(int fd) {
    const auto wrong = [](const std::string& why) {
        return Error(Code::Corrupt, "what --take-over names is no hand-over of a daemon: " + why);
    };
    const UniqueFd file(fd);
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return wrong("no memory file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > kBytesMax) return wrong("it is too long");
    std::vector<std::uint8_t> bytes(size);
    RETURN_IF_ERROR(sys::read_fully(fd, 0, bytes));
    const auto json = Json::from_cbor(bytes, /*strict=*/true, /*allow_exceptions=*/false);
    if (!json.is_object()) return wrong("it cannot be decoded");
    if (json.value("format", Json()) != kHandOverFormat)
        return Error(Code::NotSupported, "the daemon before hands over in another format");
    try {
        auto hand_over = from_json(json);
        if (hand_over) keep_from_children(*hand_over);
        return hand_over;
    } catch (const Json::exception& error) {
        return wrong(error.what());
    }
}

}  // namespace refault::daemon
