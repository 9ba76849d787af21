// The table of operations, and what is asked of the kernel when it connects.
#include "mount/context.h"

namespace refault::mount {

namespace {

void init(void* user, fuse_conn_info* connection) {
    const auto& context = *static_cast<Context*>(user);
    const auto want = [connection](unsigned capability) {
        if (connection->capable & capability) connection->want |= capability;
    };
    // What others change is taken from the cache explicitly; times alone prove nothing.
    connection->want &= ~unsigned{FUSE_CAP_AUTO_INVAL_DATA};
    want(FUSE_CAP_EXPLICIT_INVAL_DATA);
    // Its second version is asked for in kernel_channel.h.
    connection->want &= ~unsigned{FUSE_CAP_HANDLE_KILLPRIV};
    want(FUSE_CAP_CACHE_SYMLINKS);
    // Inodes are found by their numbers, which are never used again.
    want(FUSE_CAP_EXPORT_SUPPORT);
    if (context.options.has_writeback) want(FUSE_CAP_WRITEBACK_CACHE);
    connection->time_gran = 1;
}

}  // namespace

fuse_lowlevel_ops operations() {
    fuse_lowlevel_ops table{};
    table.init = init;
    add_name_operations(table);
    add_directory_operations(table);
    add_attribute_operations(table);
    add_file_operations(table);
    add_space_operations(table);
    return table;
}

}  // namespace refault::mount
