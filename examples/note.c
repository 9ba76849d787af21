/* Leaves a line of text in a file of the pool, and shows what was there before and what the pool
 * holds: note TEXT [/path]
 */
#include <inttypes.h>
#include <refault/refault.h>
#include <stdio.h>
#include <string.h>

#define NOTE_BYTES 4096u

static int fail(const rf_session* session, const char* what, int error) {
    char detail[512];
    rf_error_detail(session, detail, sizeof detail);
    fprintf(stderr, "note: %s: %s (%s)\n", what, detail, rf_strerror(error));
    return 1;
}

static int show(const char* name, const rf_stat* stat, void* context) {
    (void)context;
    printf("  %s%s  %" PRIu64 " bytes\n", name, stat->is_directory ? "/" : "", stat->size_bytes);
    return 0;
}

static int leave_note(rf_session* session, const char* path, const char* text) {
    rf_file* file;
    rf_mapping* mapping;
    rf_stat stat;
    char* note;
    int error;

    if ((error = rf_create(session, path, 0600, 0, &file)) != 0) return fail(session, path, error);
    if ((error = rf_file_stat(file, &stat)) != 0) return fail(session, path, error);
    if (stat.size_bytes < NOTE_BYTES && (error = rf_resize(file, NOTE_BYTES)) != 0)
        return fail(session, path, error);
    if ((error = rf_map(file, 0, NOTE_BYTES, RF_READ | RF_WRITE, &mapping)) != 0)
        return fail(session, "map", error);

    note = rf_address(mapping);
    if (note[0] != '\0') printf("before: %.*s\n", (int)NOTE_BYTES, note);
    strncpy(note, text, NOTE_BYTES - 1);
    note[NOTE_BYTES - 1] = '\0';
    if ((error = rf_persist(mapping, note, NOTE_BYTES)) != 0)
        return fail(session, "persist", error);
    printf("now: %s\n", note);
    if ((error = rf_unmap(mapping)) != 0) return fail(session, "unmap", error);
    if ((error = rf_close(file)) != 0) return fail(session, "close", error);

    printf("pool %s:\n", rf_pool_name(session));
    if ((error = rf_list(session, "/", show, NULL)) != 0) return fail(session, "list", error);
    return 0;
}

int main(int argc, char** argv) {
    rf_session* session;
    char detail[512];
    int result;

    if (argc < 2) {
        fprintf(stderr, "usage: note TEXT [/path]\n");
        return 2;
    }
    if (rf_connect(NULL, &session, detail, sizeof detail) != 0) {
        fprintf(stderr, "note: %s\n", detail);
        return 1;
    }
    result = leave_note(session, argc > 2 ? argv[2] : "/note", argv[1]);
    rf_disconnect(session);
    return result;
}
