// The two kinds of slots.
#include "slot/slot.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/mutex.h"
#include "base/unique_fd.h"

namespace refault::slot {

using base::Code;
using base::Error;
using base::MutexLock;
using base::Status;

namespace {

// Lights that exist in this process alone.
class EmulatedSlot final : public Slot {
  public:
    std::string describe() const override { return "emulated"; }
    Status set_power(Indicator state) override { return set(power_, state); }
    Status set_attention(Indicator state) override { return set(attention_, state); }
    Indicator power() const override { return get(power_); }
    Indicator attention() const override { return get(attention_); }

  private:
    Status set(Indicator& indicator, Indicator state) {
        MutexLock lock(mutex_);
        indicator = state;
        return {};
    }
    Indicator get(const Indicator& indicator) const {
        MutexLock lock(mutex_);
        return indicator;
    }

    mutable base::Mutex mutex_;
    Indicator power_ = Indicator::On;
    Indicator attention_ = Indicator::Off;
};

// A slot of the kernel's PCI hot-plug core. Writing 0 to `power` makes the kernel remove the
// driver, cut the power and turn the power indicator off; the kernel alone blinks it, while it
// works. So Blinking is remembered here and written nowhere. What `power` reads already is not
// written again: the kernel answers that with an error.
class SysfsSlot final : public Slot {
  public:
    SysfsSlot(std::string name, std::string directory)
        : name_(std::move(name)), directory_(std::move(directory)) {
        if (const auto power = read_file("power"); power && *power == '0') power_ = Indicator::Off;
        if (const auto attention = read_file("attention"); attention && *attention != '0')
            attention_ = Indicator::On;
    }

    std::string describe() const override { return "sysfs:" + name_; }

    Status set_power(Indicator state) override {
        MutexLock lock(mutex_);
        if (state != Indicator::Blinking) {
            const char wanted = state == Indicator::On ? '1' : '0';
            const auto present = read_file("power");
            if (!present) return present.error();
            if (*present != wanted) RETURN_IF_ERROR(write_file("power", wanted));
        }
        power_ = state;
        return {};
    }

    Status set_attention(Indicator state) override {
        MutexLock lock(mutex_);
        RETURN_IF_ERROR(write_file("attention", state == Indicator::Off  ? '0'
                                                : state == Indicator::On ? '1'
                                                                         : '2'));
        attention_ = state;
        return {};
    }

    Indicator power() const override {
        MutexLock lock(mutex_);
        return power_;
    }
    Indicator attention() const override {
        MutexLock lock(mutex_);
        return attention_;
    }

  private:
    // The first character.
    base::Result<char> read_file(const char* file) const {
        const std::string path = directory_ + "/" + file;
        const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        char value = 0;
        const ssize_t got = fd ? ::read(fd.get(), &value, 1) : -1;
        if (got < 0) return base::sys_error("slot " + name_ + ": read " + path);
        if (got == 0) return Error(Code::Io, "slot " + name_ + ": " + path + " is empty");
        return value;
    }
    Status write_file(const char* file, char value) const {
        const std::string path = directory_ + "/" + file;
        const base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_TRUNC));
        if (!fd || ::write(fd.get(), &value, 1) != 1)
            return base::sys_error("slot " + name_ + ": write " + path);
        return {};
    }

    const std::string name_;
    const std::string directory_;
    mutable base::Mutex mutex_;
    Indicator power_ = Indicator::On;
    Indicator attention_ = Indicator::Off;
};

}  // namespace

std::string_view indicator_name(Indicator state) noexcept {
    switch (state) {
        case Indicator::On:
            return "on";
        case Indicator::Blinking:
            return "blinking";
        case Indicator::Off:
            return "off";
    }
    return "unknown";
}

base::Result<std::unique_ptr<Slot>> make_slot(std::string_view text,
                                              const std::string& sysfs_root) {
    if (text.empty() || text == "emulated")
        return std::unique_ptr<Slot>(std::make_unique<EmulatedSlot>());
    if (!text.starts_with("sysfs:"))
        return Error(Code::Invalid,
                     "not a slot: '" + std::string(text) + "' (write emulated or sysfs:NAME)");
    const std::string name(text.substr(6));
    if (name.empty() || name.find('/') != name.npos || name.starts_with('.'))
        return Error(Code::Invalid, "'" + name + "' is not a name in " + sysfs_root);
    const std::string directory = sysfs_root + "/" + name;
    for (const char* file : {"power", "attention"})
        if (::access((directory + "/" + file).c_str(), W_OK) != 0)
            return base::sys_error("slot " + name + " cannot be used: " + directory + "/" + file);
    return std::unique_ptr<Slot>(std::make_unique<SysfsSlot>(name, directory));
}

}  // namespace refault::slot
