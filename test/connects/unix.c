/* SPDX-License-Identifier: Apache-2.0 */
/* UNIX sockets, in the working directory or abstract. */
#include "connects.h"
#include <sys/stat.h>

static int server(int type, const union address *a, socklen_t len)
{
	int fd = make_socket(AF_UNIX, type, 0);
	if (bind(fd, &a->sa, len) || (type != SOCK_DGRAM && listen(fd, 8)))
		die("bind unix socket");
	return fd;
}

static void to_server(int type, const union address *a, socklen_t len)
{
	server(type, a, len);
	attempt("connect", make_socket(AF_UNIX, type, 0), a, len);
}

static void unix_stream(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, in_cwd("stream.sock"));
	to_server(SOCK_STREAM, &a, len);
}

static void unix_dgram(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, in_cwd("dgram.sock"));
	to_server(SOCK_DGRAM, &a, len);
}

static void unix_seqpacket(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, in_cwd("seqpacket.sock"));
	to_server(SOCK_SEQPACKET, &a, len);
}

static void unix_relative(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, "relative.sock");
	to_server(SOCK_STREAM, &a, len);
}

/* A file whose name begins with @, not an abstract name. */
static void unix_at_path(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, "@conntape-test");
	to_server(SOCK_STREAM, &a, len);
}

static void unix_abstract(int argc, char **argv)
{
	union address a;
	new_netns(); /* abstract names belong to the network namespace: none can collide */
	socklen_t len = unix_bytes(&a, "\0conntape-test", 14);
	to_server(SOCK_STREAM, &a, len);
}

static void unix_abstract_nuls(int argc, char **argv)
{
	union address a;
	new_netns();
	socklen_t len = unix_bytes(&a, "\0a\0b\033[31m\xff\0", 11);
	to_server(SOCK_STREAM, &a, len);
}

/* One NUL and nothing more: the abstract name of no bytes. */
static void unix_abstract_empty(int argc, char **argv)
{
	union address a;
	new_netns();
	socklen_t len = unix_bytes(&a, "\0", 1);
	to_server(SOCK_DGRAM, &a, len);
}

/* What follows the NUL of a path is not part of its name. */
static void unix_trailing(int argc, char **argv)
{
	union address a;
	unix_path(&a, "trailing.sock");
	memcpy(a.un.sun_path + 14, "rubbish", 7);
	to_server(SOCK_STREAM, &a, sizeof(a.un));
}

/* 108 bytes of path and no NUL. */
static void unix_full(int argc, char **argv)
{
	union address a;
	char name[sizeof(a.un.sun_path)];
	memset(name, 'u', sizeof(name));
	memcpy(name, "./", 2);
	socklen_t len = unix_bytes(&a, name, sizeof(name));
	to_server(SOCK_STREAM, &a, len);
}

static void unix_unnamed(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_bytes(&a, "", 0);
	attempt("stream", make_socket(AF_UNIX, SOCK_STREAM, 0), &a, len);
	attempt("dgram", make_socket(AF_UNIX, SOCK_DGRAM, 0), &a, len);
}

static void unix_short(int argc, char **argv)
{
	union address a;
	unix_path(&a, "never.sock");
	attempt("one", make_socket(AF_UNIX, SOCK_STREAM, 0), &a, 1);
}

static void unix_bound(int argc, char **argv)
{
	union address a, local;
	socklen_t len = unix_path(&a, "to.sock"), local_len = unix_path(&local, "from.sock");
	server(SOCK_DGRAM, &a, len);
	attempt("connect", server(SOCK_DGRAM, &local, local_len), &a, len);
}

static void unix_absent(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, "absent.sock");
	attempt("connect", make_socket(AF_UNIX, SOCK_STREAM, 0), &a, len);
}

static void unix_refused(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, "dead.sock");
	close(server(SOCK_STREAM, &a, len));
	attempt("connect", make_socket(AF_UNIX, SOCK_STREAM, 0), &a, len);
}

static void unix_wrong_type(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, "type.sock");
	server(SOCK_STREAM, &a, len);
	attempt("connect", make_socket(AF_UNIX, SOCK_DGRAM, 0), &a, len);
}

static void unix_forbidden(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, "forbidden.sock");
	server(SOCK_STREAM, &a, len);
	if (chmod("forbidden.sock", 0600) || setresgid(54321, 54321, 54321) || setresuid(54321, 54321, 54321))
		die("become another user");
	attempt("connect", make_socket(AF_UNIX, SOCK_STREAM, 0), &a, len);
}

const struct command unix_commands[] = {
	{"unix-stream", unix_stream}, {"unix-dgram", unix_dgram}, {"unix-seqpacket", unix_seqpacket},
	{"unix-relative", unix_relative}, {"unix-at-path", unix_at_path}, {"unix-abstract", unix_abstract},
	{"unix-abstract-nuls", unix_abstract_nuls}, {"unix-abstract-empty", unix_abstract_empty},
	{"unix-trailing", unix_trailing}, {"unix-full", unix_full}, {"unix-unnamed", unix_unnamed}, {"unix-short", unix_short},
	{"unix-bound", unix_bound}, {"unix-absent", unix_absent}, {"unix-refused", unix_refused},
	{"unix-wrong-type", unix_wrong_type}, {"unix-forbidden", unix_forbidden}, {0},
};
