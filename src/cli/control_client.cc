// HTTP over the daemon's unix socket.
#include "cli/control_client.h"

#include <httplib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>

namespace refault::cli {

using base::Code;
using base::Error;
using base::Result;
using base::Status;

namespace {

constexpr int kAnswerTimeoutS = 60;

httplib::Client connect(const std::string& place, int port, const std::string& token) {
    auto client = port == 0 ? httplib::Client(place) : httplib::Client(place, port);
    httplib::Headers headers{{"Host", "localhost"}};
    if (port == 0)
        client.set_address_family(AF_UNIX);
    else
        headers.emplace("Authorization", "Bearer " + token);
    client.set_default_headers(headers);
    client.set_read_timeout(kAnswerTimeoutS, 0);
    client.set_write_timeout(kAnswerTimeoutS, 0);
    return client;
}

Error unreachable(const std::string& socket_path, httplib::Error error) {
    if (error == httplib::Error::Connection && !socket_path.starts_with('/'))
        return Error(Code::NotFound, "no daemon at " + socket_path +
                                         " and that port; start one there with: refaultd "
                                         "--listen-tcp ADDRESS:PORT --token-file FILE");
    if (error == httplib::Error::Connection && ::access(socket_path.c_str(), F_OK) == 0 &&
        ::access(socket_path.c_str(), W_OK) != 0)
        return Error(Code::Denied,
                     "you may not use " + socket_path +
                         "; ask as its owner, or start the daemon with another --control-mode");
    if (error == httplib::Error::Connection)
        return Error(Code::NotFound, "no daemon at " + socket_path +
                                         "; start one with: refaultd --run-dir " +
                                         socket_path.substr(0, socket_path.rfind('/')));
    return Error(Code::Gone,
                 "the daemon at " + socket_path + " did not answer: " + httplib::to_string(error));
}

// The daemon states errors as {"error": {"code", "errno", "message"}}.
Error stated_error(int http_status, const std::string& body) {
    const auto json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("error") && json["error"].is_object()) {
        const auto& error = json["error"];
        const int sys_errno = error.value("errno", EIO);
        return Error(base::errno_to_code(sys_errno), error.value("message", "no reason given"),
                     sys_errno);
    }
    return Error(Code::Io, "the daemon answered with status " + std::to_string(http_status));
}

Result<std::string> body_of(const httplib::Result& answer, const std::string& socket_path) {
    if (!answer) return unreachable(socket_path, answer.error());
    if (answer->status >= 400) return stated_error(answer->status, answer->body);
    return answer->body;
}

Result<Json> parsed(Result<std::string> body) {
    if (!body) return body.error();
    auto json = Json::parse(*body, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return Error(Code::Corrupt, "the daemon's answer is not JSON");
    return json;
}

}  // namespace

std::string url_encode(std::string_view text) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string encoded;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (std::isalnum(byte) != 0 || c == '/' || c == '-' || c == '_' || c == '.' || c == '~') {
            encoded += c;
        } else {
            encoded += '%';
            encoded += kHex[byte >> 4];
            encoded += kHex[byte & 15];
        }
    }
    return encoded;
}

ControlClient ControlClient::by_tcp(const std::string& address, const std::string& token_file) {
    const auto colon = std::min(address.rfind(':'), address.size());
    std::string host = address.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    ControlClient client(host);
    client.port_ = -1;
    if (colon < address.size())
        std::from_chars(address.data() + colon + 1, address.data() + address.size(), client.port_);
    std::ifstream file(token_file);
    std::getline(file, client.token_);
    return client;
}

Result<std::string> ControlClient::get_bytes(const std::string& target) const {
    return body_of(connect(socket_path_, port_, token_).Get(target), socket_path_);
}

Result<Json> ControlClient::get(const std::string& target) const {
    return parsed(get_bytes(target));
}

Result<Json> ControlClient::post(const std::string& target, const Json& body) const {
    return parsed(
        body_of(connect(socket_path_, port_, token_).Post(target, body.dump(), "application/json"),
                socket_path_));
}

Result<Json> ControlClient::put_bytes(const std::string& target, std::string_view bytes) const {
    return parsed(body_of(connect(socket_path_, port_, token_)
                              .Put(target, bytes.data(), bytes.size(), "application/octet-stream"),
                          socket_path_));
}

Status ControlClient::follow_events(std::uint64_t after,
                                    const std::function<bool(const Json&)>& on_event) const {
    auto client = connect(socket_path_, port_, token_);
    std::string pending;
    bool wants_more = true;
    // An event is a block of lines that ends with an empty one; the JSON is in its "data: " line.
    const auto take_blocks = [&](const char* data, std::size_t length) {
        pending.append(data, length);
        for (std::size_t end; wants_more && (end = pending.find("\n\n")) != pending.npos;
             pending.erase(0, end + 2)) {
            const auto at = pending.find("data: ");
            if (at == pending.npos || at > end) continue;
            const auto json = Json::parse(pending.substr(at + 6, pending.find('\n', at) - at - 6),
                                          nullptr, false);
            if (!json.is_discarded()) wants_more = on_event(json);
        }
        return wants_more;
    };
    std::string error_body;
    int status = 200;
    const auto answer = client.Get(
        "/v1/events?after=" + std::to_string(after), httplib::Headers{},
        [&](const httplib::Response& response) {
            status = response.status;
            return true;
        },
        [&](const char* data, std::size_t length) {
            if (status < 400) return take_blocks(data, length);
            error_body.append(data, length);
            return true;
        });
    if (!wants_more) return {};
    if (status >= 400) return stated_error(status, error_body);
    if (!answer) return unreachable(socket_path_, answer.error());
    return Error(Code::Gone, "the daemon ended the stream of events");
}

}  // namespace refault::cli
