// HTTP over the daemon's unix socket, or by TCP.
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
    ControlClient client("");
    client.is_usable_ = client.take_address(address);
    if (client.is_usable_) client.is_usable_ = client.take_token(token_file);
    return client;
}

Status ControlClient::take_address(const std::string& address) {
    const auto colon = std::min(address.rfind(':'), address.size());
    socket_path_ = address.substr(0, colon);
    if (socket_path_.starts_with('[') && socket_path_.ends_with(']'))
        socket_path_ = socket_path_.substr(1, socket_path_.size() - 2);
    std::uint16_t port = 0;
    const char* const end = address.data() + address.size();
    const auto parsed = std::from_chars(std::min(address.data() + colon + 1, end), end, port);
    if (socket_path_.empty() || parsed.ec != std::errc{} || parsed.ptr != end || port == 0)
        return Error(Code::Invalid, "'" + address +
                                        "' is no address of a daemon; write ADDRESS:PORT, for "
                                        "example 127.0.0.1:7070");
    port_ = port;
    return {};
}

Status ControlClient::take_token(const std::string& file) {
    if (file.empty())
        return Error(Code::Denied, "by TCP it takes a token; give one with --token-file");
    errno = 0;
    std::ifstream stream(file);
    if (!stream || !std::getline(stream, token_))
        return base::sys_error("cannot read a token from " + file, errno != 0 ? errno : ENODATA);
    token_file_ = file;
    return {};
}

Error ControlClient::unreachable(bool is_connected, const std::string& why) const {
    const auto place = port_ == 0 ? socket_path_ : socket_path_ + " port " + std::to_string(port_);
    if (is_connected)
        return Error(Code::Gone, "the daemon at " + place + " did not answer: " + why);
    if (port_ != 0)
        return Error(Code::NotFound, "no daemon at " + place +
                                         "; start one there with: refaultd --listen-tcp "
                                         "ADDRESS:PORT --token-file FILE");
    if (::access(socket_path_.c_str(), F_OK) == 0 && ::access(socket_path_.c_str(), W_OK) != 0)
        return Error(Code::Denied,
                     "you may not use " + place +
                         "; ask as its owner, or start the daemon with another --control-mode");
    return Error(Code::NotFound, "no daemon at " + place + "; start one with: refaultd --run-dir " +
                                     place.substr(0, place.rfind('/')));
}

Error ControlClient::refused(int http_status, const std::string& body) const {
    constexpr int kUnauthorized = 401;
    if (http_status == kUnauthorized && port_ != 0)
        return Error(Code::Denied, "the token in " + token_file_ + " is refused; give the one of " +
                                       "the daemon's --token-file");
    return stated_error(http_status, body);
}

Result<std::string> ControlClient::ask(
    const std::function<httplib::Result(httplib::Client&)>& send) const {
    if (!is_usable_) return is_usable_.error();
    auto client = connect(socket_path_, port_, token_);
    const auto answer = send(client);
    if (!answer)
        return unreachable(answer.error() != httplib::Error::Connection,
                           httplib::to_string(answer.error()));
    if (answer->status >= 400) return refused(answer->status, answer->body);
    return answer->body;
}

Result<std::string> ControlClient::get_bytes(const std::string& target) const {
    return ask([&](httplib::Client& client) { return client.Get(target); });
}

Result<Json> ControlClient::get(const std::string& target) const {
    return parsed(get_bytes(target));
}

Result<Json> ControlClient::post(const std::string& target, const Json& body) const {
    return parsed(ask([&](httplib::Client& client) {
        return client.Post(target, body.dump(), "application/json");
    }));
}

Result<Json> ControlClient::put_bytes(const std::string& target, std::string_view bytes) const {
    return parsed(ask([&](httplib::Client& client) {
        return client.Put(target, bytes.data(), bytes.size(), "application/octet-stream");
    }));
}

Status ControlClient::follow_events(std::uint64_t after,
                                    const std::function<bool(const Json&)>& on_event) const {
    if (!is_usable_) return is_usable_.error();
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
    if (status >= 400) return refused(status, error_body);
    if (!answer)
        return unreachable(answer.error() != httplib::Error::Connection,
                           httplib::to_string(answer.error()));
    return Error(Code::Gone, "the daemon ended the stream of events");
}

}  // namespace refault::cli
