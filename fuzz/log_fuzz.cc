// Reading the metadata log from two devices on which anything may lie. The input is a script that
// writes records, misses some on one copy, and damages bytes. Where nothing is damaged, exactly
// what was written is read; what is read otherwise must fit together or be refused.
//
//   script   [kind 0..7][copies][length][payload] ...
//            0 checkpoint  1 end of it  2..4 transaction  5 bytes as they are  6 damage  7 a gap
#include <array>
#include <optional>

#include "fuzz/devices.h"
#include "fuzz/script.h"
#include "store/log_record.h"
#include "store/metadata_log.h"
#include "store/operation.h"
#include "store/state.h"

namespace refault::fuzz {
namespace {

using store::LogFrame;
using store::RecordKind;

constexpr std::uint64_t kSegmentBytes = 4096, kEpoch = 3;
constexpr std::uint32_t kSegments = 4;
constexpr std::size_t kStreamBytes = kSegmentBytes * kSegments;

// Two devices whose labels list all segments, in an order of their own.
class Media {
  public:
    Media() {
        pool_.bytes.fill(7);
        for (std::uint32_t i = 0; i < 2; ++i) {
            auto device =
                devices_.make(std::string(1, char('a' + i)), kSegmentBytes, kSegments, pool_);
            device::Label label;
            label.device.bytes.fill(static_cast<std::uint8_t>(i + 1));
            label.pool = pool_;
            label.name = device->name();
            label.id = base::DeviceId(i + 1);
            label.segment_bytes = kSegmentBytes;
            label.segment_count = kSegments;
            label.metadata_epoch = kEpoch;
            for (std::uint32_t n = 0; n < kSegments; ++n) {
                const base::SegmentNo segment((n + i) % kSegments);
                label.metadata_segments.push_back(segment);
                CHECK(device->create_segment(segment).ok());
            }
            CHECK(device->write_label(label).ok());
            members_.push_back(std::move(device));
            labels_.push_back(label);
        }
    }
    const base::Uuid& pool() const { return pool_; }
    auto read(const std::array<Bytes, 2>& copies) {
        for (std::size_t i = 0; i < members_.size(); ++i) {
            auto stream = copies[i];
            stream.resize(kStreamBytes);
            for (std::uint32_t n = 0; n < kSegments; ++n) {
                const auto at = members_[i]->segment_range(labels_[i].metadata_segments[n]).begin();
                const auto part = Input(stream).subspan(n * kSegmentBytes, kSegmentBytes);
                CHECK(members_[i]->write(at, part).ok());
            }
        }
        return store::MetadataLog::read_longest(members_);
    }

  private:
    Devices devices_;
    base::Uuid pool_;
    std::vector<store::DevicePtr> members_;
    std::vector<device::Label> labels_;
};

// The two streams while they are written, and what they say when nothing is damaged.
class Writer {
  public:
    explicit Writer(const base::Uuid& pool) : frame_(pool, kEpoch) {
        for (auto& copy : copies_) copy = frame_.header();
    }
    void follow(Script& script) {
        while (!script.is_over() && copies_[0].size() < kStreamBytes) step(script);
        for (auto& copy : copies_) copy.resize(std::min(copy.size(), kStreamBytes));
        if (copies_[0].size() == kStreamBytes) is_damaged_ = true;
    }
    const std::array<Bytes, 2>& copies() const { return copies_; }
    bool is_damaged() const { return is_damaged_ || !is_complete_; }
    const std::vector<Bytes>& transactions() const { return transactions_; }

