/* Counts the calls by which a process changes files below CAMPAIGN_ROOT, over all its descendants; at the call
   numbered CAMPAIGN_CALL it raises the signal CAMPAIGN_SIGNAL in the caller, or lets this and all later calls
   fail with CAMPAIGN_ERRNO. CAMPAIGN_READS=1 counts reads instead. The count is kept in CAMPAIGN_COUNT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long *count;
static const char *root;
static long chosen;
static int signal_number, error_number, reads;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *place = getenv("CAMPAIGN_COUNT");
    root = getenv("CAMPAIGN_ROOT");
    chosen = number("CAMPAIGN_CALL");
    signal_number = (int)number("CAMPAIGN_SIGNAL");
    error_number = (int)number("CAMPAIGN_ERRNO");
    reads = (int)number("CAMPAIGN_READS");
    if (!place || !root) return;
    int descriptor = open(place, O_RDWR);
    if (descriptor < 0) return;
    void *memory = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (memory != MAP_FAILED) count = memory;
}

/* Whether this call is to fail; the signal, if one is asked for, has been raised. */
static int is_hit(int is_read) {
    if (!count || is_read != reads) return 0;
    long now = atomic_fetch_add(count, 1) + 1;
    if (signal_number && now == chosen) raise(signal_number);
    if (error_number && chosen && now >= chosen) {
        errno = error_number;
        return 1;
    }
    return 0;
}

static int is_below(const char *path) {
    char here[PATH_MAX];
    if (!count || !path) return 0;
    size_t length = strlen(root), skipped = 0;
    if (path[0] != '/') {
        if (!getcwd(here, sizeof here)) return 0;
        skipped = strlen(here) < length ? strlen(here) : length;
        if (strncmp(here, root, skipped)) return 0;
        if (skipped == length) return 1;
        if (root[skipped++] != '/') return 0;
    }
    return !strncmp(path, root + skipped, length - skipped);
}

static int is_file_below(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!count) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return path[0] == '/' && is_below(path);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define ON_FILE(type, name, parameters, values, is_read) \
    type name parameters { REAL(name); if (is_file_below(file) && is_hit(is_read)) return -1; return real values; }
#define ON_PATH(name, parameters, values, path) \
    int name parameters { REAL(name); if (is_below(path) && is_hit(0)) return -1; return real values; }

ON_FILE(ssize_t, write, (int file, const void *data, size_t size), (file, data, size), 0)
ON_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at), 0)
ON_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at), 0)
ON_FILE(ssize_t, writev, (int file, const struct iovec *parts, int parts_count), (file, parts, parts_count), 0)
ON_FILE(int, fsync, (int file), (file), 0)
ON_FILE(int, ftruncate, (int file, off_t size), (file, size), 0)
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size), 0)
ON_FILE(ssize_t, read, (int file, void *data, size_t size), (file, data, size), 1)
ON_FILE(ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at), 1)
ON_FILE(ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at), 1)

ON_PATH(rename, (const char *from, const char *to), (from, to), to)
ON_PATH(link, (const char *from, const char *to), (from, to), to)
ON_PATH(symlink, (const char *from, const char *to), (from, to), to)
ON_PATH(unlink, (const char *path), (path), path)
ON_PATH(rmdir, (const char *path), (path), path)
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), path)

#define IS_WRITING(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); MODE(flags) \
        if (IS_WRITING(flags) && is_below(path) && is_hit(0)) return -1; \
        return real(path, flags, mode); }
OPEN(open)
OPEN(open64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *how) { \
        REAL(name); \
        if (how[0] != 'r' && is_below(path) && is_hit(0)) return NULL; \
        return real(path, how); }
FOPEN(fopen)
FOPEN(fopen64)
