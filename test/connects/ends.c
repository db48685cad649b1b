/* SPDX-License-Identifier: Apache-2.0 */
/* How TCP connections end: whole ones over the loopback, whose other side is the same program. */
#include "connects.h"
#include <poll.h>
#include <sys/epoll.h>

static int accepted(int listens)
{
	int fd = accept4(listens, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		die("accept");
	return fd;
}

static void send_text(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("write");
}

/* Reads until the other side has closed. */
static void drain(int fd)
{
	char buf[64];
	ssize_t n;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	if (n < 0)
		die("read");
}

static void await(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	if (poll(&p, 1, 10000) != 1)
		die("poll");
}

/* Nobody closes it but the kernel, when the process is killed. */
static void end_by_death(int argc, char **argv)
{
	union address a;
	int listens = listener(AF_INET, &a, 8);
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		int fd = make_socket(AF_INET, SOCK_STREAM, 0);
		attempt("connect", fd, &a.sa, sizeof(a.in));
		send_text(fd, "dying");
		raise(SIGKILL);
	}
	int fd = accepted(listens);
	drain(fd);
	close(fd);
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
}

/* One direction is closed long before the other; the client waits with poll. */
static void end_by_halves(int argc, char **argv)
{
	union address a;
	int listens = listener(AF_INET, &a, 8), fd = make_socket(AF_INET, SOCK_STREAM, 0);
	attempt("connect", fd, &a.sa, sizeof(a.in));
	int other = accepted(listens);
	send_text(fd, "ask");
	if (shutdown(fd, SHUT_WR))
		die("shutdown");
	drain(other);
	usleep(100000);
	send_text(other, "answer");
	close(other);
	await(fd, POLLIN);
	drain(fd);
	close(fd);
}

/* A nonblocking client with epoll, which asks SO_ERROR how its connect went. */
static int by_epoll(union address *a)
{
	int fd = make_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), e = epoll_create1(EPOLL_CLOEXEC), error = 0;
	struct epoll_event event = {.events = EPOLLOUT};
	socklen_t len = sizeof(error);
	attempt("connect", fd, &a->sa, sizeof(a->in));
	if (e < 0 || epoll_ctl(e, EPOLL_CTL_ADD, fd, &event) || epoll_wait(e, &event, 1, 10000) != 1)
		die("epoll");
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		die("SO_ERROR");
	close(e);
	errno = error;
	if (error && error != ECONNREFUSED)
		die("connect");
	return fd;
}

static void end_epoll(int argc, char **argv)
{
	union address a;
	int listens = listener(AF_INET, &a, 8), fd = by_epoll(&a), other = accepted(listens);
	send_text(fd, "ask");
	close(fd);
	drain(other);
	close(other);
}

static void end_epoll_refused(int argc, char **argv)
{
	union address a;
	closed_port(AF_INET, &a);
	close(by_epoll(&a));
}

/* Two processes have the socket: it ends when the second closes it, not the first, which connected. */
static void end_shared(int argc, char **argv)
{
	union address a;
	int listens = listener(AF_INET, &a, 8), fd = make_socket(AF_INET, SOCK_STREAM, 0);
	attempt("connect", fd, &a.sa, sizeof(a.in));
	int other = accepted(listens);
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		close(other);
		usleep(300000);
		send_text(fd, "late");
		_exit(0);
	}
	close(fd);
	drain(other);
	close(other);
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
}

/* The socket goes through a UNIX socket to a process that did not inherit it, which sends, and ends it. */
static void hand_over(int through, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {0}, byte = 0;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(through, &m, 0) != 1)
		die("sendmsg");
}

static int taken(int through)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	int fd;
	if (recvmsg(through, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		die("recvmsg");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static void end_passed(int argc, char **argv)
{
	union address a;
	int listens = listener(AF_INET, &a, 8), pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		int fd = taken(pair[1]);
		send_text(fd, "passed");
		_exit(0);
	}
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	attempt("connect", fd, &a.sa, sizeof(a.in));
	int other = accepted(listens);
	hand_over(pair[0], fd);
	close(fd);
	drain(other);
	close(other);
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
}

const struct command end_commands[] = {
	{"end-by-death", end_by_death}, {"end-by-halves", end_by_halves}, {"end-epoll", end_epoll},
	{"end-epoll-refused", end_epoll_refused}, {"end-shared", end_shared}, {"end-passed", end_passed}, {0},
};
