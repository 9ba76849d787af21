// Parsing device specifications.
#include "device/spec.h"

#include <algorithm>
#include <bit>
#include <charconv>

#include "base/units.h"

namespace refault::device {

using base::Code;
using base::Error;
using base::Result;

namespace {

constexpr std::uint64_t kChosenBytesMin = 2ull << 20;
constexpr std::uint64_t kSegmentsWanted = 128;
constexpr std::size_t kNameMax = 63;

}  // namespace

bool is_device_name(std::string_view name) noexcept {
    const auto is_allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '.' || c == '_' || c == '-';
    };
    return !name.empty() && name.size() <= kNameMax && name[0] != '.' && name[0] != '-' &&
           std::all_of(name.begin(), name.end(), is_allowed);
}

bool is_segment_size(std::uint64_t bytes) noexcept {
    return std::has_single_bit(bytes) && bytes >= kSegmentBytesMin && bytes <= kSegmentBytesMax;
}

namespace {

Error bad_spec(std::string_view text, std::string_view why) {
    return Error(Code::Invalid, "not a device: '" + std::string(text) + "': " + std::string(why) +
                                    " (write NAME=ram:SIZE[,node=N] or NAME=dir:PATH[,size=SIZE])");
}

base::Status apply_option(DeviceSpec& spec, std::string_view text, std::string_view option) {
    const auto equals = option.find('=');
    const auto key = option.substr(0, equals);
    const auto value = equals == option.npos ? std::string_view() : option.substr(equals + 1);
    if (key == "node" && spec.kind == DeviceKind::Ram) {
        int node = -1;
        const auto parsed = std::from_chars(value.data(), value.data() + value.size(), node);
        if (parsed.ec != std::errc{} || parsed.ptr != value.data() + value.size() || node < 0)
            return bad_spec(text, "node is a number");
        spec.numa_node = node;
        return {};
    }
    if ((key == "size" && spec.kind == DeviceKind::Dir) || key == "segment") {
        auto size = base::parse_size(value);
        if (!size) return bad_spec(text, size.error().message());
        if (key == "size") {
            spec.size_bytes = *size;
        } else {
            if (!is_segment_size(*size))
                return bad_spec(text, "segment is a power of two from 4K to 1G");
            spec.segment_bytes = *size;
        }
        return {};
    }
    return bad_spec(text, "unknown option '" + std::string(key) + "'");
}

}  // namespace

std::string DeviceSpec::to_string() const {
    const bool is_dir = kind == DeviceKind::Dir;
    std::string text = is_dir ? "dir:" + path : "ram:" + base::exact_size(size_bytes);
    if (is_dir && size_bytes != 0) text += ",size=" + base::exact_size(size_bytes);
    if (numa_node) text += ",node=" + std::to_string(*numa_node);
    if (segment_bytes) text += ",segment=" + base::exact_size(*segment_bytes);
    return text;
}

std::uint64_t choose_segment_bytes(std::uint64_t capacity_bytes) noexcept {
    const auto wanted =
        std::bit_floor(std::max<std::uint64_t>(capacity_bytes / kSegmentsWanted, 1));
    return std::clamp(wanted, kChosenBytesMin, kSegmentBytesMax);
}

Result<DeviceSpec> parse_device_spec(std::string_view text, std::string_view default_name) {
    DeviceSpec spec;
    std::string_view rest = text;
    const auto equals = rest.find('=');
    if (equals != rest.npos && equals < rest.find(':')) {
        spec.name = rest.substr(0, equals);
        rest.remove_prefix(equals + 1);
    } else {
        spec.name = default_name;
    }
    if (!is_device_name(spec.name))
        return bad_spec(text,
                        "the name has 1 to 63 letters, digits, '.', '_' or '-', and begins with "
                        "neither '.' nor '-'");
    if (rest.starts_with("ram:"))
        spec.kind = DeviceKind::Ram;
    else if (rest.starts_with("dir:"))
        spec.kind = DeviceKind::Dir;
    else
        return bad_spec(text, "the kind is ram: or dir:");
    rest.remove_prefix(4);
    auto comma = rest.find(',');
    const auto main_part = rest.substr(0, comma);
    if (spec.kind == DeviceKind::Ram) {
        auto size = base::parse_size(main_part);
        if (!size) return bad_spec(text, size.error().message());
        spec.size_bytes = *size;
    } else {
        if (!main_part.starts_with('/')) return bad_spec(text, "the path is absolute");
        spec.path = main_part;
    }
    while (comma != rest.npos) {
        rest.remove_prefix(comma + 1);
        comma = rest.find(',');
        RETURN_IF_ERROR(apply_option(spec, text, rest.substr(0, comma)));
    }
    return spec;
}

}  // namespace refault::device
