// What is read from devices: labels and the operations of the metadata log.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "device/label.h"
#include "store/operation.h"
#include "store/state.h"

using namespace refault;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span input(data, size);
    if (auto label = device::decode_label(input)) (void)device::encode_label(*label);
    auto operations = store::decode_operations(input);
    if (!operations) return 0;
    CHECK(store::decode_operations(store::encode_operations(*operations)).ok());
    // Whether they fit together is for the state to say; that, too, is an error and no crash.
    store::State state;
    for (const auto& operation : *operations)
        if (!state.apply(operation)) break;
    return 0;
}
