/* A wall clock that is set while processes run: what they are told of it is so many nanoseconds off.
 * Preloaded; WALL_CLOCK names the file that holds the number, which whoever tests changes at will.
 * Clocks that nobody sets, and what the kernel itself stamps, are left alone. */
#include "interpose.h"

#include <sys/time.h>
#include <time.h>

REAL(int, clock_gettime, clockid_t, struct timespec *)

static const volatile int64_t *offset_ns;

__attribute__((constructor)) static void begin(void) {
    find_clock_gettime();
    const char *given = getenv("WALL_CLOCK");
    int descriptor = given ? open(given, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *mapped = mmap(0, sizeof *offset_ns, PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (mapped != MAP_FAILED) offset_ns = mapped;
}

PUBLIC int clock_gettime(clockid_t clock, struct timespec *found) {
    find_clock_gettime();
    int result = real_clock_gettime(clock, found);
    if (result || !offset_ns || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) {
        return result;
    }
    int64_t told = found->tv_sec * 1000000000LL + found->tv_nsec + *offset_ns;
    found->tv_sec = told / 1000000000LL;
    found->tv_nsec = told % 1000000000LL;
    return 0;
}

PUBLIC int gettimeofday(struct timeval *found, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}

PUBLIC time_t time(time_t *found) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
