// Routes on cpp-httplib. The only file of the daemon that includes it: it is slow to compile.
#include "daemon/control_server.h"

#include <httplib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"

namespace refault::daemon {

using base::Code;
using base::Error;

struct ControlServer::Http {
    httplib::Server server;
};

namespace {

constexpr std::size_t kWorkers = 48;
constexpr int kFollowersMax = 24;
constexpr std::size_t kBodyBytesMax = 8u << 20;
constexpr std::size_t kDataStepBytes = 1u << 20;
constexpr std::uint64_t kDataBytesMax = 1u << 30;  // of one GET; ask again for more
constexpr std::chrono::milliseconds kKeepAlive{500};

int http_status(Code code) {
    switch (code) {
        case Code::Invalid: case Code::Corrupt: return 400;
        case Code::Denied: return 403;
        case Code::NotFound: return 404;
        case Code::Exists: case Code::Busy: case Code::NoSpace: case Code::Cancelled: return 409;
        case Code::TimedOut: return 504;
        case Code::NotSupported: return 501;
        case Code::Io: case Code::Gone: return 500;
    }
    return 500;
}

// Names may hold any byte; what is not UTF-8 is shown replaced rather than refused.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

void answer_error(httplib::Response& response, const Error& error) {
    response.status = http_status(error.code());
    const Json body = {{"error",
                        {{"code", std::string(base::code_name(error.code()))},
                         {"errno", error.sys_errno()},
                         {"message", error.message()}}}};
    response.set_content(dump(body) + "\n", "application/json");
}

ApiRequest to_request(const httplib::Request& request) {
    ApiRequest api;
    if (request.matches.size() > 1) api.name = request.matches[1].str();
    for (const auto& [key, value] : request.params) api.query[key] = value;
    api.body = request.body;
    return api;
}

// "GET /v1/devices/" takes a name behind it, "POST /v1/devices/*/pull" one in the middle.
std::string pattern_of(std::string path) {
    constexpr const char* kName = "([^/]+)";
    if (path.back() == '/') return path + kName;
    if (const auto star = path.find('*'); star != path.npos) path.replace(star, 1, kName);
    return path;
}

httplib::Server::Handler handler_of(ControlApi::Handler handler) {
    return [handler = std::move(handler)](const httplib::Request& request, httplib::Response& response) {
        auto result = handler(to_request(request));
        if (!result) return answer_error(response, result.error());
        response.set_content(dump(*result) + "\n", "application/json");
    };
}

}  // namespace

ControlServer::ControlServer(ControlApi& api, std::string socket_path, std::uint32_t socket_mode)
    : api_(api), socket_path_(std::move(socket_path)), socket_mode_(socket_mode), http_(std::make_unique<Http>()) {}

void ControlServer::add_routes() {
    for (auto& [route, handler] : api_.routes()) {
        const auto space = route.find(' ');
        const std::string pattern = pattern_of(route.substr(space + 1));
        if (route.starts_with("GET ")) http_->server.Get(pattern, handler_of(handler));
        else http_->server.Post(pattern, handler_of(handler));
    }
    http_->server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
        if (!response.body.empty()) return;
        const int status = response.status;
        answer_error(response, Error(status == 404 ? Code::NotFound : Code::Invalid,
                                     status == 404 ? "there is no " + request.method + " " + request.path
                                                   : "the request is not understood"));
        response.status = status;
    });
    http_->server.set_exception_handler([](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
        answer_error(response, Error(Code::Io, "the request failed unexpectedly"));
    });
}

