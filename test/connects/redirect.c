/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `redirected` connects to addresses that the programs of test/capture/redirect_test.go send elsewhere, to port 2053, and to
 * some that the kernel itself takes for others. Steps whose connect hangs are made with `redirected hang` alone.
 */
#include "connects.h"
#include <sys/time.h>

static void to4(const char *step, int type, const char *ip, int port)
{
	union address a = inet4(ip, port);
	int fd = make_socket(AF_INET, type, 0);

	attempt(step, fd, &a, sizeof(a.in));
	close(fd);
}

static void to6(const char *step, int type, const char *ip, int port)
{
	union address a = inet6(ip, port, 0);
	int fd = make_socket(AF_INET6, type, 0);

	attempt(step, fd, &a, sizeof(a.in6));
	close(fd);
}

/* The peer does not answer: its backlog is full. */
static void hang(void)
{
	union address a = inet4("127.0.0.1", 2053);
	struct timeval wait = {.tv_sec = 2, .tv_usec = 200000};
	int one = 1, fd = make_socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, &a.sa, sizeof(a.in)) || listen(fd, 0))
		die("listen at port 2053");
	attempt("fill", make_socket(AF_INET, SOCK_STREAM, 0), &a, sizeof(a.in));
	a = inet4("127.0.0.9", 1064);
	fd = make_socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	attempt("hang", fd, &a, sizeof(a.in));
}

static void redirected(int argc, char **argv)
{
	union address large = inet4("127.0.0.9", 1063);

	if (argc > 1 && !strcmp(argv[1], "hang")) {
		hang();
		return;
	}
	to4("udp4", SOCK_DGRAM, "127.0.0.9", 1053);
	to6("udp6", SOCK_DGRAM, "::1", 1054);
	to4("tcp4", SOCK_STREAM, "127.0.0.9", 1055);
	to4("nonblock", SOCK_STREAM | SOCK_NONBLOCK, "127.0.0.9", 1056);
	to6("tcp6", SOCK_STREAM, "::1", 1057);
	to6("mapped", SOCK_DGRAM, "::ffff:127.0.0.9", 1058);
	attempt("large", make_socket(AF_INET, SOCK_DGRAM, 0), &large, sizeof(large.storage));
	to4("nowhere", SOCK_DGRAM, "127.0.0.10", 1062); /* sent to where no route leads */
	to4("straight", SOCK_DGRAM, "127.0.0.1", 1061);
	to4("any4", SOCK_STREAM, "0.0.0.0", 1065);
	to6("any6", SOCK_DGRAM, "::", 1066);
	to6("any6-tcp", SOCK_STREAM, "::", 1067);
	to6("any6-mapped", SOCK_DGRAM, "::ffff:0.0.0.0", 1068);
}

const struct command redirect_commands[] = {{"redirected", redirected}, {0}};