  private:
    void step(Script& script) {
        const auto what = script.below(8);
        const auto on = script.below(3) + 1;  // bit 0: the first copy, bit 1: the second
        if (what <= 4) return record(what, on, script.bytes());
        is_damaged_ = true;
        if (what == 6) return overwrite(on, script.u16(), script.bytes());
        if (what == 7) {
            sequence_ += script.size();
            return;
        }
        const auto bytes = script.bytes();
        for (std::size_t i = 0; i < 2; ++i) {
            copies_[i].insert(copies_[i].end(), bytes.begin(), bytes.end());
            if ((on >> i & 1) == 0)
                std::fill(copies_[i].end() - static_cast<long>(bytes.size()), copies_[i].end(),
                          std::uint8_t{0});
        }
    }
    void record(std::uint64_t what, std::uint64_t on, Input payload) {
        const auto kind = what == 0   ? RecordKind::Checkpoint
                          : what == 1 ? RecordKind::CheckpointEnd
                                      : RecordKind::Transaction;
        Bytes made;
        if (++sequence_ == 0) sequence_ = 1;
        frame_.append(made, copies_[0].size(), sequence_, kind, payload);
        for (std::size_t i = 0; i < 2; ++i) {
            copies_[i].insert(copies_[i].end(), made.begin(), made.end());
            if ((on >> i & 1) == 0)
                std::fill(copies_[i].end() - static_cast<long>(made.size()), copies_[i].end(),
                          std::uint8_t{0});
        }
        if (is_complete_ != (kind == RecordKind::Transaction)) is_damaged_ = true;
        if (kind == RecordKind::CheckpointEnd) is_complete_ = true;
        if (kind == RecordKind::Transaction)
            transactions_.emplace_back(payload.begin(), payload.end());
    }
    void overwrite(std::uint64_t on, std::size_t at, Input bytes) {
        for (std::size_t i = 0; i < 2; ++i)
            for (std::size_t n = 0; n < bytes.size(); ++n)
                if ((on >> i & 1) != 0 && at + n < copies_[i].size()) copies_[i][at + n] = bytes[n];
    }

    const LogFrame frame_;
    std::array<Bytes, 2> copies_;
    std::vector<Bytes> transactions_;
    std::uint64_t sequence_ = 0;
    bool is_complete_ = false;
    bool is_damaged_ = false;
};

void put_step(Bytes& script, std::uint8_t what, std::uint8_t on, const Bytes& payload) {
    script.insert(script.end(), {what, on, static_cast<std::uint8_t>(payload.size())});
    script.insert(script.end(), payload.begin(), payload.end());
}

std::vector<Bytes> seeds() {
    const std::vector<store::Operation> made{store::op::SetPool{base::Uuid{{7}}, "pool"}};
    const std::vector<store::Operation> counted{
        store::op::SetCounters{base::InodeNo(5), base::DeviceId(3)}};
    const auto image = store::encode_operations(made), change = store::encode_operations(counted);
    Bytes plain, damaged;
    put_step(plain, 0, 2, image);
    put_step(plain, 1, 2, {});
    for (std::uint8_t i = 0; i < 4; ++i) put_step(plain, 2, i % 3, change);
    damaged = plain;
    damaged.insert(damaged.end(), {6, 0, 60, 0, 3, 1, 2, 3});  // 3 bytes at 60 of the first copy
    put_step(damaged, 3, 2, change);
    damaged.insert(damaged.end(), {7, 0, 3});
    put_step(damaged, 4, 2, change);
    put_step(damaged, 5, 1, {9, 9, 9});
    return {plain, damaged};
}

// The framing of a stream that is the input itself.
void check_frame(const base::Uuid& pool, Input input) {
    const LogFrame frame(pool, kEpoch);
    base::discard(frame.check_header(input), "it must only not crash");
    for (std::uint64_t at = 0; at <= input.size(); ++at)
        if (const auto record = frame.parse(input, at, 0))
            CHECK(record->length <= input.size() - at);
}

void run(Input input) {
    static Media media;
    check_frame(media.pool(), input);
    Script script(input);
    Writer writer(media.pool());
    writer.follow(script);
    const auto history = media.read(writer.copies());
    if (!writer.is_damaged()) {
        CHECK(history.ok());
        CHECK(history->transactions == writer.transactions());
    }
    if (!history) return;
    store::State state;
    for (const auto* records : {&history->checkpoint, &history->transactions})
        for (const auto& record : *records)
            if (!state.apply_record(record)) return;
}

const Registration registered({"log", seeds, run, 1'000});

}  // namespace
}  // namespace refault::fuzz
