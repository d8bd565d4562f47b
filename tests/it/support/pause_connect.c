/* Preloaded into a program, pauses its first connection to port $PAUSE_PORT: creates the file
   $PAUSE_AT, and waits until somebody removes it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int connect(int socket, const struct sockaddr *address, socklen_t length)
{
    static int was_paused;
    const struct sockaddr_in *to = (const struct sockaddr_in *)address;
    const char *port = getenv("PAUSE_PORT"), *file = getenv("PAUSE_AT");
    if (port && file && address->sa_family == AF_INET && ntohs(to->sin_port) == atoi(port)
        && !__sync_lock_test_and_set(&was_paused, 1)) {
        close(open(file, O_CREAT | O_WRONLY, 0600));
        while (access(file, F_OK) == 0)
            usleep(1000);
    }
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return next(socket, address, length);
}
