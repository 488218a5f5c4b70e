/*
 * Stands in for Xen's libraries while Debian's xenstored runs on a host without Xen: preloaded into it, so that it starts,
 * serves its socket, and finds every domain that it asks for.
 *
 * With NO_XEN_DIR in the environment, domains can speak too: there is a domain N if there is a file ring-N, which is its
 * ring; its event channel is port 100 + N. Whoever writes a port (32 bits) to the FIFO events sends an event; port 1 is
 * VIRQ_DOM_EXC.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int handle;
static char page[4096];

int open(const char *path, int flags, ...)
{
    va_list arguments;
    mode_t mode;
    int fd;

    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
    if (!strcmp(path, "/proc/xen/xsd_port")) {
        fd = memfd_create("port", 0);
        if (write(fd, "1", 1) != 1)
            return -1;
        lseek(fd, 0, SEEK_SET);
        return fd;
    }
    if (!strcmp(path, "/proc/xen/xsd_kva"))
        path = "/dev/zero";
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

void *xc_interface_open(void *logger, void *dombuild, unsigned int flags) { return &handle; }
int xc_interface_close(void *xch) { return 0; }

/* The path of a file in NO_XEN_DIR; false if there is no such folder. */
static int path_of(char path[512], const char *name, uint32_t domid)
{
    const char *dir = getenv("NO_XEN_DIR");

    if (dir)
        snprintf(path, 512, name, dir, domid);
    return dir != NULL;
}

/* xc_dominfo_t begins with domid, ssidref and the flags: a domain that runs. */
int xc_domain_getinfo(void *xch, uint32_t first, unsigned int max, uint32_t *info)
{
    char path[512];

    if (first && path_of(path, "%s/ring-%u", first) && access(path, F_OK))
        return 0;
    info[0] = first;
    info[1] = info[2] = 0;
    return 1;
}

void *xengnttab_open(void *logger, unsigned int flags) { return &handle; }
int xengnttab_close(void *xgt) { return 0; }
int xengnttab_set_max_grants(void *xgt, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *xgt, uint32_t domid, uint32_t ref, int prot)
{
    char path[512];
    void *ring;
    int fd;

    if (!path_of(path, "%s/ring-%u", domid))
        return page;
    fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    ring = mmap(NULL, sizeof(page), prot, MAP_SHARED, fd, 0);
    close(fd);
    return ring == MAP_FAILED ? NULL : ring;
}
int xengnttab_unmap(void *xgt, void *start, uint32_t count) { return start == page ? 0 : munmap(start, sizeof(page)); }

void *xenevtchn_open(void *logger, unsigned int flags) { return &handle; }
void *xenevtchn_fdopen(void *logger, int fd, unsigned int flags) { return &handle; }
int xenevtchn_fd(void *xce)
{
    static int fd = -1;
    char path[512];

    if (fd >= 0)
        return fd;
    if (path_of(path, "%s/events", 0))
        fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    else
        fd = eventfd(0, EFD_CLOEXEC);
    return fd;
}
int xenevtchn_pending(void *xce)
{
    uint32_t port;

    return read(xenevtchn_fd(xce), &port, sizeof(port)) == sizeof(port) ? port : -1;
}
int xenevtchn_bind_interdomain(void *xce, uint32_t domid, uint32_t port) { return 100 + domid; }
int xenevtchn_bind_virq(void *xce, unsigned int virq) { return 1; }
int xenevtchn_notify(void *xce, uint32_t port) { return 0; }
int xenevtchn_unbind(void *xce, uint32_t port) { return 0; }
int xenevtchn_unmask(void *xce, uint32_t port) { return 0; }
