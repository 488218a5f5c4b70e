/*
 * Stands in for Xen's libraries while Debian's xenstored is measured on a host without Xen: preloaded into it, so that
 * it starts, serves its socket, and finds every domain it asks for. Nothing of what is measured passes through here.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
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

/* xc_dominfo_t begins with domid, ssidref and the flags: a domain that runs. */
int xc_domain_getinfo(void *xch, uint32_t first, unsigned int max, uint32_t *info)
{
    info[0] = first;
    info[1] = info[2] = 0;
    return 1;
}

void *xengnttab_open(void *logger, unsigned int flags) { return &handle; }
int xengnttab_close(void *xgt) { return 0; }
int xengnttab_set_max_grants(void *xgt, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *xgt, uint32_t domid, uint32_t ref, int prot) { return page; }
int xengnttab_unmap(void *xgt, void *start, uint32_t count) { return 0; }

void *xenevtchn_open(void *logger, unsigned int flags) { return &handle; }
void *xenevtchn_fdopen(void *logger, int fd, unsigned int flags) { return &handle; }
int xenevtchn_fd(void *xce)
{
    static int fd = -1;

    if (fd < 0)
        fd = eventfd(0, EFD_CLOEXEC);
    return fd;
}
int xenevtchn_bind_interdomain(void *xce, uint32_t domid, uint32_t port) { return 2; }
int xenevtchn_bind_virq(void *xce, unsigned int virq) { return 1; }
int xenevtchn_notify(void *xce, uint32_t port) { return 0; }
int xenevtchn_pending(void *xce) { return -1; }
int xenevtchn_unbind(void *xce, uint32_t port) { return 0; }
int xenevtchn_unmask(void *xce, uint32_t port) { return 0; }
