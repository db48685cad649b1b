/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 and IPv6: what ordinary programs do, and each way in which it ends. */
#include "connects.h"
#include <net/if.h>
#include <linux/ipv6.h>
#include <sys/ioctl.h>

static void connect_to(int family, int type, int protocol, union address *a)
{
	attempt("connect", make_socket(family, type, protocol), &a->sa,
		a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6));
}

static void tcp4(int argc, char **argv)
{
	union address a;
	listener(AF_INET, &a, 8);
	connect_to(AF_INET, SOCK_STREAM, 0, &a);
}

static void tcp6(int argc, char **argv)
{
	union address a;
	listener(AF_INET6, &a, 8);
	connect_to(AF_INET6, SOCK_STREAM, 0, &a);
}

static void mptcp(int argc, char **argv)
{
	union address a;
	new_netns();
	listener(AF_INET, &a, 8);
	connect_to(AF_INET, SOCK_STREAM, 262, &a);
}

static void tcp4_refused(int argc, char **argv)
{
	union address a;
	closed_port(AF_INET, &a);
	connect_to(AF_INET, SOCK_STREAM, 0, &a);
}

static void tcp6_refused(int argc, char **argv)
{
	union address a;
	closed_port(AF_INET6, &a);
	connect_to(AF_INET6, SOCK_STREAM, 0, &a);
}

/* Loopback or not, a non-blocking TCP connect answers EINPROGRESS, even one that is refused at once. */
static void tcp4_nonblock(int argc, char **argv)
{
	union address a;
	listener(AF_INET, &a, 8);
	connect_to(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, &a);
}

static void tcp4_nonblock_refused(int argc, char **argv)
{
	union address a;
	closed_port(AF_INET, &a);
	connect_to(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, &a);
}

static void tcp4_already(int argc, char **argv)
{
	union address a;
	new_netns();
	full_listener(&a);
	int fd = make_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	attempt("first", fd, &a.sa, sizeof(a.in));
	attempt("second", fd, &a.sa, sizeof(a.in));
}

static void tcp4_isconn(int argc, char **argv)
{
	union address a;
	listener(AF_INET, &a, 8);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	attempt("first", fd, &a.sa, sizeof(a.in));
	attempt("second", fd, &a.sa, sizeof(a.in));
}

static void tcp4_listening(int argc, char **argv)
{
	union address a;
	int fd = listener(AF_INET, &a, 8);
	attempt("connect", fd, &a.sa, sizeof(a.in));
}

static void tcp4_bound(int argc, char **argv)
{
	union address a, local = inet4("127.0.0.2", 0);
	listener(AF_INET, &a, 8);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	if (bind(fd, &local.sa, sizeof(local.in)))
		die("bind");
	attempt("connect", fd, &a.sa, sizeof(a.in));
}

/* 0.0.0.0 leads to this host; the row shows what was asked for. */
static void tcp4_any(int argc, char **argv)
{
	union address a, any;
	listener(AF_INET, &a, 8);
	any = inet4("0.0.0.0", ntohs(a.in.sin_port));
	connect_to(AF_INET, SOCK_STREAM, 0, &any);
}

/* One SYN retry: about three seconds. */
static void tcp4_timeout(int argc, char **argv)
{
	union address a;
	int once = 1;
	new_netns();
	full_listener(&a);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	if (setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &once, sizeof(once)))
		die("TCP_SYNCNT");
	attempt("connect", fd, &a.sa, sizeof(a.in));
}

/* The namespace has no route but loopback: nothing leaves. */
static void tcp4_unreachable(int argc, char **argv)
{
	union address a = inet4("192.0.2.1", 80);
	new_netns();
	connect_to(AF_INET, SOCK_STREAM, 0, &a);
}

static void tcp4_long(int argc, char **argv)
{
	union address a;
	memset(&a, 0xee, sizeof(a));
	listener(AF_INET, &a, 8);
	attempt("connect", make_socket(AF_INET, SOCK_STREAM, 0), &a.sa, 128);
}

/* The length of RFC 2133, without a scope id, is still taken. */
static void tcp6_rfc2133(int argc, char **argv)
{
	union address a;
	listener(AF_INET6, &a, 8);
	attempt("connect", make_socket(AF_INET6, SOCK_STREAM, 0), &a.sa, 24);
}

static void tcp6_mapped(int argc, char **argv)
{
	union address a, mapped;
	listener(AF_INET, &a, 8);
	mapped = inet6("::ffff:127.0.0.1", ntohs(a.in.sin_port), 0);
	connect_to(AF_INET6, SOCK_STREAM, 0, &mapped);
}

static void tcp6_inet(int argc, char **argv)
{
	union address a;
	listener(AF_INET, &a, 8);
	attempt("connect", make_socket(AF_INET6, SOCK_STREAM, 0), &a.sa, 28);
	attempt("short", make_socket(AF_INET6, SOCK_STREAM, 0), &a.sa, sizeof(a.in));
}

