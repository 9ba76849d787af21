// A pool whose journal says anything that decodes: it is refused with an error, or opened. Then its
// files can be read, written, cut and moved or give errors, and once it was opened it opens again.
//
//   input   [bit 0: without the second device, which comes back in the end][operations behind those
//           that make an empty pool]
#include <memory>
#include <optional>

#include "fuzz/devices.h"
#include "store/metadata_log.h"
#include "store/operation.h"
#include "store/store.h"

namespace refault::fuzz {
namespace {

using namespace store;

constexpr std::uint64_t kSegmentBytes = 65536;
constexpr std::uint32_t kSegments = 16;
constexpr std::size_t kFilesMax = 8;

base::Uuid uuid_of(std::uint32_t number) {
    base::Uuid uuid;
    uuid.bytes.fill(static_cast<std::uint8_t>(number));
    return uuid;
}

const base::Uuid kPool = uuid_of(7);

// Takes the devices' last segments for the journal, so that operations can have the first.
class LastSegments final : public MetadataSpace {
  public:
    explicit LastSegments(const std::vector<DevicePtr>& devices) : devices_(devices) {}
    Result<SegmentNo> take(DeviceId id) override {
        const auto& device = devices_[id.raw() - 1];
        for (auto i = kSegments; i-- > 0;)
            if (!device->has_segment(SegmentNo(i))) {
                RETURN_IF_ERROR(device->create_segment(SegmentNo(i)));
                return SegmentNo(i);
            }
        return base::Error(base::Code::NoSpace, "no segment is left");
    }
    void give_back(DeviceId id, SegmentNo segment) override {
        base::discard(devices_[id.raw() - 1]->release_segment(segment), "it goes with the device");
    }

