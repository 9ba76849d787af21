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
 * When the daemon is gone, what is mapped keeps working, what was just being moved stays shut, and
 * the session waits for the next daemon, which gets it: see rf_set_patience.
 */
#pragma once

#include <signal.h>
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
 * session.sock in $REFAULT_RUN_DIR, else /run/refault/session.sock. -EOPNOTSUPP when userfaultfd is
 * not allowed to this process; -ENOENT, -ECONNREFUSED when no daemon listens. On failure *session
 * is NULL and `detail` (may be NULL) receives the reason. */
RF_API int rf_connect(const char* socket_path, rf_session** session, char* detail,
                      size_t detail_size);
/* Unmaps all mappings, closes all files, joins the pager. */
RF_API void rf_disconnect(rf_session* session);
/* How long a daemon that has gone is waited for; -1: for ever. 30000 ms unless told otherwise. As
 * long as it is away, what is mapped keeps working, what was being moved or recovered stays shut,
 * and calls wait. The next daemon that serves the pool at the same socket gets the session, its
 * files and mappings, at the same addresses. When the time is over calls fail with -EPIPE until one
 * serves it all the same: then all of it goes on.
 * A call that the daemon had begun when it ended, and that cannot simply be repeated (rf_create
 * with RF_EXCLUSIVE, rf_unlink, rf_rename, rf_mkdir, rf_rmdir), fails with -ECONNRESET: it was done
 * or not. A daemon that is replaced by `refault daemon upgrade` leaves no such call behind. */
RF_API int rf_set_patience(rf_session* session, int64_t timeout_ms);
/* What a touch of memory that is shut does when that time is over and no daemon has come: waits on,
 * until rf_disconnect or rf_unmap (RF_ABANDONED_WAIT, unless told otherwise), or gets SIGBUS
 * (RF_ABANDONED_SIGBUS), also who waits already. Of what is not shut nothing changes. May be
 * changed at any time; a page that was refused stays so until a daemon has the session again.
 * -EINVAL for another choice. */
enum { RF_ABANDONED_WAIT = 0, RF_ABANDONED_SIGBUS = 1 };
RF_API int rf_set_when_abandoned(rf_session* session, int choice);
/* A child process has none of its parent's mappings: a touch of their addresses is SIGSEGV, and
 * calls with the session are refused (-EPIPE). This, called in the child before it maps anything
 * else, gives the session to it: the same rf_session, rf_file and rf_mapping go on there, at the
 * same addresses, registered as its own, so every fence holds for it as well. Returns when all of
 * it can be touched. Notices, if they were asked for, must be asked for anew. -EINVAL in the
 * parent; -EEXIST when something else lies at the addresses; else what rf_connect and rf_map give.
 * On failure the child has no mapping, may try again, and `detail` (may be NULL) has the reason. */
RF_API int rf_after_fork(rf_session* session, char* detail, size_t detail_size);
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
/* Durable when it returns 0: what was stored in the range before the call is on the medium (nothing
 * to wait for on memory-backed devices) and on every copy of the file. A plain copy in user space,
 * no system call, where the medium is memory. -EIO when the range is lost, -ESTALE when it waits
 * for rf_accept. Give several threads that store into one range their own order: persist makes
 * durable what it finds. */
RF_API int rf_persist(rf_mapping* mapping, const void* address, size_t length);
/* The memory is unmapped and `mapping` is gone whatever is returned. */
RF_API int rf_unmap(rf_mapping* mapping);

/* The range reads as zeros from now on, in every mapping and on every copy; whole pages. What was
 * lost in it can be used again. */
RF_API int rf_punch(rf_file* file, uint64_t offset, uint64_t length);

/*
 * When memory is lost
 *
 * Most losses are not seen: a file with a second copy goes on from it, at the same addresses, after
 * a pause. Two are:
 *
 *   RF_LOST   no copy is left. A touch is SIGBUS with BUS_MCEERR_AR, the address and the size
 *             (si_addr_lsb), until the range is overwritten through the daemon, or punched.
 *   RF_STALE  the copy that is left may be older than what this program has stored and not
 *             persisted. A touch is SIGBUS, too, until rf_accept (or until the pages are
 * overwritten through the daemon or punched, after which nothing older is left); other programs,
 * and mappings made anew, see the older bytes. Files set to on-loss=rollback skip this.
 *
 * rf_connect installs a SIGBUS handler, which asks the daemon, repeats the access where it can, and
 * hands every other SIGBUS on to the handler that was there before. A program that installs its own
 * handler later calls rf_handle_sigbus first in it.
 */
enum { RF_LOST = 1, RF_STALE = 2, RF_BEYOND = 3 };

typedef struct rf_loss {
    void* address;
    size_t length;
    int what; /* RF_LOST, RF_STALE, or, from rf_try alone, RF_BEYOND: beyond the file's end */
} rf_loss;

/* For a handler installed after rf_connect: 1 when it should return, because the access can be
 * repeated; 0 when the signal is the program's to deal with. Where pool memory was lost, *info then
 * says BUS_MCEERR_AR, the address and the size. Async-signal-safe. `info` is the handler's
 * siginfo_t*, a type that strict C has no name for. */
RF_API int rf_handle_sigbus(void* info);
/* Runs body(context). When it touches memory that is lost, it is left by a jump, and the result is
 * -EIO (RF_LOST), -ESTALE (RF_STALE) or -EFAULT (RF_BEYOND), with *loss (may be
 * NULL) filled in; otherwise 0. As after longjmp, nothing is undone and no destructor runs: body
 * should only read and write memory. */
RF_API int rf_try(void (*body)(void* context), void* context, rf_loss* loss);
/* Goes on with the older bytes in this part of the mapping; whole pages. */
RF_API int rf_accept(rf_mapping* mapping, const void* address, size_t length);

/* RF_NOTICE_LATE (the default): a loss is told to who touches it, as PR_MCE_KILL_LATE does.
 * RF_NOTICE_SIGNAL: at once, as SIGBUS with BUS_MCEERR_AO, address and size, to any thread that
 * does not block it. RF_NOTICE_DESCRIPTOR: at once, through rf_notice_descriptor. */
enum { RF_NOTICE_LATE = 0, RF_NOTICE_SIGNAL = 1, RF_NOTICE_DESCRIPTOR = 2 };
RF_API int rf_set_notice(rf_session* session, int mode);
/* Readable when rf_read_notice has something; a negative errno when there is none to be had. The
 * session's own: poll it, do not close it. */
RF_API int rf_notice_descriptor(rf_session* session);
/* -EAGAIN when no notice waits. */
RF_API int rf_read_notice(rf_session* session, rf_loss* loss);

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
