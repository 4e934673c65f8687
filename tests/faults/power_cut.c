/* Keeps a shadow of a directory as the disk would hold it if the power failed now.
 *
 * Preloaded into the service. POWER_CUT_LIVE is the directory, POWER_CUT_SHADOW where the shadow is
 * kept. The pessimistic reading of POSIX: a file's bytes and size reach the shadow by fsync or
 * fdatasync of that file, a synchronous write, or syncfs; names reach it by fsync of their
 * directory or syncfs. With POWER_CUT_EXT4 the sync of a file makes its names' directories
 * durable too, as a journal commit does. Nothing is really synced: the shadow is the disk.
 *
 *   content/<identity>  durable bytes of a file        entries/<identity>  durable names
 *   changed/<identity>  one byte for each page beyond `small_bytes` changed since its last sync
 *
 *   dropped/<identity>  one byte for each page that the kernel takes for clean and the disk lacks
 *
 * POWER_CUT_FAIL is a file of `struct failing`: the N-th sync fails. As Linux does it (fsyncgate):
 * the pages it was for are dropped, which means clean and not on the disk; that is reported once;
 * the next sync succeeds and writes only what was written again since. Names are left to it: a file
 * system with a journal keeps them for the next commit, or stops.
 *
 * An identity is inode number and birth time, so a reused inode is another file. Files up to
 * `small_bytes` are copied whole at each sync; of larger ones, the changed pages. A page is marked
 * after the write that changes it: a sync that misses the mark ran beside the write, not after. */
#include "interpose.h"

#include <dirent.h>
#include <sys/time.h>

enum { page_bytes = 4096, small_bytes = 1 << 20, changed_map_bytes = 1 << 20 };

static char live[PATH_MAX], shadow[PATH_MAX];
static bool names_follow_files;
struct failing {
    _Atomic uint64_t seen; /* syncs since the test set it to 0 */
    _Atomic uint64_t hits; /* how many failed */
    uint64_t target;       /* N; 0: none */
    uint64_t every;        /* and each so many after it; 0: none */
};

static struct failing *failing;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(ssize_t, pwritev64, int, const struct iovec *, int, off_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, syncfs, int)
REAL(int, ftruncate64, int, off_t)
REAL(int, fallocate64, int, int, off_t, off_t)