  private:
    const std::vector<DevicePtr>& devices_;
};

std::vector<Operation> empty_pool() {
    Attributes root;
    root.inode = base::kRootInode;
    root.type = FileType::Directory;
    root.mode = 01777;
    return {op::SetPool{kPool, "pool"},
            op::AddDevice{DeviceId(1), uuid_of(1), "a", kSegmentBytes, kSegments},
            op::AddDevice{DeviceId(2), uuid_of(2), "b", kSegmentBytes, kSegments},
            op::CreateInode{root}};
}

// False when the journal has no room for it.
bool write_pool(Devices& directory, Input operations) {
    std::vector<DevicePtr> devices;
    std::vector<MetadataLog::Copy> copies;
    for (std::uint32_t i = 1; i <= 2; ++i) {
        devices.push_back(
            directory.make(std::string(1, char('a' + i - 1)), kSegmentBytes, kSegments, kPool));
        device::Label label;
        label.device = uuid_of(i);
        label.pool = kPool;
        label.name = devices.back()->name();
        label.id = DeviceId(i);
        label.segment_bytes = kSegmentBytes;
        label.segment_count = kSegments;
        CHECK(devices.back()->write_label(label).ok());
        copies.push_back({label.id, devices.back()});
    }
    LastSegments space(devices);
    MetadataLog log(kPool, space);
    const std::vector<Bytes> image{encode_operations(empty_pool()),
                                   Bytes(operations.begin(), operations.end())};
    return log.checkpoint(copies, image).ok();
}

DevicePtr open_device(const Devices& directory, const std::string& name) {
    device::DeviceSpec spec;
    spec.name = name;
    spec.kind = device::DeviceKind::Dir;
    spec.path = directory.path() / name;
    auto device = device::Device::open(spec);
    CHECK(device.ok());
    return std::move(*device);
}

std::unique_ptr<Store> open(const Devices& directory, bool is_degraded) {
    std::vector<DevicePtr> devices{open_device(directory, "a")};
    if (!is_degraded) devices.push_back(open_device(directory, "b"));
    auto opened = Store::open(std::move(devices), is_degraded);
    return opened ? std::move(*opened) : nullptr;
}

template <typename T>
void done(const T& result) {
    base::discard(result, "errors are as good as success");
}

void use_file(Store& store, InodeNo inode) {
    done(store.stat(store.path_of(inode), {}));
    done(store.next_data(inode, 0));
    done(store.next_hole(inode, 0));
    base::discard(store.reserve_copies(inode, kSegmentBytes), "only what it does counts");
    const auto layout = store.lock_layout(inode);
    Bytes bytes(10'000, 1);
    done(store.read(inode, 0, bytes));
    done(store.write_growing(inode, 5'000, bytes));
    done(store.read(inode, UINT64_MAX - 5, bytes));
    done(store.populate(inode, FileRange(0, kSegmentBytes)));
    done(store.sync(inode, FileRange(0, UINT64_MAX)));
    done(store.heal(inode, FileRange(0, UINT64_MAX)));
    done(store.deallocate(inode, FileRange(4'000, UINT64_MAX)));
    done(store.set_size(inode, 9'999));
    done(store.resize(inode, 20'000));
}

void use(Store& store) {
    store.check();
    store.files_that_need_attention();
    store.all_lost();
    for (const auto& usage : store.usage()) {
        const base::DeviceRange whole(0, usage.capacity_bytes);
        store.locate(usage.id, whole);
        store.locate_by_inodes(usage.id, whole);
        if (const auto moves = store.reserve_evacuation(usage.id, kSegmentBytes))
            store.abort_moves(*moves);
    }
    auto files = store.files();
    if (files.size() > kFilesMax) files.resize(kFilesMax);
    for (const auto& [inode, size] : files) use_file(store, inode);
    if (const auto names = store.list("/", {}))
        for (const auto& entry : *names) {
            done(store.unlink("/" + entry.name, {}));
            done(store.remove_directory("/" + entry.name, {}));
        }
}

std::vector<Bytes> seeds() {
    Attributes attributes;
    attributes.inode = InodeNo(2);
    attributes.size_bytes = 70'000;
    attributes.mode = 0644;
    attributes.replicas = 2;
    const InodeNo file(2);
    const SegmentOwner own{SegmentOwner::Kind::Exclusive, 0, file};
    const std::vector<Operation> whole{
        op::CreateInode{attributes},
        op::LinkName{base::kRootInode, "f", file},
        op::OwnSegment{DeviceId(1), SegmentNo(0), own},
        op::OwnSegment{DeviceId(2), SegmentNo(1), own},
        op::AddExtent{{file, 0, DeviceId(1), 0, 32768, 0}},
        op::AddExtent{{file, 0, DeviceId(2), 65536, 32768, 1}},
        op::SetUnsynced{file, true},
        op::SetTakenOver{file, 0, 4096, true},
    };
    auto harmed = whole;
    harmed.push_back(
        op::MarkLost{file, {FileRange(32768, 49152), FailureKind::Poison, DeviceId(1), 32768, 5}});
    harmed.push_back(
        op::MarkLost{file, {FileRange(0, 4096), FailureKind::UnderRepair, DeviceId(1), 0, 5}});
    harmed.push_back(op::LoseDevice{DeviceId(3), uuid_of(3), "c", kSegmentBytes, kSegments});
    harmed.push_back(op::NoteAbsent{{file, 32768, DeviceId(3), 0, 8192, 0}});
    std::vector<Bytes> all;
    for (const std::uint8_t flags : Bytes{0, 1})
        for (const auto& operations : {whole, harmed}) {
            Bytes seed{flags};
            const auto encoded = encode_operations(operations);
            seed.insert(seed.end(), encoded.begin(), encoded.end());
            all.push_back(std::move(seed));
        }
    return all;
}

void run(Input input) {
    // Nothing new behind what does not decode, and it takes long to get there.
    if (input.empty() || !decode_operations(input.subspan(1))) return;
    const bool is_degraded = input[0] % 2 == 1;
    Devices directory;
    if (!write_pool(directory, input.subspan(1))) return;
    auto store = open(directory, is_degraded);
    if (!store) return;
    use(*store);
    store.reset();
    store = open(directory, is_degraded);
    CHECK(store != nullptr);
    if (!is_degraded) return;
    // What is on it is whatever the journal says.
    if (const auto rejoined = store->rejoin_device(open_device(directory, "b")))
        store->abort_moves(rejoined->copies);
    use(*store);
}

const Registration registered({"open", seeds, run, 3'000});

}  // namespace
}  // namespace refault::fuzz
