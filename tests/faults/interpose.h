/* What both shims share: the real functions behind the ones they take the place of, and the path
 * behind a descriptor. Every call that changes a file passes through `open`, `write`, `sync`,
 * `rename` and their kin; each shim includes this and defines those it needs. */
#ifndef SCAI_TESTS_INTERPOSE_H
#define SCAI_TESTS_INTERPOSE_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

/* The next definition of `name`, looked up once: libc's own. */
#define REAL(result, name, ...)                                              \
    static result (*real_##name)(__VA_ARGS__);                               \
    static void find_##name(void) {                                          \
        if (!real_##name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name);  \
    }

/* The path an open descriptor stands for; empty when it has none. */
static inline void path_of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

/* The absolute path of `name` relative to `directory`; symbolic links are not followed. */
static inline void path_at(int directory, const char *name, char *path) {
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char base[PATH_MAX];
    if (directory == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        path_of_descriptor(directory, base);
    }
    if (snprintf(path, PATH_MAX, "%.2000s/%.2000s", base, name) < 0) path[0] = 0;
}

static inline bool is_under(const char *path, const char *prefix) {
    size_t length = strlen(prefix);
    return length && strncmp(path, prefix, length) == 0 && (path[length] == '/' || !path[length]);
}

#endif