__attribute__((constructor)) static void begin(void) {
    find_write(), find_pwrite64(), find_writev(), find_pwritev64(), find_fsync();
    find_fdatasync(), find_syncfs(), find_ftruncate64(), find_fallocate64();
    const char *from = getenv("POWER_CUT_LIVE");
    const char *to = getenv("POWER_CUT_SHADOW");
    if (!from || !to) return;
    snprintf(live, sizeof live, "%s", from);
    snprintf(shadow, sizeof shadow, "%s", to);
    names_follow_files = getenv("POWER_CUT_EXT4") != NULL;
    const char *control = getenv("POWER_CUT_FAIL");
    int descriptor = control ? open(control, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *memory = mmap(0, sizeof *failing, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (memory != MAP_FAILED) failing = memory;
}

/* Whether this sync is one of those to fail. */
static bool fails(void) {
    if (!failing || !failing->target) return false;
    uint64_t number = atomic_fetch_add(&failing->seen, 1) + 1;
    bool again = failing->every && number > failing->target &&
                 (number - failing->target) % failing->every == 0;
    if (number != failing->target && !again) return false;
    atomic_fetch_add(&failing->hits, 1);
    return true;
}

static void impossible(const char *what) {
    fprintf(stderr, "power_cut shim: %s: %s\n", what, strerror(errno));
    abort();
}

static bool tracked(int descriptor, char *path) {
    if (!live[0]) return false;
    path_of_descriptor(descriptor, path);
    return is_under(path, live);
}

static void identity_at(int directory, const char *name, char *identity, mode_t *mode) {
    struct statx found;
    int flags = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;
    identity[0] = 0;
    if (statx(directory, name, flags, STATX_INO | STATX_BTIME | STATX_TYPE, &found) != 0) return;
    if (!(found.stx_mask & STATX_BTIME)) impossible("this file system tells no birth time");
    snprintf(identity, 64, "%llx-%llx.%x", (unsigned long long)found.stx_ino,
             (unsigned long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    if (mode) *mode = found.stx_mode;
}

/* For the driver: the identity of a path. */
PUBLIC void power_cut_identity(const char *path, char *identity) {
    identity_at(AT_FDCWD, path, identity, NULL);
}

static int open_shadow(const char *kind, const char *identity, int flags) {
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/%s", shadow, kind, identity);
    return open(path, flags | O_CLOEXEC, 0600);
}

/* One writer of the shadow at a time, over all processes; released if its holder is killed. */
static int enter(void) {
    pthread_mutex_lock(&mutex);
    int lock = open_shadow(".", "lock", O_RDWR | O_CREAT);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) impossible("lock");
    return lock;
}

static void leave(int lock) {
    close(lock);
    pthread_mutex_unlock(&mutex);
}

/* The marks of one file, mapped for a moment; NULL when there are none and none are wanted. */
static unsigned char *map_marks(const char *kind, const char *identity, bool create) {
    int descriptor = open_shadow(kind, identity, create ? O_RDWR | O_CREAT : O_RDWR);
    if (descriptor < 0) return NULL;
    if (create && real_ftruncate64(descriptor, changed_map_bytes) != 0) impossible("marks");
    void *map = mmap(0, changed_map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (map == MAP_FAILED) impossible("marks");
    return map;
}

static unsigned char *map_changed(const char *identity, bool create) {
    return map_marks("changed", identity, create);
}

/* What is written again is no longer dropped. */
static void mark(int descriptor, off_t offset, off_t length) {
    char identity[64];
    bool any = failing && failing->hits;
    if (length <= 0 || (!any && offset + length <= small_bytes)) return;
    identity_at(descriptor, "", identity, NULL);
    unsigned char *dropped = any ? map_marks("dropped", identity, false) : NULL;
    if (dropped) {
        off_t end = (offset + length - 1) / page_bytes;
        for (off_t page = offset / page_bytes; page <= end; ++page) dropped[page] = 0;
        munmap(dropped, changed_map_bytes);
    }
    if (offset + length <= small_bytes) return;
    unsigned char *changed = map_changed(identity, true);
    off_t last = (offset + length - 1) / page_bytes;
    if (last >= changed_map_bytes) impossible("a file beyond 4 GiB");
    for (off_t page = offset / page_bytes; page <= last; ++page) changed[page] = 1;
    munmap(changed, changed_map_bytes);
}

static const char zeros[small_bytes];

static void copy_range(int from, int to, off_t offset, off_t length, bool onto_nothing) {
    static char buffer[small_bytes]; /* under the lock */
    while (length > 0) {
        size_t count = length > small_bytes ? small_bytes : (size_t)length;
        ssize_t got = pread(from, buffer, count, offset);
        if (got < 0) impossible("reading a live file");
        if (got == 0) return;
        bool hole = onto_nothing && memcmp(buffer, zeros, (size_t)got) == 0;
        if (!hole && real_pwrite64(to, buffer, (size_t)got, offset) != got) impossible("writing the shadow");
        offset += got;
        length -= got;
    }
}

/* As copy_range(), but for what was dropped. */
static void copy_clean(int from, int to, off_t offset, off_t length, bool onto_nothing,
                       const unsigned char *dropped) {
    if (!dropped) {
        copy_range(from, to, offset, length, onto_nothing);
        return;
    }
    for (off_t end = offset + length; offset < end; offset += page_bytes) {
        off_t count = end - offset < page_bytes ? end - offset : page_bytes;
        if (!dropped[offset / page_bytes]) copy_range(from, to, offset, count, onto_nothing);
    }
}

static int reopen(int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    int own = open(link, O_RDONLY | O_CLOEXEC);
    if (own < 0) impossible("reopening a live file");
    return own;
}

/* All of a file's bytes are durable from now on. `from` is readable; the lock is held. */
static void save_file(int from) {
    char identity[64];
    struct stat now, then;
    identity_at(from, "", identity, NULL);
    if (!identity[0] || fstat(from, &now) != 0) return;
    int to = open_shadow("content", identity, O_RDWR);
    bool fresh = to < 0;
    if (fresh) to = open_shadow("content", identity, O_RDWR | O_CREAT);
    if (to < 0 || fstat(to, &then) != 0) impossible("shadow of a file");
    bool same = then.st_size == now.st_size && then.st_mtim.tv_sec == now.st_mtim.tv_sec &&
                then.st_mtim.tv_nsec == now.st_mtim.tv_nsec;
    if (!same) {
        if (real_ftruncate64(to, now.st_size) != 0) impossible("shadow of a file");
        unsigned char *changed = now.st_size > small_bytes ? map_changed(identity, false) : NULL;
        if (fresh && changed) memset(changed, 0, changed_map_bytes);
        off_t whole = fresh || now.st_size < small_bytes ? now.st_size : small_bytes;
        unsigned char *dropped = failing ? map_marks("dropped", identity, false) : NULL;
        copy_clean(from, to, 0, whole, fresh, dropped);
        off_t pages = (now.st_size + page_bytes - 1) / page_bytes;
        for (off_t page = small_bytes / page_bytes; changed && page < pages; ++page) {
            if (!changed[page]) continue;
            changed[page] = 0;
            copy_clean(from, to, page * page_bytes, page_bytes, false, dropped);
        }
        if (dropped) munmap(dropped, changed_map_bytes);
        if (changed) munmap(changed, changed_map_bytes);
        /* The same stamp says "nothing new"; not while a write in this clock tick could hide. */
        struct timespec wall, stamp[2] = {{0, 0}, {0, 0}};
        clock_gettime(CLOCK_REALTIME, &wall);
        if (wall.tv_sec - now.st_mtim.tv_sec > 1) stamp[0] = stamp[1] = now.st_mtim;
        futimens(to, stamp);
    }
    close(to);
}

/* The sync of this file failed: what the disk has not of it is clean from now on. The lock is held. */
static void drop_file(int from) {
    char identity[64], here[page_bytes], there[page_bytes];
    identity_at(from, "", identity, NULL);
    if (!identity[0]) return;
    unsigned char *dropped = map_marks("dropped", identity, true);
    int to = open_shadow("content", identity, O_RDONLY);
    for (off_t page = 0;; ++page) {
        ssize_t live_bytes = pread(from, here, page_bytes, page * page_bytes);
        if (live_bytes <= 0) break;
        memset(there, 0, page_bytes);
        ssize_t disk_bytes = to < 0 ? 0 : pread(to, there, page_bytes, page * page_bytes);
        if (disk_bytes != live_bytes || memcmp(here, there, (size_t)live_bytes)) dropped[page] = 1;
    }
    if (to >= 0) close(to);
    munmap(dropped, changed_map_bytes);
}

/* The names in a directory are durable from now on. The lock is held. */
static void save_entries(int directory) {
    char identity[64], name[80], making[2 * PATH_MAX], made[2 * PATH_MAX];
    identity_at(directory, "", identity, NULL);
    int own = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (own < 0) return; /* removed meanwhile */
    snprintf(name, sizeof name, "%s.making", identity);
    FILE *list = fdopen(open_shadow("entries", name, O_WRONLY | O_CREAT | O_TRUNC), "w");
    DIR *stream = fdopendir(own);
    if (!list || !stream) impossible("names of a directory");
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char child[64];
        mode_t mode = 0;
        identity_at(own, entry->d_name, child, &mode);
        if (!child[0] || !(S_ISREG(mode) || S_ISDIR(mode))) continue;
        fprintf(list, "%c %s %s%c", S_ISDIR(mode) ? 'd' : 'f', child, entry->d_name, 0);
    }
    closedir(stream);
    fclose(list);
    snprintf(making, sizeof making, "%s/entries/%s", shadow, name);
    snprintf(made, sizeof made, "%s/entries/%s", shadow, identity);
    if (rename(making, made) != 0) impossible("names of a directory");
}

static void save_tree(const char *path, void (*each)(int)) {
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) return;
    DIR *stream = fdopendir(dup(directory));
    for (struct dirent *entry; stream && (entry = readdir(stream));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char child[2 * PATH_MAX], identity[64];
        mode_t mode = 0;
        identity_at(directory, entry->d_name, identity, &mode);
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (S_ISDIR(mode)) save_tree(child, each);
        if (!S_ISREG(mode)) continue;
        int file = open(child, O_RDONLY | O_CLOEXEC);
        if (file >= 0) each(file), close(file);
    }
    if (stream) closedir(stream);
    if (each == save_file) save_entries(directory);
    close(directory);
}

static void save_parents(char *path) {
    for (char *slash; is_under(path, live) && (slash = strrchr(path, '/'));) {
        *slash = 0;
        if (!is_under(path, live)) return;
        int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (directory >= 0) save_entries(directory), close(directory);
    }
}

static int sync_descriptor(int descriptor, int (*real)(int)) {
    char path[PATH_MAX];
    if (!tracked(descriptor, path)) return real(descriptor);
    struct stat found;
    if (fstat(descriptor, &found) != 0) return -1;
    bool failed = fails();
    int lock = enter();
    if (failed) {
        if (!S_ISDIR(found.st_mode)) {
            int own = reopen(descriptor);
            drop_file(own);
            close(own);
        }
        leave(lock);
        errno = EIO;
        return -1;
    }
    if (S_ISDIR(found.st_mode)) {
        save_entries(descriptor);
    } else {
        int own = reopen(descriptor);
        save_file(own);
        close(own);
        if (names_follow_files) save_parents(path);
    }
    leave(lock);
    return 0;
}

PUBLIC int fsync(int descriptor) { return sync_descriptor(descriptor, real_fsync); }
PUBLIC int fdatasync(int descriptor) { return sync_descriptor(descriptor, real_fdatasync); }

PUBLIC void sync(void) {
    if (!live[0]) return;
    int lock = enter();
    save_tree(live, save_file);
    leave(lock);
}

PUBLIC int syncfs(int descriptor) {
    char path[PATH_MAX];
    if (!tracked(descriptor, path)) return real_syncfs(descriptor);
    if (fails()) {
        int lock = enter();
        save_tree(live, drop_file);
        leave(lock);
        errno = EIO;
        return -1;
    }
    sync();
    return 0;
}

/* After a write of `count` bytes at `offset`: mark it, or keep it if the file is synchronous. */
static void written(int descriptor, off_t offset, ssize_t count) {
    if (count <= 0) return;
    mark(descriptor, offset, count);
    if (!(fcntl(descriptor, F_GETFL) & O_DSYNC)) return;
    char identity[64];
    int lock = enter(), own = reopen(descriptor);
    identity_at(descriptor, "", identity, NULL);
    int to = open_shadow("content", identity, O_RDWR | O_CREAT);
    if (to < 0) impossible("shadow of a file");
    copy_range(own, to, offset, count, false);
    close(to), close(own);
    leave(lock);
}

static off_t position(int descriptor) {
    struct stat found;
    if (fcntl(descriptor, F_GETFL) & O_APPEND)
        return fstat(descriptor, &found) == 0 ? found.st_size : 0;
    return lseek(descriptor, 0, SEEK_CUR);
}

PUBLIC ssize_t write(int descriptor, const void *data, size_t count) {
    char path[PATH_MAX];
    if (!tracked(descriptor, path)) return real_write(descriptor, data, count);
    off_t offset = position(descriptor);
    ssize_t done = real_write(descriptor, data, count);
    written(descriptor, offset, done);
    return done;
}

PUBLIC ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (!tracked(descriptor, path)) return real_writev(descriptor, parts, count);
    off_t offset = position(descriptor);
    ssize_t done = real_writev(descriptor, parts, count);
    written(descriptor, offset, done);
    return done;
}

PUBLIC ssize_t pwrite64(int descriptor, const void *data, size_t count, off_t offset) {
    char path[PATH_MAX];
    ssize_t done = real_pwrite64(descriptor, data, count, offset);
    if (tracked(descriptor, path)) written(descriptor, offset, done);
    return done;
}
PUBLIC ssize_t pwrite(int descriptor, const void *data, size_t count, off_t offset) {
    return pwrite64(descriptor, data, count, offset);
}

PUBLIC ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    char path[PATH_MAX];
    ssize_t done = real_pwritev64(descriptor, parts, count, offset);
    if (tracked(descriptor, path)) written(descriptor, offset, done);
    return done;
}
PUBLIC ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(descriptor, parts, count, offset);
}

PUBLIC int ftruncate64(int descriptor, off_t length) {
    char path[PATH_MAX];
    struct stat before;
    bool wanted = tracked(descriptor, path) && fstat(descriptor, &before) == 0;
    int result = real_ftruncate64(descriptor, length);
    if (wanted && result == 0 && before.st_size > length)
        mark(descriptor, length, before.st_size - length);
    return result;
}
PUBLIC int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

PUBLIC int fallocate64(int descriptor, int mode, off_t offset, off_t length) {
    char path[PATH_MAX];
    int result = real_fallocate64(descriptor, mode, offset, length);
    if (result == 0 && mode && tracked(descriptor, path)) mark(descriptor, offset, length);
    return result;
}
PUBLIC int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    return fallocate64(descriptor, mode, offset, length);
}
