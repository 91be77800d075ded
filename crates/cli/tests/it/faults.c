/* Faults of a disk, put between the program and the C library (LD_PRELOAD).

   FAULT_UNDER   files below this folder count
   FAULT_LOG     a line is added for each fault; without FAULT_KIND, "writes N syncs N renames N" at the end
   FAULT_KIND    full:   writes fail from write number FAULT_AT on
                 sync:   fsync number FAULT_AT fails
                 torn:   half of write number FAULT_AT is written, then the process is killed
                 rename: rename number FAULT_AT fails
                 flip:   after rename number FAULT_AT a bit of a renamed file, or of one in a renamed folder, is flipped, and
                         the process is killed FAULT_DRAW % 64 writes later
   FAULT_DRAW    which file, and which bit  */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef int (*sync_fn)(int);
typedef int (*rename_fn)(const char *, const char *);

static long num_writes, num_syncs, num_renames, kill_at_write = -1;

static write_fn real_write(void) { return (write_fn)dlsym(RTLD_NEXT, "write"); }

static long number(const char *name) { const char *text = getenv(name); return text ? atol(text) : -1; }

static int is_kind(const char *kind) { const char *set = getenv("FAULT_KIND"); return set && strcmp(set, kind) == 0; }

static void say(const char *format, ...) {
    const char *path = getenv("FAULT_LOG");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    if (fd < 0) return;
    char line[2 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    real_write()(fd, line, length);
    close(fd);
}

static int is_under(const char *path) {
    const char *under = getenv("FAULT_UNDER");
    return under && strncmp(path, under, strlen(under)) == 0;
}

/* The path of an open file below the folder. */
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_under(path);
}

/* The number of files below a folder; the one numbered `wanted` goes to `found`. */
static long walk(const char *path, long count, long wanted, char *found) {
    struct stat status;
    if (lstat(path, &status) != 0) return count;
    if (S_ISREG(status.st_mode) && status.st_size > 0) {
        if (count == wanted) strcpy(found, path);
        return count + 1;
    }
    if (!S_ISDIR(status.st_mode)) return count;
    struct dirent **entries;
    int num = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < num; i++) {
        char inside[PATH_MAX];
        int fits = snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name) < PATH_MAX;
        if (fits && strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, "..")) count = walk(inside, count, wanted, found);
        free(entries[i]);
    }
    if (num >= 0) free(entries);
    return count;
}

static void flip(const char *path) {
    char found[PATH_MAX] = "";
    long draw = number("FAULT_DRAW"), num_files = walk(path, 0, -1, found);
    if (num_files == 0) return;
    walk(path, 0, draw % num_files, found);
    int fd = open(found, O_RDWR);
    struct stat status;
    fstat(fd, &status);
    off_t at = (draw / 7919) % status.st_size;
    unsigned char byte;
    if (pread(fd, &byte, 1, at) == 1) {
        byte ^= 1 << (draw / 13) % 8;
        if (pwrite(fd, &byte, 1, at) != 1) abort();
    }
    close(fd);
    say("flip in %s at byte %ld\n", found, (long)at);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!path_of(fd, path)) return real_write()(fd, bytes, length);
    long at = __atomic_add_fetch(&num_writes, 1, __ATOMIC_SEQ_CST);
    if (at == kill_at_write) raise(SIGKILL);
    if (is_kind("full") && at >= number("FAULT_AT")) {
        if (at == number("FAULT_AT")) say("full at %s\n", path);
        errno = ENOSPC;
        return -1;
    }
    if (is_kind("torn") && at == number("FAULT_AT")) {
        real_write()(fd, bytes, length / 2);
        say("torn %s\n", path);
        raise(SIGKILL);
    }
    return real_write()(fd, bytes, length);
}

static int sync_or_fail(int fd, const char *name) {
    char path[PATH_MAX];
    if (path_of(fd, path) && __atomic_add_fetch(&num_syncs, 1, __ATOMIC_SEQ_CST) == number("FAULT_AT") && is_kind("sync")) {
        say("sync of %s\n", path);
        errno = EIO;
        return -1;
    }
    return ((sync_fn)dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd) { return sync_or_fail(fd, "fsync"); }

int fdatasync(int fd) { return sync_or_fail(fd, "fdatasync"); }

int rename(const char *from, const char *to) {
    char path[PATH_MAX];
    const char *whole = realpath(from, path) ? path : from;
    int is_it = is_under(whole) && __atomic_add_fetch(&num_renames, 1, __ATOMIC_SEQ_CST) == number("FAULT_AT");
    if (is_it && is_kind("rename")) {
        say("rename of %s\n", whole);
        errno = EIO;
        return -1;
    }
    int result = ((rename_fn)dlsym(RTLD_NEXT, "rename"))(from, to);
    if (is_it && is_kind("flip")) {
        flip(to);
        kill_at_write = num_writes + 1 + number("FAULT_DRAW") % 64;
    }
    return result;
}

__attribute__((destructor)) static void count(void) {
    if (!getenv("FAULT_KIND")) say("writes %ld syncs %ld renames %ld\n", num_writes, num_syncs, num_renames);
}
