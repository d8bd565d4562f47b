/* Preloaded into a program, lets fsync of a directory fail with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/stat.h>

int fsync(int file)
{
    struct stat status;
    if (fstat(file, &status) == 0 && S_ISDIR(status.st_mode)) {
        errno = EIO;
        return -1;
    }
    int (*next)(int) = dlsym(RTLD_NEXT, "fsync");
    return next(file);
}
