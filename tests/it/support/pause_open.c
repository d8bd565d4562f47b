/* Preloaded into a program, pauses the first time that it opens the file $PAUSE_FILE: creates the
   file $PAUSE_AT, and waits until somebody removes it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int open64(const char *path, int flags, ...)
{
    static int was_paused;
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    const char *pause_file = getenv("PAUSE_FILE"), *file = getenv("PAUSE_AT");
    if (pause_file && file && strcmp(path, pause_file) == 0
        && !__sync_lock_test_and_set(&was_paused, 1)) {
        close(next(file, O_CREAT | O_WRONLY, 0600));
        while (access(file, F_OK) == 0)
            usleep(1000);
    }
    return next(path, flags, mode);
}
