// A pool in shared memory with what serves its files, for targets that stand above the store. It
// lives for many inputs: each leaves it as it was found. As thread-safe as its parts.
#pragma once

#include <memory>
#include <vector>

#include "fuzz/devices.h"
#include "session/file_service.h"
#include "session/registry.h"
#include "store/store.h"
#include "store/tree.h"

namespace refault::fuzz {

class ServedPool {
  public:
    ServedPool() {
        base::Uuid pool;
        pool.bytes.fill(7);
        std::vector<std::shared_ptr<device::Device>> made;
        for (const char* name : {"a", "b"}) made.push_back(devices_.make(name, 65536, 32, pool));
        auto created = store::Store::create("pool", made, {});
        CHECK(created.ok());
        store_ = std::move(*created);
        tree_ = std::make_unique<store::Tree>(*store_);
        registry_ = std::make_unique<session::Registry>(*store_);
        files_ = std::make_unique<session::FileService>(*store_, *registry_, isolator_);
    }

    store::Store& store() { return *store_; }
    store::Tree& tree() { return *tree_; }
    session::Registry& registry() { return *registry_; }
    session::FileService& files() { return *files_; }
    const std::filesystem::path& path() const { return devices_.path(); }

    // Takes away what has a name; nothing else may be left.
    void empty() {
        empty(base::kRootInode);
        CHECK(store_->check().empty());
        CHECK(tree_->usage().inodes == 1);
        for (const auto& usage : store_->usage()) CHECK(usage.data_bytes == 0);
        // The root stays, and may have been given some.
        const auto names = tree_->attribute_names(base::kRootInode);
        CHECK(names.ok());
        for (const auto& name : *names) CHECK(tree_->remove_attribute(base::kRootInode, name).ok());
    }

  private:
    // Who maps a file is nobody else's user here.
    class NoIsolator final : public session::Isolator {
      public:
        base::Status isolate(base::InodeNo) override { return {}; }
    };

    void empty(base::InodeNo directory) {
        const auto names = tree_->names(directory);
        CHECK(names.ok());
        for (const auto& entry : *names) {
            const bool is_directory = entry.type == store::FileType::Directory;
            if (is_directory) empty(entry.inode);
            CHECK((is_directory ? tree_->remove_directory(directory, entry.name)
                                : tree_->unlink(directory, entry.name))
                      .ok());
        }
    }

    Devices devices_;
    NoIsolator isolator_;
    std::unique_ptr<store::Store> store_;
    std::unique_ptr<store::Tree> tree_;
    std::unique_ptr<session::Registry> registry_;
    std::unique_ptr<session::FileService> files_;
};

}  // namespace refault::fuzz
