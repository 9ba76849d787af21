// One process of the packaged sqlite3 command, fed through a pipe. What it was asked is done when
// it has said so itself. One thread at a time; kill() from any.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace refault::cli {

class Sqlite {
  public:
    // Ends at the first statement that fails.
    static base::Result<Sqlite> start(const std::string& program, const std::string& database);
    // Kills it when it was not closed.
    ~Sqlite();
    Sqlite(Sqlite&& other) noexcept;
    Sqlite& operator=(Sqlite&&) = delete;

    // Runs statements; gives what they print. Errors: it has ended, with its last words; it does
    // not answer; the demo is told to end.
    base::Result<std::string> ask(const std::string& sql);
    // No more statements: it closes the database and has to exit with 0.
    base::Status close();
    void kill() const;
    pid_t pid() const { return pid_; }

  private:
    Sqlite() = default;
    base::Status say(const std::string& text);
    // Adds to `text` until it ends with `last`; false when the process is at its end.
    base::Result<bool> read_until(const std::string& last, std::string& text);
    base::Error ended(const std::string& said) const;

    pid_t pid_ = -1;  // stays a name of the process until it is reaped, by the owner alone
    base::UniqueFd to_;
    base::UniqueFd from_;
};

}  // namespace refault::cli
