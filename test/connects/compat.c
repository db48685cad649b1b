/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 32-bit calls of x86, made by a 64-bit process with int $0x80: connect (362) and socketcall (102). Pointers must lie
 * below 4 GiB. No syscall tracepoint fires for them.
 */
#include "connects.h"

#ifdef __x86_64__
#include <setjmp.h>
#include <sys/mman.h>

enum { compat_getpid = 20, compat_socketcall = 102, compat_connect = 362, socketcall_connect = 3 };

static long int80(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static sigjmp_buf no_emulation;

static void on_fault(int sig) { siglongjmp(no_emulation, 1); }

static void *low_memory(void)
{
	struct sigaction fault = {.sa_handler = on_fault};
	sigaction(SIGSEGV, &fault, NULL);
	if (sigsetjmp(no_emulation, 1) || int80(compat_getpid, 0, 0, 0) != getpid())
		not_here("no 32-bit emulation");
	signal(SIGSEGV, SIG_DFL);
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (p == MAP_FAILED)
		die("memory below 4 GiB");
	return p;
}

static void compat(const char *step, bool socketcall, int fd, const union address *a, socklen_t len)
{
	struct { uint32_t args[4]; union address a; } *low = low_memory();
	struct report r;
	long result;

	memcpy(&low->a, a, sizeof(*a));
	low->args[0] = (uint32_t)fd;
	low->args[1] = (uint32_t)(uintptr_t)&low->a;
	low->args[2] = len;
	report_begin(&r, step, fd, a, len);
	if (socketcall)
		result = int80(compat_socketcall, socketcall_connect, (long)low->args, 0);
	else
		result = int80(compat_connect, fd, (long)&low->a, len);
	report_end(&r, result);
}

static void compat_case(int argc, char **argv)
{
	bool socketcall = !strncmp(argv[0], "compat-socketcall", 17);
	union address up, down, none = {.sa.sa_family = AF_UNSPEC}, udp = inet4("127.0.0.1", 4242);
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);

	if (strstr(argv[0], "unspec")) {
		compat("disconnect", socketcall, fd, &none, sizeof(none.in));
		return;
	}
	listener(AF_INET, &up, 8);
	closed_port(AF_INET, &down);
	compat("tcp", socketcall, make_socket(AF_INET, SOCK_STREAM, 0), &up, sizeof(up.in));
	compat("refused", socketcall, make_socket(AF_INET, SOCK_STREAM, 0), &down, sizeof(down.in));
	compat("udp", socketcall, fd, &udp, sizeof(udp.in));
}
#else
static void compat_case(int argc, char **argv) { not_here("only on amd64"); }
#endif

const struct command compat_commands[] = {
	{"compat-connect", compat_case}, {"compat-socketcall", compat_case}, {"compat-connect-unspec", compat_case},
	{"compat-socketcall-unspec", compat_case}, {0},
};
