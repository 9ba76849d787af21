// Transactions of the journal, and the checkpoint image of what they make. Whatever the operations
// are, each fits or is refused and changes nothing; the state keeps what state.h promises; and the
// image that would be written of it builds the same state again.
#include <array>
#include <set>
#include <string>

#include "fuzz/target.h"
#include "store/check_report.h"
#include "store/operation.h"
#include "store/state.h"

namespace refault::fuzz {
namespace {

using namespace store;

// A device with many segments takes some memory for its books, so their number is limited here.
constexpr std::size_t kDevicesMax = 4;

op::CreateInode inode_of(std::uint64_t number, FileType type) {
    Attributes attributes;
    attributes.inode = InodeNo(number);
    attributes.type = type;
    attributes.mode = 0755;
    attributes.size_bytes = 1u << 20;
    return {attributes};
}

std::vector<Bytes> seeds() {
    const base::Uuid pool{{1}}, a{{2}}, b{{3}}, lost{{4}};
    const DeviceId first(1), second(2), third(3);
    const InodeNo root(1), directory(2), file(3), link(4), other(5);
    const Extent primary{file, 0, first, 0, 16384, 0}, copy{file, 0, second, 0, 16384, 1};
    const Extent middle{file, 4096, second, 4096, 4096, 1};
    const std::vector<Operation> names{
        op::SetPool{pool, "pool"},
        op::SetCounters{InodeNo(9), DeviceId(4)},
        inode_of(1, FileType::Directory),
        inode_of(2, FileType::Directory),
        inode_of(3, FileType::Regular),
        inode_of(4, FileType::Symlink),
        op::SetNode{link, 0, "d/f"},
        inode_of(5, FileType::CharDevice),
        op::SetNode{other, 259, ""},
        op::LinkName{root, "d", directory},
        op::LinkName{directory, "f", file},
        op::LinkName{root, "again", file},
        op::LinkName{root, "l", link},
        op::LinkName{root, "null", other},
        op::SetTimes{file, 1, 2, 3},
        op::SetExtended{file, "user.x", {1, 2, 3}},
        op::SetExtended{file, "user.y", {}},
        op::RemoveExtended{file, "user.y"},
        op::UnlinkName{directory, "f"},
        op::UnlinkName{root, "null"},
        op::RemoveInode{other},
        inode_of(6, FileType::Fifo),
        op::UpdateInode{inode_of(3, FileType::Regular).attributes},
    };
    const std::vector<Operation> extents{
        op::AddDevice{first, a, "a", 65536, 8},
        op::AddDevice{second, b, "b", 65536, 8},
        op::SetGeneration{first, 2},
        inode_of(1, FileType::Directory),
        inode_of(3, FileType::Regular),
        op::LinkName{root, "f", file},
        op::OwnSegment{first, SegmentNo(0), {SegmentOwner::Kind::SharedByUser, 1000, {}}},
        op::OwnSegment{second, SegmentNo(0), {SegmentOwner::Kind::Exclusive, 0, file}},
        op::AddExtent{primary},
        op::AddExtent{copy},
        op::SetUnsynced{file, true},
        op::SetTakenOver{file, 0, 4096, true},
        op::CutExtent{middle},
        op::RenumberExtent{{file, 0, second, 0, 4096, 1}, 2},
        op::MarkLost{file, {FileRange(16384, 32768), FailureKind::Poison, first, 16384, 5}},
        op::ClearLost{file, 20480, 24576},
        op::DropExtents{file, 8192},
    };
    const std::vector<Operation> absences{
        op::AddDevice{third, lost, "c", 65536, 8},
        op::OwnSegment{third, SegmentNo(1), {SegmentOwner::Kind::SharedByUser, 1000, {}}},
        op::SetGeneration{third, 7},
        op::NoteAbsent{{file, 0, third, 65536, 4096, 0}},
        op::DisownSegment{third, SegmentNo(1)},
        op::LoseDevice{third, lost, "c", 65536, 8},
        op::LoseDevice{second, b, "b", 65536, 8},
        op::ForgetAbsent{second},
        op::AddDevice{first, a, "a", 65536, 8},
        op::RemoveDevice{first},
    };
    auto everything = names;
    everything.insert(everything.end(), absences.begin(), absences.end());
    return {encode_operations(names), encode_operations(extents), encode_operations(absences),
            encode_operations(everything)};
}

// Images list inodes in any order; as sets of operations they compare.
std::multiset<Bytes> image_of(const State& state) {
    std::multiset<Bytes> all;
    for (const auto& record : state.image()) {
        const auto operations = decode_operations(record);
        CHECK(operations.ok());
        for (const auto& operation : *operations) all.insert(encode_operations({&operation, 1}));
    }
    return all;
}

// What the store sees to and not the state: a history may say so, and is repaired or reported.
bool is_the_stores(const std::string& line) {
    static constexpr std::array<const char*, 6> kEnds{"lies beyond the end of its file",
                                                      "has two copies on one device",
                                                      "is a copy of nothing",
                                                      "has lost what lies beyond its end",
                                                      "cannot be reached from the root",
                                                      "would be given again"};
    return std::any_of(kEnds.begin(), kEnds.end(),
                       [&](const char* end) { return line.ends_with(end); });
}

void run(Input input) {
    const auto operations = decode_operations(input);
    if (!operations) return;
    CHECK(same_bytes(encode_operations(*operations), input));
    State state;
    auto image = image_of(state);
    for (const auto& operation : *operations) {
        if (std::holds_alternative<op::AddDevice>(operation) &&
            state.devices().size() == kDevicesMax)
            continue;
        const bool fits = state.apply(operation).ok();
        auto after = image_of(state);
        if (!fits) CHECK(after == image);
        image = std::move(after);
    }
    Report report;
    check_inodes(
        state, [](InodeNo) { return true; }, report);
    for (const auto& line : report.take()) CHECK(is_the_stores(line));
    State again;
    for (const auto& record : state.image()) CHECK(again.apply_record(record).ok());
    CHECK(image_of(again) == image);
}

const Registration registered({"operations", seeds, run, 20'000});

}  // namespace
}  // namespace refault::fuzz
