/* A disk that fails once, for tests: loaded before all other libraries by $LD_PRELOAD (Linux).

Counts the calls that change something below $DISK_BELOW. Number $DISK_CALL of them, from 1, fails
with $DISK_ERRNO; with $DISK_LASTING all after it do too. $DISK_LOG gets a line for each call that
failed, or with DISK_CALL=0 for every call: seconds since 1970, name, path.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long calls;

static void note(const char *call, const char *path) {
  const char *log = getenv("DISK_LOG");
  if (!log) return;
  char line[PATH_MAX + 100];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int size = snprintf(line, sizeof line, "%ld.%03ld %s %s\n", (long)now.tv_sec,
                      now.tv_nsec / 1000000, call, path);
  /* System calls, so that we do not meet ourselves. */
  int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return;
  syscall(SYS_write, file, line, size);
  syscall(SYS_close, file);
}

static int fails(const char *call, const char *path) {
  const char *below = getenv("DISK_BELOW"), *nth = getenv("DISK_CALL");
  if (!below || !nth || strncmp(path, below, strlen(below))) return 0;
  long count = atomic_fetch_add(&calls, 1) + 1, wanted = atol(nth);
  int due = wanted > 0 && (getenv("DISK_LASTING") ? count >= wanted : count == wanted);
  if (due || wanted == 0) note(call, path);
  if (due) errno = atoi(getenv("DISK_ERRNO"));
  return due;
}

static int fails_at(const char *call, int folder, const char *path) {
  char full[2 * PATH_MAX + 2], link[64];
  if (path[0] == '/') return fails(call, path);
  int saved = errno;
  if (folder == AT_FDCWD) {
    if (!getcwd(full, PATH_MAX)) full[0] = 0;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, full, PATH_MAX);
    full[size < 0 ? 0 : size] = 0;
  }
  strcat(full, "/");
  strncat(full, path, PATH_MAX);
  errno = saved;
  return fails(call, full);
}

static int fails_on(const char *call, int file) {
  char path[PATH_MAX + 1], link[64];
  int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t size = readlink(link, path, PATH_MAX);
  path[size < 0 ? 0 : size] = 0;
  errno = saved;
  return fails(call, path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(type, name, parameters, ...)   \
  type name parameters {                       \
    if (fails_on(#name, file)) return -1;      \
    return NEXT(name)(__VA_ARGS__);            \
  }
#define ON_PATH(name, folder, path, parameters, ...)      \
  int name parameters {                                   \
    if (fails_at(#name, folder, path)) return -1;         \
    return NEXT(name)(__VA_ARGS__);                       \
  }

ON_FILE(ssize_t, write, (int file, const void *from, size_t size), file, from, size)
ON_FILE(ssize_t, pwrite, (int file, const void *from, size_t size, off_t at), file, from, size, at)
ON_FILE(ssize_t, pwrite64, (int file, const void *from, size_t size, off64_t at), file, from, size,
        at)
ON_FILE(ssize_t, writev, (int file, const struct iovec *from, int count), file, from, count)
ON_FILE(ssize_t, pwritev, (int file, const struct iovec *from, int count, off_t at), file, from,
        count, at)
ON_FILE(ssize_t, pwritev64, (int file, const struct iovec *from, int count, off64_t at), file, from,
        count, at)
ON_FILE(int, fsync, (int file), file)
ON_FILE(int, fdatasync, (int file), file)
ON_FILE(int, ftruncate, (int file, off_t size), file, size)
ON_FILE(int, ftruncate64, (int file, off64_t size), file, size)
ON_PATH(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
ON_PATH(mkdirat, folder, path, (int folder, const char *path, mode_t mode), folder, path, mode)
ON_PATH(unlink, AT_FDCWD, path, (const char *path), path)
ON_PATH(unlinkat, folder, path, (int folder, const char *path, int flags), folder, path, flags)
ON_PATH(rmdir, AT_FDCWD, path, (const char *path), path)
ON_PATH(rename, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(renameat, into, to, (int folder, const char *from, int into, const char *to), folder, from,
        into, to)
ON_PATH(renameat2, into, to,
        (int folder, const char *from, int into, const char *to, unsigned flags), folder, from,
        into, to, flags)
ON_PATH(link, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(symlink, AT_FDCWD, to, (const char *from, const char *to), from, to)

#define OPENING(name, folder, parameters, ...)                             \
  int name parameters {                                                    \
    mode_t mode = 0;                                                       \
    int unnamed = (flags & __O_TMPFILE) == __O_TMPFILE;                    \
    if (flags & O_CREAT || unnamed) {                                      \
      va_list rest;                                                        \
      va_start(rest, flags);                                               \
      mode = va_arg(rest, mode_t);                                         \
      va_end(rest);                                                        \
      if (fails_at(#name, folder, path)) return -1;                        \
    }                                                                      \
    return NEXT(name)(__VA_ARGS__, mode);                                  \
  }

OPENING(open, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPENING(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags)
OPENING(openat, folder, (int folder, const char *path, int flags, ...), folder, path, flags)
OPENING(openat64, folder, (int folder, const char *path, int flags, ...), folder, path, flags)
