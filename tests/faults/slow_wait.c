/* Makes every thread that begins to wait on a condition take its time over it: what another thread
 * tells it meanwhile without holding the lock is lost, every time and not once in a million.
 * Preloaded; SLOW_WAIT_MS says how long. */
#include "interpose.h"

#include <pthread.h>
#include <time.h>

REAL(int, pthread_cond_wait, pthread_cond_t *, pthread_mutex_t *)

static long milliseconds;

__attribute__((constructor)) static void begin(void) {
    find_pthread_cond_wait();
    const char *given = getenv("SLOW_WAIT_MS");
    if (given) milliseconds = atol(given);
}

PUBLIC int pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock) {
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    if (milliseconds) nanosleep(&pause, 0);
    return real_pthread_cond_wait(condition, lock);
}
