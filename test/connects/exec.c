/* SPDX-License-Identifier: Apache-2.0 */
/* What runs: programs started in every way, each of which then makes one connect. */
#include "connects.h"
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

extern char **environ;

const char *self_exe(void)
{
	static char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n < 0)
		die("own path");
	path[n] = 0;
	return path;
}

void copy_self(int to_fd)
{
	struct stat st;
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st))
		die("open self");
	for (off_t left = st.st_size; left > 0;) {
		ssize_t n = sendfile(to_fd, from, NULL, (size_t)left);
		if (n <= 0)
			die("copy self");
		left -= n;
	}
	close(from);
}

static void copy_to(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0)
		die(path);
	copy_self(fd);
	close(fd);
}

/* `one udp|tcp IP PORT [WORD...]` makes one reported connect, `quick` the same without a report. */
static void one(int argc, char **argv)
{
	bool quick = !strcmp(argv[0], "quick");
	if (argc < 4)
		die("usage: one udp|tcp IP PORT [WORD...]");
	union address a = inet4(argv[2], atoi(argv[3]));
	int fd = socket(AF_INET, strcmp(argv[1], "tcp") ? SOCK_DGRAM : SOCK_STREAM, 0);
	if (quick)
		_exit(syscall(SYS_connect, fd, &a, sizeof(a.in)) ? 1 : 0);
	attempt("connect", fd, &a, sizeof(a.in));
}

#define ONE "one", "udp", "127.0.0.1", "4242"

static void spawn_case(int argc, char **argv)
{
	char *args[] = {"spawned", ONE, NULL};
	pid_t child;
	if (posix_spawn(&child, self_exe(), NULL, NULL, args, environ))
		die("posix_spawn");
	waitpid(child, NULL, 0);
}

/* The same pid is three programs, one after the other. */
static void exec_twice(int argc, char **argv)
{
	int round = argc > 1 ? atoi(argv[1]) : 1;
	char next[2] = {(char)('1' + round), 0};
	char *again[] = {"again", "exec-twice", next, NULL};
	union address a = inet4("127.0.0.1", 4242);
	int fd = make_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	attempt(round == 1 ? "first" : round == 2 ? "second" : "third", fd, &a, sizeof(a.in));
	if (round < 3)
		execv(self_exe(), again);
}

static void *exec_body(void *unused)
{
	char *args[] = {"from-thread", ONE, NULL};
	execv(self_exe(), args);
	_exit(1);
}

/* exec in a thread that is not the leader: it takes over the leader's pid. */
static void exec_thread(int argc, char **argv)
{
	pthread_t t;
	if (pthread_create(&t, NULL, exec_body, NULL))
		die("thread");
	pthread_join(t, NULL);
}

static void exec_deleted(int argc, char **argv)
{
	char *args[] = {"deleted", ONE, NULL};
	copy_to("deleted");
	int fd = open("deleted", O_PATH | O_CLOEXEC);
	if (fd < 0 || unlink("deleted"))
		die("delete");
	syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH);
	die("execveat");
}

/* Run from a copy: the file is there at exec and gone at connect. */
static void unlink_self(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	if (unlink(self_exe()))
		die("unlink self");
	attempt("connect", make_socket(AF_INET, SOCK_DGRAM, 0), &a, sizeof(a.in));
}

static void exec_memfd(int argc, char **argv)
{
	char *args[] = {"[kworker/0:0]", ONE, NULL};
	int fd = memfd_create("hidden", MFD_CLOEXEC);
	if (fd < 0)
		die("memfd");
	copy_self(fd);
	fexecve(fd, args, environ);
	die("fexecve");
}

/* The program lies on a file system of its own, mounted two directories down, in a mount namespace of its own. */
static void exec_mounted(int argc, char **argv)
{
	char *args[] = {"mounted", ONE, NULL};
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		not_here("no new mount namespace");
	if (mkdir("a", 0755) || mkdir("a/b", 0755) || mount("tmpfs", "a/b", "tmpfs", 0, NULL))
		die("mount");
	if (mkdir("a/b/c", 0755))
		die("mkdir");
	copy_to("a/b/c/program");
	execv("a/b/c/program", args);
	die("exec");
}

static void exec_chroot(int argc, char **argv)
{
	char *args[] = {"jailed", ONE, NULL};
	if (mkdir("jail", 0755) || mkdir("jail/bin", 0755))
		die("mkdir");
	copy_to("jail/bin/program");
	if (chroot("jail") || chdir("/"))
		die("chroot");
	execv("/bin/program", args);
	die("exec");
}

/* `exec-deep N` runs a copy of itself N directories down. */
static void exec_deep(int argc, char **argv)
{
	char *args[] = {"deep", ONE, NULL};
	for (int depth = argc > 1 ? atoi(argv[1]) : 0; depth > 0; depth--)
		if (mkdir("directory", 0755) || chdir("directory"))
			die("go down");
	copy_to("program");
	execv("./program", args);
	die("exec");
}

/* The interpreter of a script: whatever follows is the script and its arguments. */
static void script(int argc, char **argv) { plain("connect"); }

const struct command exec_commands[] = {
	{"one", one}, {"quick", one}, {"posix-spawn", spawn_case}, {"exec-twice", exec_twice}, {"exec-thread", exec_thread},
	{"exec-deleted", exec_deleted}, {"unlink-self", unlink_self}, {"exec-memfd", exec_memfd},
	{"exec-mounted", exec_mounted}, {"exec-chroot", exec_chroot}, {"exec-deep", exec_deep}, {"script", script}, {0},
};
