// Routes on cpp-httplib. No other file of the daemon but control_http includes it: it is slow to
// compile.
#include "daemon/control_server.h"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/log.h"
#include "daemon/control_http.h"
#include "daemon/metrics_text.h"
#include "daemon/step_writer.h"

namespace refault::daemon {

using base::Code;
using base::Error;

namespace {

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

// Answers, before its body is read, who may not ask that.
bool refuse_peer(const httplib::Request& request, httplib::Response& response) {
    const auto no = [&](int status, const char* why) {
        answer_error(response, Error(Code::Denied, why, EACCES), status);
        return true;
    };
    const auto role = ControlHttp::role_of(request);
    const bool has_token = request.has_header("Authorization");
    if (role == Role::Changer) return false;
    if (role == Role::Nobody) {
        response.set_header("WWW-Authenticate", "Bearer");
        return no(401, has_token ? "the token is refused; send that of --token-file"
                                 : "send the token: Authorization: Bearer TOKEN");
    }
    if (request.method != "GET" && request.method != "HEAD")
        return no(403, has_token ? "this token lets you look, not change; use the token of "
                                   "--token-file"
                                 : "you may look, not change; ask as the daemon's user or root, "
                                   "or join the group of --control-group");
    // The daemon reads as itself; whoever may not change things reads with his own rights, through
    // the session socket or the mount.
    if (request.path.starts_with("/v1/files/") || request.path.starts_with("/v1/debug/"))
        return no(403, has_token ? "this token lets you look at the pool, not into its files; use "
                                   "the token of --token-file"
                                 : "you may look at the pool, not into its files; use the library "
                                   "or the mount");
    return false;
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

ControlServer::ControlServer(ControlApi& api, ControlOptions options)
    : api_(api),
      options_(std::move(options)),
      http_(std::make_unique<ControlHttp>(options_.limits, options_.rights, api.refusals())) {}

void ControlServer::add_routes() {
    http_->set_pre_routing_handler(
        [](const httplib::Request& request, httplib::Response& response) {
            return refuse_peer(request, response) || refuse(request, response)
                       ? httplib::Server::HandlerResponse::Handled
                       : httplib::Server::HandlerResponse::Unhandled;
        });
    for (auto& [route, handler] : api_.routes()) {
        const auto space = route.find(' ');
        const std::string pattern = pattern_of(route.substr(space + 1));
        if (route.starts_with("GET "))
            http_->Get(pattern, handler_of(handler));
        else
            http_->Post(pattern, handler_of(handler));
    }
    http_->set_error_handler([](const httplib::Request& request, httplib::Response& response) {
        if (!response.body.empty()) return;
        const int status = response.status;
        answer_error(response,
                     Error(status == 404 ? Code::NotFound : Code::Invalid,
                           status == 404 ? "there is no " + request.method + " " + request.path
                                         : "the request is not understood"));
        response.status = status;
    });
    http_->set_exception_handler(
        [](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
            answer_error(response, Error(Code::Io, "the request failed unexpectedly"));
        });
}

void ControlServer::add_data_routes() {
    http_->Get("/v1/files/data", [this](const httplib::Request& http, httplib::Response& response) {
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
    http_->Put("/v1/files/data", [this](const httplib::Request& http, httplib::Response& response,
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
    http_->Get("/v1/events", [this, list](const httplib::Request& http,
                                          httplib::Response& response) {
        auto request = to_request(http);
        // How an EventSource goes on after its connection was lost.
        if (http.has_header("Last-Event-ID"))
            request.query["after"] = http.get_header_value("Last-Event-ID");
        if (request.query["follow"] == "0") return list(http, response);
        auto after = number_query(request, "after", 0);
        if (!after) return answer_error(response, after.error());
        // Half of them are kept for who may change things.
        const auto most = ControlHttp::role_of(http) == Role::Changer
                              ? options_.limits.followers
                              : options_.limits.followers / 2;
        if (followers_.fetch_add(1) >= most) {
            followers_.fetch_sub(1);
            return answer_error(response,
                                Error(Code::Busy, std::to_string(most) +
                                                      " followers of events are connected already; "
                                                      "try again later"),
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
    http_->Get("/v1/health", [this, answer](const httplib::Request&, httplib::Response& response) {
        const auto health = api_.health();
        answer(response, health.is_ok(), to_json(health));
    });
    http_->Get("/v1/health/ready",
               [this, answer](const httplib::Request&, httplib::Response& response) {
                   const auto health = api_.health();
                   answer(response, health.is_ready, to_json(health));
               });
    // Takes no lock of the pool: a slow disk must not get the daemon killed.
    http_->Get("/v1/health/live", [answer](const httplib::Request&, httplib::Response& response) {
        answer(response, true, {{"status", "ok"}});
    });
    http_->Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
        response.set_content(api_.metrics(), MetricsText::kContentType);
    });
}

Status ControlServer::start() {
    auto& server = *http_;
    server.set_payload_max_length(SIZE_MAX);  // see refuse()
    // One request a connection: none keeps a worker while it has nothing to ask, and what is left
    // of a refused body is never taken for the next request.
    server.set_keep_alive_max_count(1);
    add_routes();
    add_data_routes();
    add_event_stream();
    add_monitoring_routes();
    base::UniqueFd tcp;
    if (!options_.tcp_address.empty()) {
        if (options_.rights.change_token.empty() && options_.rights.look_token.empty())
            return Error(Code::Invalid, "--listen-tcp takes a token: give --token-file, too");
        auto made = listen_tcp(options_.tcp_address);
        if (!made) return made.error();
        tcp_address_ = made->address;
        tcp = std::move(made->socket);
        if (!made->is_loopback)
            base::log_line(base::LogLevel::Warning,
                           "the control API listens at " + tcp_address_ +
                               ", unencrypted: everybody on the way can read the token");
    }
    auto local =
        listen_local(options_.socket_path, options_.socket_mode, options_.rights.changing_group);
    if (!local) return local.error();
    server.begin();
    auto listener = std::make_unique<ControlListener>(
        options_.limits, api_.refusals(),
        [this](const base::Cred& peer) { return options_.rights.of_user(peer) == Role::Changer; },
        [this](base::UniqueFd socket, const ControlPeer& peer) {
            http_->serve(std::move(socket), peer);
        });
    listener_ = std::move(listener);
    return listener_->start(std::move(*local), std::move(tcp));
}

ControlServer::~ControlServer() {
    is_ending_.store(true);
    api_.events().close();
    // One that was refused must not take away the socket of the daemon that refused it.
    if (!listener_) return;
    http_->begin_end();
    listener_.reset();
    ::unlink(options_.socket_path.c_str());
}

}  // namespace refault::daemon
