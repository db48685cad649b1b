/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects that wait, are interrupted, or start only when told: stdin is the trigger (`read` returns at a byte or at its
 * end), so that a test can do something in between.
 */
#include "connects.h"
#include <pthread.h>
#include <sys/resource.h>

static void wait_for_stdin(void)
{
	char c;
	info("\"waiting\":true");
	while (read(STDIN_FILENO, &c, 1) < 0 && errno == EINTR) {
	}
}

/* Alive before the recorder, connects after. */
static void when_told(int argc, char **argv)
{
	wait_for_stdin();
	plain("connect");
}

static void on_alarm(int sig) {}

static void interrupted(const char *step, int sa_flags)
{
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = sa_flags};
	union address a;
	new_netns();
	full_listener(&a);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0), once = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof(once)); /* so that the restarted call ends, after 3 s */
	sigaction(SIGALRM, &action, NULL);
	ualarm(200000, 0);
	attempt(step, fd, &a, sizeof(a.in));
}

static void eintr(int argc, char **argv) { interrupted("connect", 0); }

/* The kernel makes the call again after the signal: one call of the program's, two of the kernel's. */
static void restarted(int argc, char **argv) { interrupted("restarted", SA_RESTART); }

/* Until that process sleeps in connect(2): proc_pid_syscall(5). */
static void wait_until_connecting(pid_t pid)
{
	char path[64];
	long nr;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	for (int i = 0; i < 3000; i++, usleep(10000)) {
		FILE *f = fopen(path, "r");
		int found = f && fscanf(f, "%ld", &nr) == 1 && nr == SYS_connect;
		if (f)
			fclose(f);
		if (found)
			return;
	}
	die("wait for a process to connect");
}

static void killed(int argc, char **argv)
{
	union address a;
	struct report r;
	new_netns();
	full_listener(&a);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	report_begin(&r, "killed", fd, &a, sizeof(a.in));
	pid_t parent = getpid();
	if (!fork()) {
		wait_until_connecting(parent);
		report_end(&r, -512); /* ERESTARTSYS, which only the kernel sees */
		kill(parent, SIGKILL);
		_exit(0);
	}
	connect(fd, &a.sa, sizeof(a.in));
}

struct blocked {
	pthread_t thread;
	pid_t tid;
	int fd, result;
	const union address *to;
	socklen_t len;
};

static void *blocked_body(void *arg)
{
	struct blocked *b = arg;
	__atomic_store_n(&b->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	b->result = syscall(SYS_connect, b->fd, b->to, b->len) ? errno : 0;
	return NULL;
}

/* /proc says which system call a thread sleeps in. */
static bool in_connect(pid_t tid)
{
	char path[64], text[16] = {0};
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		die("read /proc/self/task/TID/syscall");
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 && atoi(text) == SYS_connect;
}

static int unix_full_listener(union address *a, socklen_t *len)
{
	*len = unix_path(a, in_cwd("blocked.sock"));
	int fd = make_socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(fd, &a->sa, *len) || listen(fd, 0))
		die("listen");
	attempt("fill", make_socket(AF_UNIX, SOCK_STREAM, 0), a, *len);
	return fd;
}

/*
 * `blocked tcp|unix N` has N threads wait in connect at once, says so, and at the end of stdin lets them go: a TCP
 * connect is interrupted (EINTR), a UNIX one refused, since its listener closes.
 */
static void blocked(int argc, char **argv)
{
	if (argc != 3)
		die("usage: blocked tcp|unix N");
	bool tcp = !strcmp(argv[1], "tcp");
	int n = atoi(argv[2]), server, by_errno[4096] = {0};
	struct rlimit files = {(rlim_t)n + 64, (rlim_t)n + 64};
	struct sigaction action = {.sa_handler = on_alarm};
	struct blocked *all = calloc((size_t)n, sizeof(*all));
	union address a;
	socklen_t len = sizeof(a.in);
	pthread_attr_t small;

	setrlimit(RLIMIT_NOFILE, &files);
	sigaction(SIGUSR1, &action, NULL);
	new_netns();
	server = tcp ? full_listener(&a) : unix_full_listener(&a, &len);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 32768);
	for (int i = 0; i < n; i++) {
		all[i].fd = make_socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
		all[i].to = &a;
		all[i].len = len;
		if ((errno = pthread_create(&all[i].thread, &small, blocked_body, &all[i])))
			die("thread");
	}
	for (int i = 0; i < n; i++)
		while (!__atomic_load_n(&all[i].tid, __ATOMIC_ACQUIRE) || !in_connect(all[i].tid))
			usleep(1000);
	info("\"blocked\":%d,\"pid\":%d", n, getpid());
	wait_for_stdin();
	if (!tcp)
		close(server);
	for (int i = 0; i < n; i++) {
		if (tcp)
			pthread_kill(all[i].thread, SIGUSR1);
		pthread_join(all[i].thread, NULL);
		by_errno[all[i].result & 4095]++;
	}
	for (int e = 0; e < 4096; e++)
		if (by_errno[e])
			info("\"errno\":%d,\"count\":%d", e, by_errno[e]);
}

const struct command wait_commands[] = {
	{"when-told", when_told}, {"eintr", eintr}, {"restarted", restarted}, {"killed", killed}, {"blocked", blocked}, {0},
};
