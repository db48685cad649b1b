/* SPDX-License-Identifier: Apache-2.0 */
/* Who connects: threads, children, orphans, and processes that change what they are called. None of these runs exec. */
#include "connects.h"
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

void plain(const char *step)
{
	union address a = inet4("127.0.0.1", 4242);
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	attempt(step, fd, &a, sizeof(a.in));
	close(fd);
}

static void wait_for(pid_t child)
{
	int status;
	if (waitpid(child, &status, 0) != child)
		die("wait for child");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		die("child");
}

static void *thread_body(void *step)
{
	plain(step);
	return NULL;
}

static void thread(int argc, char **argv)
{
	pthread_t t;
	if (pthread_create(&t, NULL, thread_body, "thread"))
		die("thread");
	pthread_join(t, NULL);
	plain("main");
}

static void *named_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	plain("thread");
	return NULL;
}

static void thread_comm(int argc, char **argv)
{
	pthread_t t;
	if (pthread_create(&t, NULL, named_thread, "worker 1/2"))
		die("thread");
	pthread_join(t, NULL);
	plain("main");
}

static pthread_t leader;

static void *after_leader(void *unused)
{
	pthread_join(leader, NULL);
	plain("thread");
	exit(0);
}

/* The main thread is a zombie, the process lives on in another. */
static void leader_gone(int argc, char **argv)
{
	pthread_t t;
	leader = pthread_self();
	if (pthread_create(&t, NULL, after_leader, NULL))
		die("thread");
	pthread_exit(NULL);
}

static void forked(int argc, char **argv)
{
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		plain("child");
		_exit(0);
	}
	wait_for(child);
	plain("parent");
}

static void vforked(int argc, char **argv)
{
	pid_t child = vfork();
	if (child < 0)
		die("vfork");
	if (!child) {
		plain("child");
		_exit(0);
	}
	wait_for(child);
}

/* Two forks; the one between is gone before the last connects, and init or a subreaper is its parent now. */
static void daemon_case(int argc, char **argv)
{
	long first = getpid();
	pid_t between = fork();
	if (between < 0)
		die("fork");
	if (!between) {
		pid_t self = getpid(), last = fork();
		if (last < 0)
			_exit(1);
		if (last)
			_exit(0);
		while (getppid() == self)
			sched_yield();
		info("\"first\":%ld,\"between\":%ld", first, (long)self);
		plain("daemon");
		_exit(0);
	}
	wait_for(between);
}

static void set_uid(int argc, char **argv)
{
	if (setresgid(54322, 54322, 54322) || setresuid(54321, 54321, 54321))
		die("setuid");
	plain("connect");
}

static void set_euid(int argc, char **argv)
{
	if (seteuid(54321))
		die("seteuid");
	plain("connect");
}

static void loginuid(int argc, char **argv)
{
	int fd = open("/proc/self/loginuid", O_WRONLY);
	if (fd < 0 || write(fd, "54321", 5) != 5)
		not_here("loginuid cannot be set");
	close(fd);
	plain("connect");
}

/* `comm HEX`: a name of any bytes. */
static void comm(int argc, char **argv)
{
	char name[16] = {0};
	if (argc != 2 || strlen(argv[1]) > 30)
		die("usage: comm HEX");
	for (size_t i = 0; argv[1][2 * i]; i++)
		sscanf(argv[1] + 2 * i, "%2hhx", (unsigned char *)&name[i]);
	prctl(PR_SET_NAME, name);
	plain("connect");
}

/* The program writes over what /proc/PID/cmdline shows. */
static void argv_overwritten(int argc, char **argv)
{
	char *end = argv[argc - 1] + strlen(argv[argc - 1]);
	memset(argv[0], 'X', (size_t)(end - argv[0]));
	plain("connect");
}

static void pid_namespace(int argc, char **argv)
{
	if (unshare(CLONE_NEWPID))
		not_here("no new pid namespace");
	forked(argc, argv);
}

static pid_t fork_as(pid_t pid)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	if (pid) {
		args.set_tid = (uintptr_t)&pid;
		args.set_tid_size = 1;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* Two programs, one after the other, with the same pid: `pid-reuse` runs itself as `one` with other arguments. */
static void pid_reuse(int argc, char **argv)
{
	pid_t pid = 0;
	char *runs[][6] = {
		{"first-life", "one", "udp", "127.0.0.1", "4242", NULL},
		{"second-life", "one", "udp", "127.0.0.1", "4243", NULL},
	};
	for (int i = 0; i < 2; i++) {
		pid_t child = fork_as(pid);
		if (child < 0)
			not_here("clone3 with set_tid");
		if (!child) {
			execv(self_exe(), runs[i]);
			_exit(1);
		}
		wait_for(child);
		pid = child;
	}
}

const struct command process_commands[] = {
	{"thread", thread}, {"thread-comm", thread_comm}, {"leader-gone", leader_gone}, {"fork", forked}, {"vfork", vforked},
	{"daemon", daemon_case}, {"setuid", set_uid}, {"seteuid", set_euid}, {"loginuid", loginuid}, {"comm", comm},
	{"argv-overwritten", argv_overwritten}, {"pid-namespace", pid_namespace}, {"pid-reuse", pid_reuse}, {0},
};
