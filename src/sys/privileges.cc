// Parsing /proc/PID/status.
#include "sys/privileges.h"

#include <fstream>
#include <sstream>

namespace refault::sys {

base::Result<Privileges> read_privileges(const std::string& path) {
    std::ifstream status(path);
    if (!status) return base::sys_error(path);
    Privileges found;
    for (std::string line; std::getline(status, line);) {
        std::istringstream words(line);
        std::string name;
        words >> name >> std::hex;
        if (name == "CapEff:") words >> found.effective_capabilities;
        if (name == "CapPrm:") words >> found.permitted_capabilities;
        if (name == "CapBnd:") words >> found.bounding_capabilities;
        if (name == "NoNewPrivs:") words >> found.has_no_new_privileges;
        if (name == "Seccomp:") words >> found.seccomp_mode;
    }
    return found;
}

}  // namespace refault::sys