void ControlServer::add_data_routes() {
    http_->server.Get("/v1/files/data", [this](const httplib::Request& http, httplib::Response& response) {
        const auto request = to_request(http);
        auto pool = api_.pool();
        if (!pool) return answer_error(response, pool.error());
        auto path = text_query(request, "path");
        if (!path) return answer_error(response, path.error());
        auto offset = number_query(request, "offset", 0);
        if (!offset) return answer_error(response, offset.error());
        auto length = number_query(request, "length", kDataBytesMax);
        if (!length) return answer_error(response, length.error());
        auto file = (*pool)->store().open_file(*path, base::Access::Read, base::Cred{});
        if (!file) return answer_error(response, file.error());
        const auto available = *offset < file->size_bytes ? file->size_bytes - *offset : 0;
        const auto total = std::min({available, *length, kDataBytesMax});
        if (total == 0) {
            (*pool)->store().unpin(file->inode);
            response.set_content("", "application/octet-stream");
            return;
        }
        response.set_content_provider(
            total, "application/octet-stream",
            [pool = *pool, inode = file->inode, begin = *offset](std::size_t at, std::size_t rest, httplib::DataSink& sink) {
                std::vector<std::uint8_t> buffer(std::min(rest, kDataStepBytes));
                auto got = pool->files().read(inode, begin + at, buffer);
                if (!got || *got == 0) return false;
                return sink.write(reinterpret_cast<const char*>(buffer.data()), *got);
            },
            [pool = *pool, inode = file->inode](bool) { pool->store().unpin(inode); });
    });
    http_->server.Put("/v1/files/data", [this](const httplib::Request& http, httplib::Response& response,
                                               const httplib::ContentReader& reader) {
        const auto request = to_request(http);
        auto pool = api_.pool();
        if (!pool) return answer_error(response, pool.error());
        auto path = text_query(request, "path");
        if (!path) return answer_error(response, path.error());
        auto offset = number_query(request, "offset", 0);
        if (!offset) return answer_error(response, offset.error());
        auto& store = (*pool)->store();
        const base::Cred user{::geteuid(), ::getegid(), {}, 0};
        if (auto made = store.create_file(*path, 0644, user); !made && made.error().code() != Code::Exists)
            return answer_error(response, made.error());
        auto file = store.open_file(*path, base::Access::ReadWrite, user);
        if (!file) return answer_error(response, file.error());
        std::optional<Error> failure;
        std::uint64_t at = *offset;
        reader([&](const char* data, std::size_t length) {
            auto put = (*pool)->files().write(file->inode, at, {reinterpret_cast<const std::uint8_t*>(data), length});
            if (!put) failure = put.error();
            at += length;
            return !failure;
        });
        store.unpin(file->inode);
        if (failure) return answer_error(response, *failure);
        response.set_content(dump(Json{{"path", *path}, {"bytes", at - *offset}}) + "\n", "application/json");
    });
}

void ControlServer::add_event_stream() {
    http_->server.Get("/v1/events", [this](const httplib::Request& http, httplib::Response& response) {
        auto after = number_query(to_request(http), "after", 0);
        if (!after) return answer_error(response, after.error());
        if (followers_.fetch_add(1) >= kFollowersMax) {
            followers_.fetch_sub(1);
            answer_error(response, Error(Code::Busy, "too many followers of events; try again later"));
            response.status = 503;
            return;
        }
        response.set_header("Cache-Control", "no-cache");
        response.set_chunked_content_provider(
            "text/event-stream",
            [this, seen = *after](std::size_t, httplib::DataSink& sink) mutable {
                if (is_ending_.load()) return false;
                api_.events().wait_for_event(seen, kKeepAlive);
                std::string text;
                for (const auto& event : api_.events().events_after(seen, 256)) {
                    seen = event.sequence;
                    text += "id: " + std::to_string(event.sequence) + "\nevent: " + event.event.kind +
                            "\ndata: " + dump(to_json(event)) + "\n\n";
                }
                // A comment line finds out whether the follower is still there.
                if (text.empty()) text = ": still here\n\n";
                return sink.write(text.data(), text.size());
            },
            [this](bool) { followers_.fetch_sub(1); });
    });
}

Status ControlServer::start() {
    if (socket_path_.size() >= sizeof(sockaddr_un::sun_path))
        return Error(Code::Invalid, "socket path '" + socket_path_ + "' is longer than 107 characters");
    auto& server = http_->server;
    server.new_task_queue = [] { return new httplib::ThreadPool(kWorkers); };  // owned by the server
    server.set_address_family(AF_UNIX);
    server.set_payload_max_length(kBodyBytesMax);
    server.set_read_timeout(2, 0);
    server.set_write_timeout(5, 0);
    server.set_keep_alive_timeout(1);
    add_routes();
    add_data_routes();
    add_event_stream();
    {
        httplib::Client probe(socket_path_);
        probe.set_address_family(AF_UNIX);
        if (probe.Get("/v1/status"))
            return Error(Code::Busy, "another daemon answers at " + socket_path_ + "; stop it or choose another run directory");
    }
    ::unlink(socket_path_.c_str());
    if (!server.bind_to_port(socket_path_, 80)) return base::sys_error("cannot listen at " + socket_path_);
    if (::chmod(socket_path_.c_str(), socket_mode_) != 0) return base::sys_error("chmod " + socket_path_);
    thread_ = base::NamedThread("control", [this] { http_->server.listen_after_bind(); });
    return {};
}

ControlServer::~ControlServer() {
    is_ending_.store(true);
    api_.events().close();
    http_->server.stop();
    thread_.join();
    ::unlink(socket_path_.c_str());
}

}  // namespace refault::daemon
