/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets and addresses that the cases share. Nothing here connects, save full_listener, which reports it. */
#include "connects.h"
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

int make_socket(int family, int type, int protocol)
{
	int fd = socket(family, type, protocol);
	if (fd < 0 && (errno == EAFNOSUPPORT || errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT || errno == ENOPROTOOPT))
		not_here("no such socket on this kernel");
	if (fd < 0)
		die("socket");
	return fd;
}

union address inet4(const char *ip, int port)
{
	union address a = {.in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
	if (inet_pton(AF_INET, ip, &a.in.sin_addr) != 1)
		die(ip);
	return a;
}

union address inet6(const char *ip, int port, uint32_t scope)
{
	union address a = {.in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_scope_id = scope}};
	if (inet_pton(AF_INET6, ip, &a.in6.sin6_addr) != 1)
		die(ip);
	return a;
}

static int bound(int family, union address *a)
{
	int fd = make_socket(family, SOCK_STREAM, 0);
	*a = family == AF_INET ? inet4("127.0.0.1", 0) : inet6("::1", 0, 0);
	socklen_t len = family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
	if (bind(fd, &a->sa, len) || getsockname(fd, &a->sa, &len))
		die("bind to loopback");
	return fd;
}

int closed_port(int family, union address *a) { return bound(family, a); }

int listener(int family, union address *a, int backlog)
{
	int fd = bound(family, a);
	if (listen(fd, backlog))
		die("listen");
	return fd;
}

int full_listener(union address *a)
{
	int fd = listener(AF_INET, a, 0);
	if (attempt("fill", make_socket(AF_INET, SOCK_STREAM, 0), &a->in, sizeof(a->in)))
		die("fill the listener");
	return fd;
}

void new_netns(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	if (unshare(CLONE_NEWNET))
		not_here("no new network namespace");
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	if (ioctl(fd, SIOCSIFFLAGS, &lo))
		die("bring up lo");
	close(fd);
}

socklen_t unix_bytes(union address *a, const void *name, size_t len)
{
	memset(a, 0, sizeof(*a));
	a->un.sun_family = AF_UNIX;
	memcpy(a->un.sun_path, name, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

socklen_t unix_path(union address *a, const char *path)
{
	if (strlen(path) >= sizeof(a->un.sun_path))
		die("working directory too long for a unix socket");
	return unix_bytes(a, path, strlen(path) + 1);
}

const char *in_cwd(const char *name)
{
	static char path[PATH_MAX + 128];
	char cwd[PATH_MAX];
	if (!getcwd(cwd, sizeof(cwd)))
		die("getcwd");
	snprintf(path, sizeof(path), "%s/%s", cwd, name);
	return path;
}
