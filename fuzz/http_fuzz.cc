// Bytes on the control socket, to a server without a pool: every connection gets an answer in HTTP
// or is closed, and the server lives. Requests that name a device are left out: they could make a
// pool.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "daemon/control_server.h"
#include "fuzz/devices.h"

namespace refault::fuzz {
namespace {

class World {
  public:
    World()
        : api_(events_, daemon::PoolOptions{options(), ""}),
          server_(api_, {.socket_path = path()}) {
        CHECK(server_.start().ok());
    }
    std::string path() const { return devices_.path() / "control.sock"; }

  private:
    session::ServerOptions options() const {
        session::ServerOptions made;
        made.socket_path = devices_.path() / "session.sock";
        return made;
    }

    Devices devices_;
    daemon::EventLog events_;
    daemon::ControlApi api_;
    daemon::ControlServer server_;
};

// All that is answered; of a stream of events only its beginning.
std::string ask(const std::string& path, Input request) {
    const base::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    CHECK(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    // The server may hang up before it has read everything.
    while (!request.empty()) {
        const auto put = ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
        if (put <= 0) break;
        request = request.subspan(static_cast<std::size_t>(put));
    }
    ::shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char buffer[16384];
    while (answer.find("text/event-stream") == answer.npos) {
        const auto got = ::recv(fd.get(), buffer, sizeof buffer, 0);
        if (got <= 0) break;
        answer.append(buffer, static_cast<std::size_t>(got));
    }
    return answer;
}

std::vector<Bytes> seeds() {
    std::vector<Bytes> all;
    for (const std::string text :
         {"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
          "POST /v1/pull HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
          "GET /v1/devices/abc HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\n\r\n",
          "GET /v1/events?after=0&follow=0 HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 7\r\n\r\n",
          "GET /v1/files/data?path=%2ff&offset=1 HTTP/1.0\r\n\r\n",
          "PUT /v1/files/data?path=/f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
          "3\r\nabc\r\n0\r\n\r\n",
          "POST /v1/devices/a/cancel HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
          "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 0\r\n\r\n",
          "OPTIONS * HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"})
        all.emplace_back(text.begin(), text.end());
    return all;
}

void run(Input input) {
    static const World world;
    const std::string_view text(reinterpret_cast<const char*>(input.data()), input.size());
    for (const char* device : {"ram:", "dir:", "\\u"})
        if (text.find(device) != text.npos) return;
    const auto answer = ask(world.path(), input);
    CHECK(answer.empty() || answer.starts_with("HTTP/1."));
}

const Registration registered({"http", seeds, run, 300});

}  // namespace
}  // namespace refault::fuzz
