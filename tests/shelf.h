// Directories that are devices, on a shelf: taken away, brought back, exchanged.
#pragma once

#include <filesystem>
#include <string>

#include "tests/support.h"

namespace refault::tests {

// Directories that are devices, which an outside hand can take away and bring back.
class Shelf {
  public:
    std::string make(const std::string& name) {
        const auto path = directory_.path() + "/" + name;
        std::filesystem::create_directory(path);
        return path;
    }
    std::string spec(const std::string& name) {
        return name + "=dir:" + directory_.path() + "/" + name + ",size=64M";
    }
    void take(const std::string& name) { move(name, name + ".away"); }
    void bring_back(const std::string& name) { move(name + ".away", name); }
    // As it is now, beside it; `restore` puts that in its place.
    void save(const std::string& name) {
        std::filesystem::copy(path(name), path(name + ".saved"),
                              std::filesystem::copy_options::recursive);
    }
    void restore(const std::string& name) { move(name + ".saved", name); }
    std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

  private:
    void move(const std::string& from, const std::string& to) {
        std::filesystem::rename(directory_.path() + "/" + from, directory_.path() + "/" + to);
    }
    TemporaryDirectory directory_;
};

}  // namespace refault::tests
