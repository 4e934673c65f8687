/* Makes the N-th file operation under a directory fail, in whichever process and thread it falls.
 *
 * Preloaded into the service. FAIL_PREFIX is the directory; FAIL_CONTROL a file of `struct control`
 * that all processes map: the test arms and heals it, and reads what was hit. Operations are
 * counted in one sequence over all processes; from the N-th on one or all of them fail. */
#include "interpose.h"

enum { OPEN = 1, WRITE = 2, SYNC = 4, RENAME = 8, TRUNCATE = 16, UNLINK = 32, ALLOCATE = 64,
       MKDIR = 128 };

struct control {
    _Atomic uint64_t seen;   /* operations since the test set it to 0 */
    _Atomic uint64_t hits;   /* how many of them failed */
    uint64_t target;         /* N */
    uint32_t armed;
    uint32_t persistent;     /* every operation from the N-th on, until healed */
    int32_t error;           /* errno to fail with; 0: a write stops half-way instead */
    uint32_t mask;           /* which kinds count */
    char where[480];         /* the first one hit: kind and path */
};

static struct control *control;
static char prefix[PATH_MAX];

REAL(int, open64, const char *, int, ...)
REAL(int, openat64, int, const char *, int, ...)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(ssize_t, pwritev64, int, const struct iovec *, int, off_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, syncfs, int)
REAL(int, renameat, int, const char *, int, const char *)
REAL(int, linkat, int, const char *, int, const char *, int)
REAL(int, ftruncate64, int, off_t)
REAL(int, unlinkat, int, const char *, int)
REAL(int, fallocate64, int, int, off_t, off_t)
REAL(int, posix_fallocate64, int, off_t, off_t)
REAL(int, mkdirat, int, const char *, mode_t)

__attribute__((constructor)) static void begin(void) {
    find_open64(), find_openat64(), find_write(), find_pwrite64(), find_writev();
    find_pwritev64(), find_fsync(), find_fdatasync(), find_syncfs(), find_renameat();
    find_linkat(), find_ftruncate64(), find_unlinkat(), find_fallocate64(), find_posix_fallocate64();
    find_mkdirat();
    const char *file = getenv("FAIL_CONTROL");
    const char *under = getenv("FAIL_PREFIX");
    if (!file || !under) return;
    snprintf(prefix, sizeof prefix, "%s", under);
    int descriptor = real_open64(file, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *memory = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (memory != MAP_FAILED) control = memory;
}

static const char *kind_name(int kind) {
    switch (kind) {
    case OPEN: return "open";
    case WRITE: return "write";
    case SYNC: return "sync";
    case RENAME: return "rename";
    case TRUNCATE: return "truncate";
    case UNLINK: return "unlink";
    case ALLOCATE: return "allocate";
    default: return "mkdir";
    }
}

/* Whether this operation is one of those to fail. */
static bool hit(int kind, const char *path) {
    if (!control || !control->armed || !(control->mask & (uint32_t)kind)) return false;
    if (!is_under(path, prefix)) return false;
    uint64_t number = atomic_fetch_add(&control->seen, 1) + 1;
    if (number != control->target && !(control->persistent && number > control->target))
        return false;
    if (atomic_fetch_add(&control->hits, 1) == 0)
        snprintf(control->where, sizeof control->where, "%s %s", kind_name(kind), path);
    return true;
}

static bool hit_descriptor(int kind, int descriptor) {
    if (!control || !control->armed) return false;
    char path[PATH_MAX];
    path_of_descriptor(descriptor, path);
    return hit(kind, path);
}

static bool hit_at(int kind, int directory, const char *name) {
    if (!control || !control->armed) return false;
    char path[PATH_MAX];
    path_at(directory, name, path);
    return hit(kind, path);
}

static int failed(void) {
    errno = control->error ? control->error : EIO;
    return -1;
}

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    if (flags & (O_WRONLY | O_RDWR | O_CREAT) && hit_at(OPEN, directory, name)) return failed();
    return real_openat64(directory, name, flags, mode);
}

static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | __O_TMPFILE) ? (mode_t)va_arg(rest, unsigned) : 0;
}

#define OPEN_LIKE(name)                                                 \
    PUBLIC int name(const char *path, int flags, ...) {                 \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode_t mode = mode_of(flags, rest);                             \
        va_end(rest);                                                   \
        return open_at(AT_FDCWD, path, flags, mode);                    \
    }
