// Makes a libFuzzer program of the one target that it is linked with. `NAME_fuzz --seeds DIRECTORY`
// writes the target's seeds into the directory instead, so that no binary files are kept in git.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/log.h"
#include "fuzz/target.h"

using namespace refault;

namespace {

void write_seeds(const std::string& directory) {
    std::size_t count = 0;
    for (const auto& seed : fuzz::targets().front().seeds()) {
        std::ofstream file(directory + "/seed-" + std::to_string(count++), std::ios::binary);
        file.write(reinterpret_cast<const char*>(seed.data()),
                   static_cast<std::streamsize>(seed.size()));
        if (!file.flush()) {
            std::fprintf(stderr, "cannot write seeds to %s\n", directory.c_str());
            std::exit(1);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    CHECK(fuzz::targets().size() == 1);
    if (*argc == 3 && std::string((*argv)[1]) == "--seeds") {
        write_seeds((*argv)[2]);
        std::exit(0);
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::targets().front().run({data, size});
    return 0;
}
