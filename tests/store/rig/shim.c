/* Stands between a process and the C library (LD_PRELOAD) and, for files below one folder, counts every operation
 * that changes something, writes it down, and makes a chosen one go wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 1024
#define LENGTH 512

enum action { NOTHING, KILL, TEAR, FAIL, FULL, SHORT, STOP, FAIL_READ };

static char root[LENGTH], paths[FILES][LENGTH];
static enum action action;
static long at, count, reads;
static int failure, log_fd = -1;

#define REAL(result, name, ...) static result (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)

void shim_arm(const char *folder, const char *what, long when, int error)
{
	static const char *names[] = {"nothing", "kill", "tear", "fail", "full", "short", "stop", "fail-read"};
	for (int i = 0; i < 8; i++)
		if (!strcmp(what, names[i]))
			action = i;
	snprintf(root, LENGTH, "%s", folder);
	at = when;
	failure = error;
	count = reads = 0;
}

long shim_count(void) { return action == FAIL_READ ? reads : count; }

static void put(const void *data, size_t size)
{
	if (log_fd >= 0 && syscall(SYS_write, log_fd, data, size) != (long)size)
		raise(SIGKILL);
}

static void note(const char *what, const char *path, const char *other, long offset, const void *data, size_t size)
{
	char line[3 * LENGTH];
	int length = snprintf(line, sizeof line, "%s\t%s\t%s\t%ld\t%zu\n", what, path, other, offset, size);
	put(line, length);
	put(data, size);
}

void shim_log(const char *path) { log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600); }

void shim_mark(const char *text) { note("mark", text, "", 0, "", 0); }

static int is_ours(const char *path) { return root[0] && path && !strncmp(path, root, strlen(root)); }

static const char *path_of(int fd) { return fd >= 0 && fd < FILES && paths[fd][0] ? paths[fd] : NULL; }

/* Returns whether the operation that is about to happen is to fail. */
static int goes_wrong(int needs_room)
{
	count++;
	if (action == KILL && count == at)
		raise(SIGKILL);
	if (action == STOP && count == at)
		raise(SIGSTOP);
	if ((action == FAIL && count == at) || (action == FULL && count >= at && needs_room)) {
		errno = failure;
		return 1;
	}
	return 0;
}

static void done(void)
{
	if (action == TEAR && count == at)
		raise(SIGKILL);
}

static int read_goes_wrong(int fd)
{
	if (!path_of(fd) || action != FAIL_READ || ++reads != at)
		return 0;
	errno = failure;
	return 1;
}

#define OPEN(name)                                                                       \
	int name(const char *path, int flags, ...)                                       \
	{                                                                                \
		REAL(int, #name, const char *, int, ...);                                \
		va_list rest;                                                            \
		va_start(rest, flags);                                                   \
		mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                \
		va_end(rest);                                                            \
		int makes = is_ours(path) && flags & O_CREAT;                            \
		if (makes && goes_wrong(1))                                              \
			return -1;                                                       \
		int fd = real(path, flags, mode);                                        \
		if (fd >= 0 && fd < FILES)                                               \
			snprintf(paths[fd], LENGTH, "%s", is_ours(path) ? path : "");    \
		if (makes && fd >= 0) {                                                  \
			note("create", path, "", 0, "", 0);                              \
			done();                                                          \
		}                                                                        \
		return fd;                                                               \
	}
OPEN(open)
OPEN(open64)

int close(int fd)
{
	if (fd >= 0 && fd < FILES)
		paths[fd][0] = 0;
	return syscall(SYS_close, fd);
}

#define PWRITE(name)                                                                     \
	ssize_t name(int fd, const void *data, size_t size, off_t offset)                \
	{                                                                                \
		if (!path_of(fd))                                                        \
			return syscall(SYS_pwrite64, fd, data, size, offset);            \
		if (goes_wrong(1))                                                       \
			return -1;                                                       \
		if (count == at && (action == SHORT || action == TEAR) && size > 1)      \
			size /= 2;                                                       \
		ssize_t written = syscall(SYS_pwrite64, fd, data, size, offset);         \
		if (written > 0)                                                         \
			note("write", path_of(fd), "", offset, data, written);           \
		done();                                                                  \
		return written;                                                          \
	}
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *data, size_t size)
{
	if (path_of(fd)) {
		static const char text[] = "the shim knows no write() below the folder\n";
		syscall(SYS_write, 2, text, sizeof text);
		raise(SIGABRT);
	}
	return syscall(SYS_write, fd, data, size);
}

int fsync(int fd)
{
	if (!path_of(fd))
		return syscall(SYS_fsync, fd);
	if (goes_wrong(0))
		return -1;
	/* The process stays alive and the page cache with it: only the record needs to know. */
	note("sync", path_of(fd), "", 0, "", 0);
	done();
	return 0;
}

#define CHANGE(word, path, other, needs_room, call)                                         \
	do {                                                                               \
		if (!is_ours(path))                                                        \
			return call;                                                       \
		if (goes_wrong(needs_room))                                                \
			return -1;                                                         \
		int result = call;                                                         \
		if (!result) {                                                             \
			note(word, path, other, 0, "", 0);                                 \
			done();                                                            \
		}                                                                          \
		return result;                                                             \
	} while (0)

int mkdir(const char *path, mode_t mode) { CHANGE("mkdir", path, "", 1, syscall(SYS_mkdirat, AT_FDCWD, path, mode)); }

int unlink(const char *path) { CHANGE("unlink", path, "", 0, syscall(SYS_unlinkat, AT_FDCWD, path, 0)); }

int rename(const char *from, const char *to) { CHANGE("rename", from, to, 1, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)); }

int link(const char *from, const char *to) { CHANGE("link", from, to, 1, syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0)); }

int linkat(int a, const char *from, int b, const char *to, int flags)
{
	CHANGE("link", from, to, 1, syscall(SYS_linkat, a, from, b, to, flags));
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
	return read_goes_wrong(fd) ? -1 : syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int n, off_t offset, int flags)
{
	return read_goes_wrong(fd) ? -1 : syscall(SYS_preadv2, fd, parts, n, offset, 0L, flags);
}

ssize_t preadv64(int fd, const struct iovec *parts, int n, off_t offset)
{
	return preadv64v2(fd, parts, n, offset, 0);
}

ssize_t readv(int fd, const struct iovec *parts, int n)
{
	return read_goes_wrong(fd) ? -1 : syscall(SYS_readv, fd, parts, n);
}

ssize_t read(int fd, void *data, size_t size)
{
	return read_goes_wrong(fd) ? -1 : syscall(SYS_read, fd, data, size);
}
