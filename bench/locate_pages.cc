// The walk over page tables: real processes that map and have touched pages of one device.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>

#include "bench/crowd.h"
#include "bench/locate_growth.h"
#include "failure/locator.h"

namespace refault::bench {

namespace {

using base::kPageBytes;

constexpr std::uint64_t kDeviceBytes = 8ull << 30;  // holes but for what is touched
constexpr std::uint64_t kSegmentBytes = 1ull << 30;

// What each process maps. Its touched pages are `stride` pages apart.
struct Shape {
    std::size_t processes = 1;
    std::uint64_t pages = 0;
    std::uint64_t mappings = 1;
    std::uint64_t stride = 1;
};

class TouchedDevice {
  public:
    static Result<std::unique_ptr<TouchedDevice>> create() {
        std::unique_ptr<TouchedDevice> made(new TouchedDevice);
        if (::mkdtemp(made->directory_.data()) == nullptr) return base::sys_error("mkdtemp");
        device::DeviceSpec spec;
        spec.name = "a";
        spec.kind = device::DeviceKind::Dir;
        spec.path = made->directory_;
        spec.size_bytes = kDeviceBytes;
        spec.segment_bytes = kSegmentBytes;
        auto device = device::Device::create(spec, base::Uuid{});
        if (!device) return device.error();
        made->device_ = std::move(*device);
        for (std::uint32_t i = 0; i < made->device_->segment_count(); ++i)
            RETURN_IF_ERROR(made->device_->create_segment(base::SegmentNo(i)));
        return made;
    }
    ~TouchedDevice() {
        device_.reset();
        std::error_code failure;
        std::filesystem::remove_all(directory_, failure);
    }
    const device::Device& device() const { return *device_; }
    base::DeviceRange whole() const { return {0, device_->capacity_bytes()}; }
    // Gives the memory back.
    Status empty() { return device_->punch(whole()); }

    // In a process of its own: maps the device's first pages in pieces that the kernel cannot join
    // (they are pages apart in the file) and writes to them.
    void touch(const Shape& shape) const {
        const auto pages_each = shape.pages / shape.mappings;
        const auto bytes_each = pages_each * shape.stride * kPageBytes;
        const auto gap = shape.mappings > 1 ? kPageBytes : 0;
        for (std::uint64_t m = 0; m < shape.mappings; ++m)
            touch_range(base::DeviceRange::of_length(m * (bytes_each + gap), bytes_each),
                        shape.stride);
    }

  private:
    TouchedDevice() = default;
    void touch_range(base::DeviceRange range, std::uint64_t stride) const {
        auto next = range.begin();
        for (auto left = range; !left.empty();) {
            const auto segment = device_->segment_range(device_->segment_at(left.begin()));
            const auto part = left.intersect(segment);
            const auto fd =
                device_->open_segment(device_->segment_at(left.begin()), base::Access::ReadWrite);
            if (!fd) ::_exit(1);
            void* const memory =
                ::mmap(nullptr, part.length(), PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(),
                       static_cast<off_t>(part.begin() - segment.begin()));
            if (memory == MAP_FAILED) ::_exit(1);
            auto* const bytes = static_cast<volatile unsigned char*>(memory);
            for (; next < part.end(); next += stride * kPageBytes) bytes[next - part.begin()] = 1;
            left = base::DeviceRange(part.end(), range.end());
        }
    }

    std::string directory_ = "/dev/shm/refault-bench-XXXXXX";
    std::unique_ptr<device::Device> device_;
};

const char* name_of(sys::PagemapMethod method) {
    return method == sys::PagemapMethod::Scan ? "scan" : "entries";
}

// One row: the median time of a query, and the CHECK that it has found every page of everybody.
Status measure(const TouchedDevice& touched, const Shape& shape, std::uint64_t query_pages,
               sys::PagemapMethod method, Report& report, const Options& options) {
    const auto range = query_pages == 1 ? base::DeviceRange(0, kPageBytes) : touched.whole();
    std::vector<double> times;
    std::uint64_t read = 0;
    for (int run = 0; run <= options.runs; ++run) {
        auto tables = failure::read_page_tables(touched.device(), range, {"/proc", method});
        if (!tables) return tables.error();
        std::uint64_t present = 0;
        for (const auto& mapping : tables->mappings) present += mapping.present_bytes();
        CHECK(present == shape.processes * query_pages * kPageBytes);
        read = tables->processes_read;
        if (run > 0) times.push_back(tables->seconds * 1e6);
    }
    report.row({{"locator", "pages"},
                {"method", name_of(method)},
                {"processes", shape.processes},
                {"pages_each", shape.pages},
                {"mappings_each", shape.mappings},
                {"page_stride", shape.stride},
                {"query_pages", query_pages},
                {"processes_read", read},
                {"us_per_query", median(times)}});
    return {};
}

}  // namespace

Status measure_by_pages(Report& report, const Options& options) {
    auto touched = TouchedDevice::create();
    if (!touched) return touched.error();
    report.input("query of pages",
                 "the first page of a device, or all of it; every process has "
                 "touched pages_each pages of it");
    std::vector<sys::PagemapMethod> methods = {sys::PagemapMethod::Entries};
    if (sys::has_pagemap_scan()) methods.push_back(sys::PagemapMethod::Scan);
    for (const auto& shape : std::initializer_list<Shape>{{1, 1'000},
                                                          {1, 10'000},
                                                          {1, 100'000},
                                                          {1, 1'000'000},
                                                          {1, 100'000, 1, 2},
                                                          {1, 1'000, 1, 1'500},
                                                          {8, 10'000},
                                                          {64, 10'000},
                                                          {1, 10'000, 100},
                                                          {1, 10'000, 10'000}}) {
        const auto free_pages = static_cast<std::uint64_t>(::sysconf(_SC_AVPHYS_PAGES));
        if (shape.pages > free_pages / 2) {
            report.input("left out", std::to_string(shape.pages) + " pages: too little memory");
            continue;
        }
        const Crowd crowd(shape.processes, [&] { (*touched)->touch(shape); });
        for (const auto method : methods)
            for (const std::uint64_t query_pages : {std::uint64_t{1}, shape.pages})
                RETURN_IF_ERROR(measure(**touched, shape, query_pages, method, report, options));
        RETURN_IF_ERROR((*touched)->empty());
    }
    return {};
}

}  // namespace refault::bench