#define OPENAT_LIKE(name)                                               \
    PUBLIC int name(int directory, const char *path, int flags, ...) {  \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode_t mode = mode_of(flags, rest);                             \
        va_end(rest);                                                   \
        return open_at(directory, path, flags, mode);                   \
    }
OPEN_LIKE(open)
OPEN_LIKE(open64)
OPENAT_LIKE(openat)
OPENAT_LIKE(openat64)
PUBLIC int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
PUBLIC int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }

/* How much of a write the disk takes: all, or half of it, whole blocks of a direct one. */
static size_t half(int descriptor, size_t count) {
    size_t step = fcntl(descriptor, F_GETFL) & O_DIRECT ? 4096 : 1;
    size_t some = count / 2 / step * step;
    return some ? some : count;
}

PUBLIC ssize_t write(int descriptor, const void *data, size_t count) {
    if (!hit_descriptor(WRITE, descriptor)) return real_write(descriptor, data, count);
    if (control->error) return failed();
    return real_write(descriptor, data, half(descriptor, count));
}

PUBLIC ssize_t pwrite64(int descriptor, const void *data, size_t count, off_t offset) {
    if (!hit_descriptor(WRITE, descriptor)) return real_pwrite64(descriptor, data, count, offset);
    if (control->error) return failed();
    return real_pwrite64(descriptor, data, half(descriptor, count), offset);
}

PUBLIC ssize_t pwrite(int descriptor, const void *data, size_t count, off_t offset) {
    return pwrite64(descriptor, data, count, offset);
}

PUBLIC ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    if (!hit_descriptor(WRITE, descriptor)) return real_writev(descriptor, parts, count);
    if (control->error) return failed();
    struct iovec first = {parts->iov_base, half(descriptor, parts->iov_len)};
    return real_writev(descriptor, &first, 1);
}

PUBLIC ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    if (!hit_descriptor(WRITE, descriptor))
        return real_pwritev64(descriptor, parts, count, offset);
    if (control->error) return failed();
    struct iovec first = {parts->iov_base, half(descriptor, parts->iov_len)};
    return real_pwritev64(descriptor, &first, 1, offset);
}

PUBLIC ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(descriptor, parts, count, offset);
}

PUBLIC int fsync(int descriptor) {
    return hit_descriptor(SYNC, descriptor) ? failed() : real_fsync(descriptor);
}
PUBLIC int fdatasync(int descriptor) {
    return hit_descriptor(SYNC, descriptor) ? failed() : real_fdatasync(descriptor);
}
PUBLIC int syncfs(int descriptor) {
    return hit_descriptor(SYNC, descriptor) ? failed() : real_syncfs(descriptor);
}

PUBLIC int renameat(int from_at, const char *from, int to_at, const char *to) {
    return hit_at(RENAME, to_at, to) ? failed() : real_renameat(from_at, from, to_at, to);
}
PUBLIC int rename(const char *from, const char *to) {
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* A name given is a name given: a link counts as a rename. */
PUBLIC int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    return hit_at(RENAME, to_at, to) ? failed() : real_linkat(from_at, from, to_at, to, flags);
}
PUBLIC int link(const char *from, const char *to) {
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

PUBLIC int ftruncate64(int descriptor, off_t length) {
    return hit_descriptor(TRUNCATE, descriptor) ? failed() : real_ftruncate64(descriptor, length);
}
PUBLIC int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

PUBLIC int unlinkat(int directory, const char *name, int flags) {
    return hit_at(UNLINK, directory, name) ? failed() : real_unlinkat(directory, name, flags);
}
PUBLIC int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

PUBLIC int fallocate64(int descriptor, int mode, off_t offset, off_t length) {
    if (hit_descriptor(ALLOCATE, descriptor)) return failed();
    return real_fallocate64(descriptor, mode, offset, length);
}
PUBLIC int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    return fallocate64(descriptor, mode, offset, length);
}
PUBLIC int posix_fallocate64(int descriptor, off_t offset, off_t length) {
    if (hit_descriptor(ALLOCATE, descriptor)) return control->error ? control->error : EIO;
    return real_posix_fallocate64(descriptor, offset, length);
}
PUBLIC int posix_fallocate(int descriptor, off_t offset, off_t length) {
    return posix_fallocate64(descriptor, offset, length);
}

PUBLIC int mkdirat(int directory, const char *name, mode_t mode) {
    return hit_at(MKDIR, directory, name) ? failed() : real_mkdirat(directory, name, mode);
}
PUBLIC int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