static unsigned lo_with_link_local(void)
{
	struct ifreq lo = {.ifr_name = "lo"};
	struct in6_ifreq add = {.ifr6_prefixlen = 64};
	new_netns();
	int fd = make_socket(AF_INET6, SOCK_DGRAM, 0);
	if (ioctl(fd, SIOCGIFINDEX, &lo))
		die("index of lo");
	add.ifr6_ifindex = lo.ifr_ifindex;
	add.ifr6_addr = inet6("fe80::1", 0, 0).in6.sin6_addr;
	if (ioctl(fd, SIOCSIFADDR, &add))
		die("add fe80::1 to lo");
	close(fd);
	return (unsigned)lo.ifr_ifindex;
}

static void udp6_scope(int argc, char **argv)
{
	union address a = inet6("fe80::1", 4242, lo_with_link_local());
	connect_to(AF_INET6, SOCK_DGRAM, 0, &a);
}

static void tcp6_no_scope(int argc, char **argv)
{
	union address a = inet6("fe80::1", 4242, 0);
	lo_with_link_local();
	connect_to(AF_INET6, SOCK_STREAM, 0, &a);
}

static void udp4(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	connect_to(AF_INET, SOCK_DGRAM, 0, &a);
}

/* As getaddrinfo does to sort addresses. */
static void udp4_port0(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 0);
	connect_to(AF_INET, SOCK_DGRAM, 0, &a);
}

static void udp4_again(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242), b = inet4("127.0.0.3", 4243);
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	attempt("first", fd, &a.sa, sizeof(a.in));
	attempt("second", fd, &b.sa, sizeof(b.in)); /* by now the first has chosen a local address */
}

/* EACCES, though no LSM refuses. */
static void udp4_broadcast(int argc, char **argv)
{
	union address a = inet4("127.255.255.255", 4242);
	connect_to(AF_INET, SOCK_DGRAM, 0, &a);
}

static void udp6(int argc, char **argv)
{
	union address a = inet6("::1", 4242, 0);
	connect_to(AF_INET6, SOCK_DGRAM, 0, &a);
}

static void udp6_mapped(int argc, char **argv)
{
	union address a = inet6("::ffff:127.0.0.1", 4242, 0);
	connect_to(AF_INET6, SOCK_DGRAM, 0, &a);
}

static void udp6_inet(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	connect_to(AF_INET6, SOCK_DGRAM, 0, &a);
}

static void udplite4(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	connect_to(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, &a);
}

/* The SYN goes out from sendto or sendmsg; no connect(2) is ever called. */
static void send_fastopen(const char *step, int family, const union address *a, socklen_t len, bool message)
{
	struct iovec iov = {"x", 1};
	struct msghdr m = {.msg_name = (void *)a, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1};
	struct report r;
	int fd = make_socket(family, SOCK_STREAM, 0);
	report_begin(&r, step, fd, a, len);
	ssize_t n = message ? sendmsg(fd, &m, MSG_FASTOPEN) : sendto(fd, "x", 1, MSG_FASTOPEN, &a->sa, len);
	if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
		not_here("TCP fast open is off");
	report_end(&r, n < 0 ? -errno : 0);
}

static void fastopen_sendto(int argc, char **argv)
{
	union address a, a6, closed;
	listener(AF_INET, &a, 8);
	listener(AF_INET6, &a6, 8);
	closed_port(AF_INET, &closed);
	send_fastopen("sendto", AF_INET, &a, sizeof(a.in), false);
	send_fastopen("sendmsg", AF_INET, &a, sizeof(a.in), true);
	send_fastopen("ipv6", AF_INET6, &a6, sizeof(a6.in6), false);
	send_fastopen("refused", AF_INET, &closed, sizeof(closed.in), false);
}

/* connect(2) puts off the SYN to the first write. */
static void fastopen_connect(int argc, char **argv)
{
	union address a;
	int on = 1;
	listener(AF_INET, &a, 8);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)))
		not_here("no TCP_FASTOPEN_CONNECT");
	attempt("connect", fd, &a.sa, sizeof(a.in));
	if (write(fd, "x", 1) != 1)
		die("write");
}

const struct command inet_commands[] = {
	{"tcp4", tcp4}, {"tcp6", tcp6}, {"mptcp", mptcp}, {"tcp4-refused", tcp4_refused}, {"tcp6-refused", tcp6_refused},
	{"tcp4-nonblock", tcp4_nonblock}, {"tcp4-nonblock-refused", tcp4_nonblock_refused}, {"tcp4-already", tcp4_already},
	{"tcp4-isconn", tcp4_isconn}, {"tcp4-listening", tcp4_listening}, {"tcp4-bound", tcp4_bound}, {"tcp4-any", tcp4_any},
	{"tcp4-timeout", tcp4_timeout}, {"tcp4-unreachable", tcp4_unreachable}, {"tcp4-long", tcp4_long},
	{"tcp6-rfc2133", tcp6_rfc2133}, {"tcp6-mapped", tcp6_mapped}, {"tcp6-inet", tcp6_inet},
	{"tcp6-no-scope", tcp6_no_scope}, {"udp6-scope", udp6_scope}, {"udp4", udp4}, {"udp4-port0", udp4_port0},
	{"udp4-again", udp4_again}, {"udp4-broadcast", udp4_broadcast}, {"udp6", udp6}, {"udp6-mapped", udp6_mapped},
	{"udp6-inet", udp6_inet}, {"udplite4", udplite4}, {"fastopen-sendto", fastopen_sendto},
	{"fastopen-connect", fastopen_connect}, {0},
};
