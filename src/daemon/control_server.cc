// Routes on cpp-httplib. The only file of the daemon that includes it: it is slow to compile.
#include "daemon/control_server.h"

#include <httplib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/log.h"
#include "daemon/metrics_text.h"
#include "daemon/step_writer.h"

namespace refault::daemon {

using base::Code;
using base::Error;

struct ControlServer::Http {
    httplib::Server server;
};

namespace {

constexpr int kWaitingConnectionsMax = 128;
constexpr std::size_t kWorkers = 64;
constexpr int kFollowersMax = 32;
constexpr std::uint64_t kBodyBytesMax = 1u << 20;  // of JSON; a file's bytes have no limit
constexpr std::uint64_t kDataBytesMax = 1u << 30;  // of one GET; ask again for more
constexpr std::chrono::milliseconds kKeepAlive{500};

int http_status(Code code) {
    switch (code) {
        case Code::Invalid:
        case Code::Corrupt:
            return 400;
        case Code::Denied:
            return 403;
        case Code::NotFound:
            return 404;
        case Code::Exists:
        case Code::Busy:
        case Code::NoSpace:
        case Code::Cancelled:
            return 409;
        case Code::TimedOut:
            return 504;
        case Code::NotSupported:
            return 501;
        case Code::Io:
        case Code::Gone:
            return 500;
    }
    return 500;
}

// Names may hold any byte; what is not UTF-8 is shown replaced rather than refused.
std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void answer_error(httplib::Response& response, const Error& error, int status = 0) {
    response.status = status != 0 ? status : http_status(error.code());
    const Json body = {{"error",
                        {{"code", std::string(base::code_name(error.code()))},
                         {"errno", error.sys_errno()},
                         {"message", error.message()}}}};
    response.set_content(dump(body) + "\n", "application/json");
}

bool is_number(const std::string& text) {
    return !text.empty() && text.size() <= 19 && text.find_first_not_of("0123456789") == text.npos;
}

// Answers, before its body is read, what httplib would do harm with: it reads bodies into memory
// whole, however long (chunked) or however much they grow (compressed), and serves ranges that a
// provider of bytes does not have.
bool refuse(const httplib::Request& request, httplib::Response& response) {
    const auto no = [&](int status, const char* why) {
        answer_error(response, Error(Code::Invalid, why), status);
        return true;
    };
    if (request.has_header("Range")) return no(400, "Range is not served; use offset= and length=");
    if (request.method == "GET" || request.method == "HEAD" || request.method == "OPTIONS")
        return false;
    if (request.has_header("Content-Encoding"))
        return no(415, "send the body as it is, without Content-Encoding");
    if (request.is_multipart_form_data()) return no(415, "send the body as it is, not as a form");
    const bool has_length = request.has_header("Content-Length");
    const auto length = request.get_header_value("Content-Length");
    if (has_length && !is_number(length)) return no(400, "Content-Length is not a number");
    if (request.method == "PUT" && request.path == "/v1/files/data") {
        if (!has_length && !request.has_header("Transfer-Encoding"))
            return no(411, "Content-Length is missing");
        return false;
    }
    if (!has_length || request.has_header("Transfer-Encoding"))
        return no(411, "Content-Length is missing; with curl: --data '{}'");
    if (std::stoull(length) > kBodyBytesMax) return no(413, "the body is longer than 1 MiB");
    return false;
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
    return [handler = std::move(handler)](const httplib::Request& request,
                                          httplib::Response& response) {
        auto result = handler(to_request(request));
        if (!result) return answer_error(response, result.error());
        // What goes on after the answer says so.
        if (result->contains("accepted")) response.status = 202;
        response.set_content(dump(*result) + "\n", "application/json");
    };
}

base::Cred daemon_user() {
    return base::Cred{::geteuid(), ::getegid(), {}, 0};
}

// Asked before the first byte goes out: an answer that has begun can only be cut off, without a
// word.
Status check_not_lost(const store::Store& store, base::InodeNo inode, const std::string& path,
                      base::FileRange wanted) {
    const auto lost = store.lost(inode, wanted);
    if (lost.empty()) return {};
    const auto range = lost.front().range;
    return Error(Code::Io, "bytes " + std::to_string(range.begin()) + " to " +
                               std::to_string(range.end()) + " of " + path +
                               " are lost; see: refault lost");
}

}  // namespace

ControlServer::ControlServer(ControlApi& api, std::string socket_path, std::uint32_t socket_mode)
    : api_(api),
      socket_path_(std::move(socket_path)),
      socket_mode_(socket_mode),
      http_(std::make_unique<Http>()) {}

void ControlServer::add_routes() {
    http_->server.set_pre_routing_handler(
        [](const httplib::Request& request, httplib::Response& response) {
            return refuse(request, response) ? httplib::Server::HandlerResponse::Handled
                                             : httplib::Server::HandlerResponse::Unhandled;
        });
    for (auto& [route, handler] : api_.routes()) {
        const auto space = route.find(' ');
        const std::string pattern = pattern_of(route.substr(space + 1));
        if (route.starts_with("GET "))
            http_->server.Get(pattern, handler_of(handler));
        else
            http_->server.Post(pattern, handler_of(handler));
    }
    http_->server.set_error_handler(
        [](const httplib::Request& request, httplib::Response& response) {
            if (!response.body.empty()) return;
            const int status = response.status;
            answer_error(response,
                         Error(status == 404 ? Code::NotFound : Code::Invalid,
                               status == 404 ? "there is no " + request.method + " " + request.path
                                             : "the request is not understood"));
            response.status = status;
        });
    http_->server.set_exception_handler(
        [](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
            answer_error(response, Error(Code::Io, "the request failed unexpectedly"));
        });
}

void ControlServer::add_data_routes() {
    http_->server.Get(
        "/v1/files/data", [this](const httplib::Request& http, httplib::Response& response) {
            const auto request = to_request(http);
            auto pool = api_.pool();
            if (!pool) return answer_error(response, pool.error());
            auto path = text_query(request, "path");
            if (!path) return answer_error(response, path.error());
            auto offset = number_query(request, "offset", 0);
            if (!offset) return answer_error(response, offset.error());
            auto length = number_query(request, "length", kDataBytesMax);
            if (!length) return answer_error(response, length.error());
            auto file = (*pool)->store().open_file(*path, base::Access::Read, daemon_user());
            if (!file) return answer_error(response, file.error());
            const auto available = *offset < file->size_bytes ? file->size_bytes - *offset : 0;
            const auto total = std::min({available, *length, kDataBytesMax});
            if (total == 0) {
                (*pool)->store().unpin(file->inode);
                response.set_content("", "application/octet-stream");
                return;
            }
            if (auto there = check_not_lost((*pool)->store(), file->inode, *path,
                                            base::FileRange::of_length(*offset, total));
                !there) {
                (*pool)->store().unpin(file->inode);
                return answer_error(response, there.error());
            }
            response.set_content_provider(
                total, "application/octet-stream",
                [this, pool = *pool, inode = file->inode, begin = *offset](
                    std::size_t at, std::size_t rest, httplib::DataSink& sink) {
                    if (!api_.is_open(pool.get())) return false;
                    std::vector<std::uint8_t> buffer(std::min(rest, StepWriter::kStepBytes));
                    auto got = pool->files().read(inode, begin + at, buffer);
                    if (!got || *got == 0) return false;
                    return sink.write(reinterpret_cast<const char*>(buffer.data()), *got);
                },
                [pool = *pool, inode = file->inode](bool) { pool->store().unpin(inode); });
        });
    http_->server.Put("/v1/files/data", [this](const httplib::Request& http,
                                               httplib::Response& response,
                                               const httplib::ContentReader& reader) {
        const auto request = to_request(http);
        auto pool = api_.pool();
        if (!pool) return answer_error(response, pool.error());
        auto path = text_query(request, "path");
        if (!path) return answer_error(response, path.error());
        auto offset = number_query(request, "offset", 0);
        if (!offset) return answer_error(response, offset.error());
        auto& store = (*pool)->store();
        const auto user = daemon_user();
        if (auto made = store.create_file(*path, 0644, user);
            !made && made.error().code() != Code::Exists)
            return answer_error(response, made.error());
        (*pool)->files().name_changed(*path);
        auto file = store.open_file(*path, base::Access::ReadWrite, user);
        if (!file) return answer_error(response, file.error());
        StepWriter writer(*offset,
                          [&](std::uint64_t at, std::span<const std::uint8_t> bytes) -> Status {
                              if (!api_.is_open(pool->get()))
                                  return Error(Code::Gone, "the pool is being closed");
                              auto put = (*pool)->files().write(file->inode, at, bytes);
                              if (!put) return put.error();
                              return {};
                          });
        const bool is_whole =
            reader([&](const char* data, std::size_t length) { return writer.add(data, length); });
        writer.flush();
        store.unpin(file->inode);
        if (!writer.status()) return answer_error(response, writer.status().error());
        if (!is_whole) return answer_error(response, Error(Code::Invalid, "the body ended early"));
        response.status = 200;
        response.set_content(
            dump(Json{{"path", *path}, {"bytes", writer.offset() - *offset}}) + "\n",
            "application/json");
    });
}

void ControlServer::add_event_stream() {
    const auto list = handler_of(api_.routes()["GET /v1/events/list"]);
    http_->server.Get("/v1/events", [this, list](const httplib::Request& http,
                                                 httplib::Response& response) {
        auto request = to_request(http);
        // How an EventSource goes on after its connection was lost.
        if (http.has_header("Last-Event-ID"))
            request.query["after"] = http.get_header_value("Last-Event-ID");
        if (request.query["follow"] == "0") return list(http, response);
        auto after = number_query(request, "after", 0);
        if (!after) return answer_error(response, after.error());
        if (followers_.fetch_add(1) >= kFollowersMax) {
            followers_.fetch_sub(1);
            return answer_error(
                response,
                Error(Code::Busy, "32 followers of events are connected already; try again later"),
                503);
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
                    text += "id: " + std::to_string(event.sequence) +
                            "\nevent: " + event.event.kind + "\ndata: " + dump(to_json(event)) +
                            "\n\n";
                }
                // A comment line finds out whether the follower is still there.
                if (text.empty()) text = ": still here\n\n";
                return sink.write(text.data(), text.size());
            },
            [this](bool) { followers_.fetch_sub(1); });
    });
}

