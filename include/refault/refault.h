/*
 * librefault: files of a Refault pool, mapped into your program and used with plain loads and
 * stores, on memory that can be taken away: while a device is drained the addresses stay and the
 * program sees at most a pause.
 *
 * Errors: every int function returns 0 or a negative errno; rf_strerror gives the general text,
 * rf_error_detail the daemon's own sentence about the last failure on a session.
 *
 * Threads: every function may be called from any thread; one object must not be destroyed while
 * another thread uses it. The library runs one thread, `refault-pager`, with all signals blocked;
 * it moves the mappings when told.
 *
 * Ownership: rf_session > rf_file > rf_mapping. A mapping keeps working after rf_close of its file;
 * rf_disconnect ends all.
 *
 * Forking: mappings are not inherited (MADV_DONTFORK): a child would walk past every fence. Nor can
 * a child use its parent's session: calls fail with -EPIPE, rf_disconnect does nothing, and the
 * child connects for itself if it wants to.
 *
 * When the daemon is gone, calls fail with -EPIPE. What is mapped keeps working; what was just
 * being moved stays blocked.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RF_API __attribute__((visibility("default")))
#else
#define RF_API
#endif

typedef struct rf_session rf_session;
typedef struct rf_file rf_file;
typedef struct rf_mapping rf_mapping;

/* Version of this header; rf_version() is that of the library in use. */
#define RF_VERSION_MAJOR 0
#define RF_VERSION_MINOR 1
RF_API void rf_version(int* major, int* minor);

/* Text for 0 or a negative errno, static, never NULL. */
RF_API const char* rf_strerror(int error);
/* The daemon's or library's sentence about the last failed call on this session: what happened and
 * what to do. Writes at most size bytes with the final NUL; returns the length it would have
 * needed. */
RF_API size_t rf_error_detail(const rf_session* session, char* buffer, size_t size);

/* Connects to a daemon. socket_path: its session socket; NULL: $REFAULT_SOCKET, else
 * /run/refault/session.sock. -EOPNOTSUPP when userfaultfd is not allowed to this process; -ENOENT,
 * -ECONNREFUSED when no daemon listens. On failure *session is NULL and `detail` (may be NULL)
 * receives the reason. */
RF_API int rf_connect(const char* socket_path, rf_session** session, char* detail,
                      size_t detail_size);
/* Unmaps all mappings, closes all files, joins the pager. */
RF_API void rf_disconnect(rf_session* session);
RF_API const char* rf_pool_name(const rf_session* session);
/* 1 when system calls that touch memory on the move wait like loads and stores do; 0 when they fail
 * with EFAULT, which is so for a process that may only use user-mode userfaultfd. */
RF_API int rf_handles_kernel_faults(const rf_session* session);

enum { RF_READ = 1, RF_WRITE = 2, RF_EXCLUSIVE = 4, RF_POPULATE = 8 };

/* Creates a file and opens it for reading and writing. flags: 0 or RF_EXCLUSIVE (-EEXIST when it is
 * there). */
RF_API int rf_create(rf_session* session, const char* path, uint32_t mode, int flags,
                     rf_file** file);
/* flags: RF_READ, or RF_READ | RF_WRITE. Permissions are those of the file against this process. */
RF_API int rf_open(rf_session* session, const char* path, int flags, rf_file** file);
/* The file is closed and `file` is gone whatever is returned. */
RF_API int rf_close(rf_file* file);

/* Space is taken at once: -ENOSPC here, never a fault later. Shrinking: touching mapped bytes
 * beyond the new end is SIGBUS from then on. */
RF_API int rf_resize(rf_file* file, uint64_t size_bytes);

typedef struct rf_stat {
    uint64_t inode;
    uint64_t size_bytes;
    uint32_t mode; /* permission bits */
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
    int is_directory;
    uint64_t modified_ns; /* since 1970 */
    uint64_t changed_ns;
} rf_stat;
RF_API int rf_file_stat(rf_file* file, rf_stat* out);
RF_API int rf_path_stat(rf_session* session, const char* path, rf_stat* out);

/* Maps [offset, offset + length) of the file; both in whole pages of 4096 bytes (a length reaching
 * beyond the end of the file is allowed: those pages are SIGBUS until the file grows). flags:
 * RF_READ, or RF_READ | RF_WRITE (the file must be open for it), and RF_POPULATE to have the memory
 * and page tables ready on return.
 *
 * The addresses belong to the mapping until rf_unmap: the program must not munmap, mremap or map
 * anything else in them (what it puts there is replaced when the range moves, and its stores to
 * such pages are not protected). mprotect, mlock and madvise are allowed but last only until the
 * range moves: its new place has the protection that the mapping was made with. Reads and writes by
 * the kernel into the range (read(2), O_DIRECT) follow a move; buffers that stay registered over it
 * (io_uring fixed buffers, RDMA) do not: register them anew. */
RF_API int rf_map(rf_file* file, uint64_t offset, uint64_t length, int flags, rf_mapping** mapping);
/* The same for the life of the mapping. 2 MiB aligned. */
RF_API void* rf_address(const rf_mapping* mapping);
RF_API uint64_t rf_length(const rf_mapping* mapping);
/* Durable on the medium under the range when it returns 0 (nothing to wait for on memory-backed
 * devices). */
RF_API int rf_persist(rf_mapping* mapping, const void* address, size_t length);
/* The memory is unmapped and `mapping` is gone whatever is returned. */
RF_API int rf_unmap(rf_mapping* mapping);

/* Calls visit for each entry, in order of names, until it returns non-zero; that value is returned.
 */
typedef int (*rf_visitor)(const char* name, const rf_stat* stat, void* context);
RF_API int rf_list(rf_session* session, const char* path, rf_visitor visit, void* context);
RF_API int rf_unlink(rf_session* session, const char* path);
RF_API int rf_mkdir(rf_session* session, const char* path, uint32_t mode);
RF_API int rf_rmdir(rf_session* session, const char* path);
RF_API int rf_rename(rf_session* session, const char* from, const char* to);

#ifdef __cplusplus
}
#endif
