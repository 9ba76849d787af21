// Whether a directory of somebody's may be a device: nobody but its owner can put files into it,
// and what is in it is what a daemon leaves there. Stateless; any thread.
#pragma once

#include <string>

#include "base/result.h"

namespace refault::device {

// Denied when it belongs to another user than this process's or root, or others may write in it.
base::Status check_directory(int directory, const std::string& path);
// Denied when a file of a device (label, lock, segment) is a symbolic link, no regular file,
// another user's, or others may write into it.
base::Status check_files(int directory, const std::string& path);
// The same of an open file.
base::Status check_file(int file, const std::string& name);

}  // namespace refault::device
