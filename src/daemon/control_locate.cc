// The request that locates: who has a device range, by one of three ways (failure/locator.h).
#include <algorithm>

#include "daemon/control_api.h"
#include "daemon/json_views.h"

namespace refault::daemon {

using base::Code;
using base::DeviceRange;
using base::Error;

namespace {

struct Place {
    base::DeviceId device;
    DeviceRange range;
};

Result<Place> place_of(const ApiRequest& request, const std::string& name, Pool& pool) {
    auto offset = number_query(request, "offset");
    if (!offset) return offset.error();
    auto length = number_query(request, "length");
    if (!length) return length.error();
    auto id = pool.find_device(name);
    if (!id) return id.error();
    auto device = pool.store().device(*id);
    if (!device) return device.error();
    const auto capacity = (*device)->capacity_bytes();
    if (*length == 0 || *offset > capacity || *length > capacity - *offset)
        return Error(Code::Invalid, "the range is empty or ends beyond the device's " +
                                        std::to_string(capacity) + " bytes");
    return Place{*id, DeviceRange::of_length(*offset, *length)};
}

}  // namespace

Result<Json> ControlApi::locate(const ApiRequest& request) const {
    auto open = pool();
    if (!open) return open.error();
    auto& store = (*open)->store();
    auto name = text_query(request, "device");
    if (!name) return name.error();
    const auto named_by = text_query(request, "by");
    const auto by = failure::parse_locate_by(named_by ? *named_by : "rmap");
    if (!by) return by.error();
    auto place = place_of(request, *name, **open);
    if (!place) return place.error();
    auto location = failure::locate(store, place->device, place->range, *by);
    if (!location) return location.error();
    Json owners = Json::array();
    for (const auto& owner : location->owners) owners.push_back(to_json(owner, store));
    Json answer = {{"device", *name}, {"owners", std::move(owners)}};
    if (named_by) answer["by"] = *named_by;
    if (location->page_tables) {
        std::vector<pid_t> clients;
        for (const auto& session : (*open)->registry().sessions()) clients.push_back(session.pid);
        std::sort(clients.begin(), clients.end());
        answer.update(to_json(*location->page_tables, clients));
    }
    return answer;
}

}  // namespace refault::daemon
