// The requests on files: they act as the daemon's own user, which may do all.
#include <unistd.h>

#include "daemon/control_api.h"
#include "daemon/failure_views.h"
#include "daemon/json_views.h"

namespace refault::daemon {

using base::Cred;

namespace {

Cred daemon_user() {
    return Cred{::geteuid(), ::getegid(), {}, 0};
}

// "mode" of a body, or the usual one.
Result<mode_t> mode_of(const Json& body, mode_t usual) {
    if (!body.contains("mode")) return usual;
    auto mode = number_field(body, "mode");
    if (!mode) return mode.error();
    if (*mode > 07777)
        return base::Error(base::Code::Invalid, "'mode' is a number up to 4095 (octal 7777)");
    return static_cast<mode_t>(*mode);
}

}  // namespace

void ControlApi::add_file_routes(std::map<std::string, Handler>& routes) {
    // A request with a path in its body: opens the pool, reads the path, and acts.
    using Action = std::function<Result<Json>(Pool&, const std::string& path, const Json& body)>;
    const auto with_path = [this](Action action) -> Handler {
        return [this, action = std::move(action)](const ApiRequest& request) -> Result<Json> {
            auto open = pool();
            if (!open) return open.error();
            auto body = parse_body(request.body, {"path", "mode", "size_bytes"});
            if (!body) return body.error();
            auto path = text_field(*body, "path");
            if (!path) return path.error();
            return action(**open, *path, *body);
        };
    };
    routes["GET /v1/files/list"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto path = text_query(request, "path");
        if (!path) return path.error();
        auto entries = (*open)->store().list(*path, daemon_user());
        if (!entries) return entries.error();
        Json list = Json::array();
        for (const auto& entry : *entries) {
            Json json = to_json(entry.attributes);
            json["name"] = entry.name;
            list.push_back(std::move(json));
        }
        return Json{{"path", *path}, {"entries", std::move(list)}};
    };
    routes["GET /v1/files/stat"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto path = text_query(request, "path");
        if (!path) return path.error();
        auto attributes = (*open)->store().stat(*path, daemon_user());
        if (!attributes) return attributes.error();
        Json json = to_json(*attributes);
        json["path"] = *path;
        json["paths"] = paths_of((*open)->store(), attributes->inode);
        json["lost"] = lost_ranges_json((*open)->store(), attributes->inode);
        return json;
    };
    routes["POST /v1/files/create"] =
        with_path([](Pool& pool, const std::string& path, const Json& body) -> Result<Json> {
            auto mode = mode_of(body, 0644);
            if (!mode) return mode.error();
            auto made = pool.store().create_file(path, *mode, daemon_user());
            if (!made) return made.error();
            pool.files().name_changed(path);
            return to_json(*made);
        });
    routes["POST /v1/files/mkdir"] =
        with_path([](Pool& pool, const std::string& path, const Json& body) -> Result<Json> {
            auto mode = mode_of(body, 0755);
            if (!mode) return mode.error();
            auto made = pool.store().make_directory(path, *mode, daemon_user());
            if (!made) return made.error();
            pool.files().name_changed(path);
            return to_json(*made);
        });
    routes["POST /v1/files/remove"] =
        with_path([](Pool& pool, const std::string& path, const Json&) -> Result<Json> {
            RETURN_IF_ERROR(pool.store().unlink(path, daemon_user()));
            pool.files().name_changed(path);
            return Json{{"removed", path}};
        });
    routes["POST /v1/files/rmdir"] =
        with_path([](Pool& pool, const std::string& path, const Json&) -> Result<Json> {
            RETURN_IF_ERROR(pool.store().remove_directory(path, daemon_user()));
            pool.files().name_changed(path);
            return Json{{"removed", path}};
        });
    routes["POST /v1/files/resize"] =
        with_path([](Pool& pool, const std::string& path, const Json& body) -> Result<Json> {
            auto size = number_field(body, "size_bytes");
            if (!size) return size.error();
            auto attributes = pool.store().stat(path, daemon_user());
            if (!attributes) return attributes.error();
            RETURN_IF_ERROR(pool.files().resize(attributes->inode, *size));
            return Json{{"path", path}, {"size_bytes", *size}};
        });
    routes["POST /v1/files/rename"] = [this](const ApiRequest& request) -> Result<Json> {
        auto open = pool();
        if (!open) return open.error();
        auto body = parse_body(request.body, {"from", "to"});
        if (!body) return body.error();
        auto from = text_field(*body, "from");
        if (!from) return from.error();
        auto to = text_field(*body, "to");
        if (!to) return to.error();
        RETURN_IF_ERROR((*open)->store().rename(*from, *to, daemon_user()));
        (*open)->files().name_changed(*from);
        (*open)->files().name_changed(*to);
        return Json{{"from", *from}, {"to", *to}};
    };
}

}  // namespace refault::daemon
