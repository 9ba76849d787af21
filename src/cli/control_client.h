// The control API as a client sees it: one request, one JSON answer (docs/control-api.md). Not
// thread-safe.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace httplib {
class Client;
class Result;
}  // namespace httplib

namespace refault::cli {

using Json = nlohmann::json;

class ControlClient {
  public:
    explicit ControlClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}
    // By TCP, "ADDRESS:PORT", with the token that `token_file` begins with. What is wrong with
    // either is told by the first request.
    static ControlClient by_tcp(const std::string& address, const std::string& token_file);

    // `target` is path and query, encoded. An answer of 4xx or 5xx becomes the Error that the
    // daemon stated.
    base::Result<Json> get(const std::string& target) const;
    base::Result<Json> post(const std::string& target, const Json& body) const;
    // Raw bytes both ways.
    base::Result<std::string> get_bytes(const std::string& target) const;
    base::Result<Json> put_bytes(const std::string& target, std::string_view bytes) const;
    // Reads server-sent events until `on_event` returns false (ok) or the connection ends (Gone).
    base::Status follow_events(std::uint64_t after,
                               const std::function<bool(const Json&)>& on_event) const;

    const std::string& socket_path() const noexcept { return socket_path_; }

  private:
    base::Status take_address(const std::string& address);
    base::Status take_token(const std::string& file);
    // One request: the body of its answer.
    base::Result<std::string> ask(
        const std::function<httplib::Result(httplib::Client&)>& send) const;
    // What a request that failed says: why nobody was reached, or what the daemon stated.
    base::Error unreachable(bool is_connected, const std::string& why) const;
    base::Error refused(int http_status, const std::string& body) const;

    std::string socket_path_;  // or the address
    int port_ = 0;             // 0: a unix socket
    std::string token_;
    std::string token_file_;
    base::Status is_usable_;  // by_tcp(): what is wrong with the address or the token
};

// Percent-encodes a value for a query.
std::string url_encode(std::string_view text);

}  // namespace refault::cli
