// Reading page tables, and putting the three answers into one form.
#include "failure/locator.h"

#include <algorithm>
#include <chrono>

#include "failure/segment_files.h"
#include "sys/process.h"

namespace refault::failure {

using base::Code;
using base::Error;
using base::Status;

namespace {

// A process that maps and unmaps all the time is read so often; then its last answer is given, and
// it is named among the unreadable ones.
constexpr int kReadingsMax = 3;

// Ranges in any order to disjoint ones, ascending, neighbours joined.
std::vector<DeviceRange> joined(std::vector<DeviceRange> ranges) {
    std::sort(ranges.begin(), ranges.end());
    std::vector<DeviceRange> result;
    for (const auto range : ranges) {
        if (!result.empty() && range.begin() <= result.back().end())
            result.back() =
                DeviceRange(result.back().begin(), std::max(result.back().end(), range.end()));
        else
            result.push_back(range);
    }
    return result;
}

class TableReader {
  public:
    TableReader(const device::Device& device, DeviceRange range, const SegmentMatcher& matcher,
                const PageSources& sources)
        : device_(device), range_(range), matcher_(matcher), sources_(sources) {}

    // All of one process. An error: something of it could not be read; what could is in `tables`.
    Status read(pid_t pid, PageTables& tables) const {
        std::vector<PageMapping> mappings;
        Status outcome;
        auto maps = mappings_of(pid);
        if (!maps) return maps.error();
        for (int reading = 1; !maps->mappings.empty(); ++reading) {
            mappings.clear();
            outcome = read_pages(*maps, mappings);
            // What was unmapped meanwhile may have become something else at the same addresses:
            // its pages would be taken for pages of the device.
            auto after = mappings_of(pid);
            if (!after) {
                if (after.error().code() == Code::Gone) return after.error();
                outcome = after.error();
                break;
            }
            const bool is_settled = after->mappings == maps->mappings &&
                                    (outcome.ok() || outcome.error().code() != Code::Gone);
            if (is_settled) break;
            if (reading == kReadingsMax) {
                outcome = Error(Code::Busy, "its mappings changed while they were read; ask again");
                break;
            }
            maps = std::move(after);
        }
        if (maps->mappings.empty()) return {};
        const auto command = sys::command_of(pid, sources_.proc_root);
        for (auto& mapping : mappings) {
            mapping.pid = pid;
            mapping.command = command;
            tables.mappings.push_back(std::move(mapping));
        }
        return outcome;
    }

  private:
    struct Found {
        pid_t reader = 0;
        std::vector<SegmentMatcher::Mapping> mappings;
    };

    // The process's mappings of the range.
    Result<Found> mappings_of(pid_t pid) const {
        const auto maps = sys::read_process_maps(pid, sources_.proc_root);
        if (!maps) return maps.error();
        Found found{maps->reader, matcher_.mappings_of_segments(*maps, sources_.proc_root)};
        std::erase_if(found.mappings, [&](const auto& mapping) {
            return !mapping.segment || device_part(mapping).empty();
        });
        return found;
    }

    // What the mapping shows of the range asked for.
    DeviceRange device_part(const SegmentMatcher::Mapping& mapping) const {
        const auto segment = device_.segment_range(*mapping.segment);
        const auto length = mapping.entry.addresses.length();
        // Also a mapping that reaches beyond the end of its file.
        if (mapping.entry.file_offset >= segment.length()) return {};
        const auto begin = segment.begin() + mapping.entry.file_offset;
        return DeviceRange(begin, begin + std::min(length, segment.end() - begin))
            .intersect(range_);
    }

    Status read_pages(const Found& found, std::vector<PageMapping>& into) const {
        const auto pagemap = sys::Pagemap::open(found.reader, sources_.proc_root, sources_.method);
        Status outcome;
        if (!pagemap) outcome = pagemap.error();
        for (const auto& mapping : found.mappings) {
            PageMapping one;
            one.path = mapping.entry.path;
            one.is_shared = mapping.entry.is_shared;
            one.device_range = device_part(mapping);
            const auto file_begin = device_.segment_range(*mapping.segment).begin();
            const auto skipped = one.device_range.begin() - file_begin - mapping.entry.file_offset;
            one.addresses = AddressRange::of_length(mapping.entry.addresses.begin() + skipped,
                                                    one.device_range.length());
            if (pagemap) {
                const auto runs = pagemap->runs(one.addresses);
                if (runs) {
                    one.are_pages_known = true;
                    one.present = pages_of_device(one, *runs);
                } else {
                    outcome = runs.error();
                }
            }
            into.push_back(std::move(one));
        }
        return outcome;
    }

    static std::vector<DeviceRange> pages_of_device(const PageMapping& mapping,
                                                    const std::vector<sys::PageRun>& runs) {
        std::vector<DeviceRange> present;
        for (const auto& run : runs) {
            // A shared mapping has no pages of its own, whatever the kernel says of DAX pages.
            if (!run.is_file && !(run.is_present && mapping.is_shared)) continue;
            const auto part = run.addresses.intersect(mapping.addresses);
            if (part.empty()) continue;
            present.push_back(DeviceRange::of_length(
                mapping.device_range.begin() + (part.begin() - mapping.addresses.begin()),
                part.length()));
        }
        return joined(std::move(present));
    }

    const device::Device& device_;
    const DeviceRange range_;
    const SegmentMatcher& matcher_;
    const PageSources& sources_;
};

}  // namespace

Result<LocateBy> parse_locate_by(std::string_view name) {
    if (name == "rmap") return LocateBy::Rmap;
    if (name == "inodes") return LocateBy::Inodes;
    if (name == "pages") return LocateBy::Pages;
    return Error(Code::Invalid, "a range is located by rmap, inodes or pages; name one of them");
}

std::uint64_t PageMapping::present_bytes() const {
    std::uint64_t sum = 0;
    for (const auto range : present) sum += range.length();
    return sum;
}

Result<PageTables> read_page_tables(const device::Device& device, DeviceRange range,
                                    const PageSources& sources) {
    const auto start = std::chrono::steady_clock::now();
    const auto files = list_segment_files(device, range);
    if (!files) return files.error();
    const auto processes = sys::list_processes(sources.proc_root);
    if (!processes) return processes.error();
    const SegmentMatcher matcher(*files);
    const TableReader reader(device, range, matcher, sources);
    PageTables tables;
    for (const pid_t pid : *processes) {
        const auto done = reader.read(pid, tables);
        if (done.ok())
            ++tables.processes_read;
        else if (done.error().code() != Code::Gone)
            tables.unreadable.push_back(
                {pid, sys::command_of(pid, sources.proc_root), done.error().message()});
    }
    tables.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return tables;
}

Result<Location> locate(const store::Store& store, DeviceId id, DeviceRange range, LocateBy by,
                        const PageSources& sources) {
    // Held over the reading: a device that leaves meanwhile stays readable.
    const auto device = store.device(id);
    if (!device) return device.error();
    if (by == LocateBy::Rmap) return Location{store.locate(id, range), {}};
    if (by == LocateBy::Inodes) return Location{store.locate_by_inodes(id, range), {}};
    auto tables = read_page_tables(**device, range, sources);
    if (!tables) return tables.error();
    std::vector<DeviceRange> mapped;
    for (const auto& mapping : tables->mappings)
        mapped.insert(mapped.end(), mapping.present.begin(), mapping.present.end());
    Location location;
    for (const auto part : joined(std::move(mapped)))
        for (const auto& owner : store.locate(id, part)) location.owners.push_back(owner);
    location.page_tables = std::move(*tables);
    return location;
}

}  // namespace refault::failure
