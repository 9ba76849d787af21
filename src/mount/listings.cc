// Reading directories in parts.
#include "mount/listings.h"

#include <algorithm>
#include <utility>

namespace refault::mount {

using base::InodeNo;
using base::MutexLock;
using store::Tree;

namespace {
constexpr std::size_t kPartNames = 1024;
}

Listing::Listing(std::vector<std::string> starts) : starts_(std::move(starts)) {
    if (starts_.empty()) starts_.emplace_back();
}

base::Result<const Tree::Name*> Listing::at(Tree& tree, InodeNo directory, std::uint64_t number) {
    const auto part = number / kPartNames;
    // From the beginning: as it is now.
    if (number == 0) *this = Listing();
    if (part != part_ || !is_read_) {
        // The part before it says where it begins, as it was when it was listed.
        while (starts_.size() <= part) {
            const auto known = starts_.size() - 1;
            if (part_ != known || !is_read_) RETURN_IF_ERROR(read_part(tree, directory, known));
            if (names_.size() < kPartNames) return nullptr;
            starts_.push_back(names_.back().name);
        }
        RETURN_IF_ERROR(read_part(tree, directory, part));
    }
    const auto index = number % kPartNames;
    return index < names_.size() ? &names_[index] : nullptr;
}

base::Status Listing::read_part(Tree& tree, InodeNo directory, std::uint64_t part) {
    auto names = tree.names(directory, starts_[part], kPartNames);
    if (!names) return names.error();
    names_ = std::move(*names);
    part_ = part;
    is_read_ = true;
    return {};
}

std::uint64_t Listings::open() {
    MutexLock lock(mutex_);
    listings_[++last_] = std::make_shared<Listing>();
    return last_;
}

void Listings::close(std::uint64_t number) {
    MutexLock lock(mutex_);
    listings_.erase(number);
}

std::shared_ptr<Listing> Listings::find(std::uint64_t number) const {
    MutexLock lock(mutex_);
    const auto at = listings_.find(number);
    return at == listings_.end() ? nullptr : at->second;
}

std::vector<OpenListing> Listings::hand_over() const {
    MutexLock lock(mutex_);
    std::vector<OpenListing> listings;
    for (const auto& [number, listing] : listings_) listings.push_back({number, listing->starts()});
    return listings;
}

void Listings::take_over(std::vector<OpenListing> listings) {
    MutexLock lock(mutex_);
    for (auto& one : listings) {
        listings_[one.number] = std::make_shared<Listing>(std::move(one.starts));
        last_ = std::max(last_, one.number);
    }
}

}  // namespace refault::mount
