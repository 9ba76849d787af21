// Where a device sits: its power and attention indicators, after PCIe native hot-plug.
//
//   running: power On, attention Off          removal under way: power Blinking
//   safe to pull: power Off (only after proof, rule 8)     something failed: attention On
// Implementations are thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace refault::slot {

enum class Indicator { On, Blinking, Off };

std::string_view indicator_name(Indicator state) noexcept;  // "on", "blinking", "off"

class Slot {
  public:
    virtual ~Slot() = default;
    // "emulated" or "sysfs:NAME".
    virtual std::string describe() const = 0;
    virtual base::Status set_power(Indicator state) = 0;
    virtual base::Status set_attention(Indicator state) = 0;
    virtual Indicator power() const = 0;
    virtual Indicator attention() const = 0;
};

// "emulated" (or empty) or "sysfs:NAME", NAME a folder of `sysfs_root` with the files power and
// attention.
base::Result<std::unique_ptr<Slot>> make_slot(std::string_view text,
                                              const std::string& sysfs_root = "/sys/bus/pci/slots");

}  // namespace refault::slot
