// A device on its way from one daemon to the next in the same process.
#include <fcntl.h>

#include "device/device.h"

namespace refault::device {

Result<HandedOverDevice> Device::hand_over() const {
    UniqueFd lock(::fcntl(lock_fd_.get(), F_DUPFD_CLOEXEC, 0));
    if (!lock) return base::sys_error("keep the lock of " + directory_);
    return HandedOverDevice{spec_, directory_, is_private_mount_, owns_directory_, std::move(lock)};
}

Result<std::unique_ptr<Device>> Device::take_over(HandedOverDevice handed_over) {
    std::unique_ptr<Device> device(
        new Device(std::move(handed_over.spec), std::move(handed_over.directory)));
    device->lock_fd_ = std::move(handed_over.lock);
    RETURN_IF_ERROR(device->open_directory());
    auto label = device->read_label();
    if (!label) return label.error().within(device->directory_);
    device->take_geometry(*label);
    RETURN_IF_ERROR(device->adopt_removed());
    // Not before: what cannot be read is left where it is.
    device->is_private_mount_ = handed_over.is_private_mount;
    device->owns_directory_ = handed_over.owns_directory;
    return device;
}

}  // namespace refault::device
