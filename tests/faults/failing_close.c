/* Makes close() of files under a directory fail, as NFS and quotas do: the last word on what was
 * written and not synced. Preloaded; FAIL_CLOSE is the directory. The descriptor is closed. */
#include "interpose.h"

REAL(int, close, int)

static char prefix[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    find_close();
    const char *under = getenv("FAIL_CLOSE");
    if (under) snprintf(prefix, sizeof prefix, "%s", under);
}

PUBLIC int close(int descriptor) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    int closed = real_close(descriptor);
    if (!*prefix || closed != 0 || length < 0) return closed;
    path[length] = 0;
    if (strncmp(path, prefix, strlen(prefix)) != 0) return closed;
    errno = EIO;
    return -1;
}
