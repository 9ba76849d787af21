// What people write on command lines and in requests: devices, sizes, identities. What is taken is
// written in one way, and that is taken again.
#include <string>

#include "base/units.h"
#include "base/uuid.h"
#include "device/spec.h"
#include "fuzz/target.h"

namespace refault::fuzz {
namespace {

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (const std::string text :
         {"fast=ram:512M,node=1", "pm.0=dir:/mnt/pmem0/a=b:c,size=2G,segment=64K", "ram:1G",
          "x=dir:/mnt", "0x300000", "1.5GiB", "512M", "efe6bcae-16c1-4e8d-a584-850628088b06"})
        all.emplace_back(text.begin(), text.end());
    return all;
}

void check_spec(const std::string& text, const std::string& default_name) {
    const auto spec = device::parse_device_spec(text, default_name);
    if (!spec) return;
    CHECK(device::is_device_name(spec->name));
    CHECK(!spec->segment_bytes || device::is_segment_size(*spec->segment_bytes));
    const auto again = device::parse_device_spec(spec->name + "=" + spec->to_string());
    CHECK(again.ok());
    CHECK(again->name == spec->name && again->kind == spec->kind && again->path == spec->path);
    CHECK(again->size_bytes == spec->size_bytes && again->numa_node == spec->numa_node);
    CHECK(again->segment_bytes == spec->segment_bytes);
}

void run(Input input) {
    const std::string text(input.begin(), input.end());
    check_spec(text, "");
    check_spec(text, "d0");
    if (const auto uuid = base::Uuid::parse(text)) CHECK(uuid->to_string() == text);
    if (const auto size = base::parse_size(text)) CHECK(!base::format_size(*size).empty());
}

const Registration registered({"spec", seeds, run, 300'000});

}  // namespace
}  // namespace refault::fuzz
