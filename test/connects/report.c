/* SPDX-License-Identifier: Apache-2.0 */
/* What an attempt was and what came of it, as one JSON line written by one write(2). */
#include "connects.h"
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

static const char *case_name = "";

void set_case(const char *name) { case_name = name; }

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t boot_ns(void) { return clock_ns(CLOCK_BOOTTIME); }

static void write_line(const char *line, int n)
{
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(3);
}

/* /proc tells the ids of the namespace it was mounted in, which is the recorder's, also inside a new pid namespace. */
static void outer_ids(long *pid, long *tid)
{
	char link[64];
	ssize_t n = readlink("/proc/thread-self", link, sizeof(link) - 1);
	if (n > 0) {
		link[n] = 0;
		if (sscanf(link, "%ld/task/%ld", pid, tid) == 2)
			return;
	}
	*pid = getpid();
	*tid = syscall(SYS_gettid);
}

static int socket_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);
	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

void report_begin(struct report *r, const char *step, int fd, const void *sa, long len)
{
	memset(r, 0, sizeof(*r));
	r->step = step;
	r->fd = fd;
	r->addrlen = len;
	if (sa && len > 0) {
		r->addr_known = len < (long)sizeof(r->addr) ? (int)len : (int)sizeof(r->addr);
		memcpy(r->addr, sa, (size_t)r->addr_known);
	}
	r->family = socket_option(fd, SO_DOMAIN);
	r->type = socket_option(fd, SO_TYPE);
	r->protocol = socket_option(fd, SO_PROTOCOL);
	socklen_t n = sizeof(r->cookie);
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &r->cookie, &n))
		r->cookie = 0;
	r->local_len = sizeof(r->local);
	if (getsockname(fd, (struct sockaddr *)r->local, &r->local_len))
		r->local_len = 0;
	outer_ids(&r->pid, &r->tid);
	r->ppid = getppid();
	prctl(PR_GET_NAME, r->comm);
	r->real0 = clock_ns(CLOCK_REALTIME);
	r->boot0 = boot_ns();
}

static int put_hex(char *out, const void *data, size_t len)
{
	const unsigned char *b = data;
	for (size_t i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", b[i]);
	out[2 * len] = 0;
	return (int)(2 * len);
}

void report_end(struct report *r, long result)
{
	uint64_t boot1 = boot_ns(), real1 = clock_ns(CLOCK_REALTIME);
	struct stat net = {0};
	char addr[2 * sizeof(r->addr) + 1], local[2 * sizeof(r->local) + 1], comm[2 * sizeof(r->comm) + 1], line[2048];

	stat("/proc/thread-self/ns/net", &net);
	put_hex(addr, r->addr, (size_t)r->addr_known);
	put_hex(local, r->local, r->local_len < sizeof(r->local) ? r->local_len : sizeof(r->local));
	put_hex(comm, r->comm, strnlen(r->comm, sizeof(r->comm)));
	int n = snprintf(line, sizeof(line),
		"{\"case\":\"%s\",\"step\":\"%s\",\"pid\":%ld,\"tid\":%ld,\"ppid\":%ld,\"fd\":%d,\"family\":%d,\"type\":%d,"
		"\"protocol\":%d,\"cookie\":%llu,\"addrlen\":%ld,\"addr\":\"%s\",\"local\":\"%s\",\"errno\":%ld,\"comm\":\"%s\","
		"\"uid\":%d,\"gid\":%d,\"euid\":%d,\"netns\":%llu,\"boot0\":%llu,\"boot1\":%llu,\"real0\":%llu,\"real1\":%llu}\n",
		case_name, r->step, r->pid, r->tid, r->ppid, r->fd, r->family, r->type, r->protocol,
		(unsigned long long)r->cookie, r->addrlen, addr, local, -result, comm, (int)getuid(), (int)getgid(),
		(int)geteuid(), (unsigned long long)net.st_ino, (unsigned long long)r->boot0, (unsigned long long)boot1,
		(unsigned long long)r->real0, (unsigned long long)real1);
	write_line(line, n);
}

int attempt(const char *step, int fd, const void *sa, socklen_t len)
{
	struct report r;
	report_begin(&r, step, fd, sa, len);
	long result = syscall(SYS_connect, fd, sa, len);
	if (result < 0)
		result = -errno;
	report_end(&r, result);
	return (int)result;
}

void info(const char *format, ...)
{
	char members[1024], line[1280];
	va_list args;
	va_start(args, format);
	vsnprintf(members, sizeof(members), format, args);
	va_end(args);
	write_line(line, snprintf(line, sizeof(line), "{\"case\":\"%s\",\"info\":{%s}}\n", case_name, members));
}

void not_here(const char *why)
{
	char line[512];
	write_line(line, snprintf(line, sizeof(line), "{\"case\":\"%s\",\"na\":\"%s\"}\n", case_name, why));
	_exit(77);
}

void die(const char *what)
{
	fprintf(stderr, "connects %s: %s: %s\n", case_name, what, strerror(errno));
	_exit(1);
}