// Answers that are no JSON, or a state rather than an error with another status than 200.
void ControlServer::add_monitoring_routes() {
    const auto answer = [](httplib::Response& response, bool is_fine, const Json& body) {
        response.status = is_fine ? 200 : 503;
        response.set_content(dump(body) + "\n", "application/json");
    };
    http_->server.Get("/v1/health",
                      [this, answer](const httplib::Request&, httplib::Response& response) {
                          const auto health = api_.health();
                          answer(response, health.is_ok(), to_json(health));
                      });
    http_->server.Get("/v1/health/ready",
                      [this, answer](const httplib::Request&, httplib::Response& response) {
                          const auto health = api_.health();
                          answer(response, health.is_ready, to_json(health));
                      });
    // Takes no lock of the pool: a slow disk must not get the daemon killed.
    http_->server.Get("/v1/health/live",
                      [answer](const httplib::Request&, httplib::Response& response) {
                          answer(response, true, {{"status", "ok"}});
                      });
    http_->server.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
        response.set_content(api_.metrics(), MetricsText::kContentType);
    });
}

Status ControlServer::start() {
    if (socket_path_.size() >= sizeof(sockaddr_un::sun_path))
        return Error(Code::Invalid,
                     "socket path '" + socket_path_ + "' is longer than 107 characters");
    auto& server = http_->server;
    server.new_task_queue = [] {
        return new httplib::ThreadPool(kWorkers);
    };  // owned by the server
    server.set_address_family(AF_UNIX);
    server.set_payload_max_length(SIZE_MAX);  // see refuse()
    server.set_read_timeout(2, 0);
    server.set_write_timeout(5, 0);
    // One request a connection: none keeps a worker while it has nothing to ask, and what is left
    // of a refused body is never taken for the next request.
    server.set_keep_alive_max_count(1);
    server.set_keep_alive_timeout(1);
    add_routes();
    add_data_routes();
    add_event_stream();
    add_monitoring_routes();
    {
        httplib::Client probe(socket_path_);
        probe.set_address_family(AF_UNIX);
        if (probe.Get("/v1/status"))
            return Error(Code::Busy, "another daemon answers at " + socket_path_ +
                                         "; stop it or choose another run directory");
    }
    ::unlink(socket_path_.c_str());
    int socket = -1;
    server.set_socket_options([&socket](int made) { socket = made; });
    const auto umask = ::umask(0177);  // until the chmod nobody else may connect
    const bool is_bound = server.bind_to_port(socket_path_, 80);
    const int bind_errno = errno;
    ::umask(umask);
    if (!is_bound) return base::sys_error("cannot listen at " + socket_path_, bind_errno);
    if (::chmod(socket_path_.c_str(), socket_mode_) != 0)
        return base::sys_error("chmod " + socket_path_);
    // The library lets five connections wait, and the sixth is told that there is nobody.
    if (::listen(socket, kWaitingConnectionsMax) != 0)
        return base::sys_error("cannot listen at " + socket_path_);
    thread_ = base::NamedThread("control", [this] { http_->server.listen_after_bind(); });
    // A stop() before the thread has come that far would be forgotten.
    while (!server.is_running()) std::this_thread::yield();
    return {};
}

ControlServer::~ControlServer() {
    is_ending_.store(true);
    api_.events().close();
    // One that was refused must not take away the socket of the daemon that refused it.
    if (!thread_.joinable()) return;
    http_->server.stop();
    thread_.join();
    ::unlink(socket_path_.c_str());
}

}  // namespace refault::daemon
