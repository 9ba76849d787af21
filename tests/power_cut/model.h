// What a pool must show when it is opened after the power went, and how that is looked at.
//
// Every sector that the workload writes says whose it is: file, version, place. So bytes of others,
// of an earlier owner of the space, or of another place in the file are seen as such.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "device/device.h"
#include "store/store.h"
#include "tests/power_cut/disk.h"

namespace refault::power_cut {

using base::FileRange;
using base::InodeNo;
using store::Store;
using Version = std::uint32_t;  // 0: zeros, as of a hole

// Everything a user sees but the bytes, a line a path.
using View = std::map<std::string, std::string>;

View view_of(Store& store);

// Which versions each sector of a file may have.
using AllowedBytes = std::vector<std::set<Version>>;

struct Expectation {
    std::string step;
    std::vector<View> views;  // one of them
    std::map<InodeNo, AllowedBytes> bytes;
    std::set<std::string> gone;        // directories that nobody gives
    std::string coming_back;           // is given when the pool asks for it, else it rejoins
    std::set<std::string> tombstones;  // directories whose label says so
    std::set<std::string> leaving;     // directories that become a pool of their own
    View leaving_view;                 // which shows this
    bool has_left = false;             // else the directories are one pool's or the other's
    bool is_being_made = false;        // no pool yet: it may not open
    bool is_being_lost = false;        // the pool may ask for what is gone
};

Sector sector_of(InodeNo inode, Version version, std::uint64_t number);
std::vector<std::uint8_t> bytes_of(InodeNo inode, Version version, FileRange range);

struct Problems {
    std::vector<std::string> lines;
    void add(std::string line) { lines.push_back(std::move(line)); }
};

// Opens what lies below `base` and compares. `trace` is told of what opening changes.
using TraceOf = std::function<device::MediumTrace(const std::string& directory)>;
Problems check_image(const std::string& base, const Expectation& expected,
                     const TraceOf& trace = {});

}  // namespace refault::power_cut
