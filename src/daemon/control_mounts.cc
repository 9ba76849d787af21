// The requests on mounts.
#include <unistd.h>

#include "daemon/control_api.h"

namespace refault::daemon {

using base::Code;
using base::Error;

namespace {

Json mount_json(const Pool& pool, const mount::MountInfo& info) {
    return Json{{"pool", pool.store().pool_name()},
                {"directory", info.directory},
                {"options", info.options},
                {"open_files", info.open_files}};
}

}  // namespace

Json mounts_json(Pool& pool) {
    Json mounts = Json::array();
    if (const auto info = pool.mounts().info(); info && !info->has_ended)
        mounts.push_back(mount_json(pool, *info));
    return mounts;
}

void ControlApi::add_mount_routes(std::map<std::string, Handler>& routes) {
    routes["GET /v1/mounts"] = [this](const ApiRequest&) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        return Json{{"mounts", mounts_json(**open)}};
    };
    routes["POST /v1/mounts"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto body = parse_body(request.body, {"directory", "options", "pool"});
        if (!body) return body.error();
        auto directory = text_field(*body, "directory");
        if (!directory) return directory.error();
        std::string text;
        if (body->contains("options")) {
            auto given = text_field(*body, "options");
            if (!given) return given.error();
            text = *given;
        }
        if (body->contains("pool")) {
            auto name = text_field(*body, "pool");
            if (!name) return name.error();
            if (*name != (*open)->store().pool_name())
                return Error(Code::NotFound,
                             "the open pool is " + (*open)->store().pool_name() + ", not " + *name);
        }
        auto options = mount::parse_mount_options(*directory, text, ::geteuid() == 0);
        if (!options) return options.error();
        // Or programs could have files open through the cache that a client comes back to.
        RETURN_IF_ERROR((*open)->check_nobody_is_absent());
        RETURN_IF_ERROR((*open)->mounts().mount(*options));
        const auto info = (*open)->mounts().info();
        if (!info) return Error(Code::Gone, "it was unmounted at once");
        return mount_json(**open, *info);
    };
    routes["POST /v1/unmount"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto body = parse_body(request.body, {"directory", "force"});
        if (!body) return body.error();
        auto directory = text_field(*body, "directory");
        if (!directory) return directory.error();
        auto is_forced = flag_field(*body, "force");
        if (!is_forced) return is_forced.error();
        RETURN_IF_ERROR((*open)->mounts().unmount(*directory, *is_forced));
        return Json{{"unmounted", *directory}};
    };
}

}  // namespace refault::daemon
