/* SPDX-License-Identifier: Apache-2.0 */
/* Sends without connect, each of ten bytes. */
#include <linux/if_packet.h>
#include "connects.h"

static const char payload[10] = "conntape";

/* Sends by one system call, and returns 0 or minus errno. */
static long send_by(const char *call, int fd, const void *sa, socklen_t len)
{
	struct iovec halves[2] = {{(char *)payload, 4}, {(char *)payload + 4, 6}};
	struct mmsghdr m = {.msg_hdr = {.msg_name = (void *)sa, .msg_namelen = len, .msg_iov = halves, .msg_iovlen = 2}};
	long n;

	if (!strcmp(call, "sendto"))
		n = sendto(fd, payload, sizeof(payload), 0, sa, len);
	else if (!strcmp(call, "sendmsg"))
		n = sendmsg(fd, &m.msg_hdr, 0);
	else
		n = sendmmsg(fd, &m, 1, 0);
	return n < 0 ? -errno : 0;
}

static void send_once(const char *call, int fd, const void *sa, socklen_t len)
{
	struct report r;

	report_begin(&r, call, fd, sa, len);
	report_end(&r, send_by(call, fd, sa, len));
}

static void send_udp4(int argc, char **argv)
{
	const char *calls[] = {"sendto", "sendmsg", "sendmmsg"};
	union address a = inet4("127.0.0.1", 4242);

	for (int i = 0; i < 3; i++)
		send_once(calls[i], make_socket(AF_INET, SOCK_DGRAM, 0), &a, sizeof(a.in));
}

static void send_udp6(int argc, char **argv)
{
	union address a = inet6("::1", 4242, 0);
	send_once("sendto", make_socket(AF_INET6, SOCK_DGRAM, 0), &a, sizeof(a.in6));
}

static void send_mapped(int argc, char **argv)
{
	union address a = inet6("::ffff:127.0.0.1", 4242, 0);
	send_once("sendto", make_socket(AF_INET6, SOCK_DGRAM, 0), &a, sizeof(a.in6));
}

static void send_elsewhere(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242), b = inet4("127.0.0.2", 4343);
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);

	attempt("connect", fd, &a, sizeof(a.in));
	send_by("sendto", fd, NULL, 0); /* makes no row */
	send_once("sendto", fd, &b, sizeof(b.in));
}

/* A family that nobody would name who means to be seen; the kernel takes it for IPv4. */
static void send_unspec(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	a.sa.sa_family = AF_UNSPEC;
	send_once("sendto", make_socket(AF_INET, SOCK_DGRAM, 0), &a, sizeof(a.in));
}

static void send_many(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	struct report r;

	report_begin(&r, "sendto", fd, &a, sizeof(a.in));
	long first = send_by("sendto", fd, &a, sizeof(a.in));
	for (int i = 0; i < 5000; i++)
		send_by("sendto", fd, &a, sizeof(a.in));
	report_end(&r, first); /* the row of what was counted may begin late on a busy machine, and is looked for until now */
}

static void send_raw(int family, int protocol, const union address *a, socklen_t len)
{
	send_once("sendto", make_socket(family, SOCK_RAW, protocol), a, len);
}

static void send_raw4(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 0);
	send_raw(AF_INET, IPPROTO_ICMP, &a, sizeof(a.in));
}

static void send_raw6(int argc, char **argv)
{
	union address a = inet6("::1", 0, 0);
	send_raw(AF_INET6, IPPROTO_ICMPV6, &a, sizeof(a.in6));
}

static void send_ping4(int argc, char **argv)
{
	static const char echo[10] = {8};
	union address a = inet4("127.0.0.1", 0);
	struct report r;

	allow_ping();
	int fd = make_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	report_begin(&r, "sendto", fd, &a, sizeof(a.in));
	report_end(&r, sendto(fd, echo, sizeof(echo), 0, &a.sa, sizeof(a.in)) < 0 ? -errno : 0);
}

static void send_ping6(int argc, char **argv)
{
	static const char echo[10] = {(char)128};
	union address a = inet6("::1", 0, 0);
	struct report r;

	allow_ping();
	int fd = make_socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
	report_begin(&r, "sendto", fd, &a, sizeof(a.in6));
	report_end(&r, sendto(fd, echo, sizeof(echo), 0, &a.sa, sizeof(a.in6)) < 0 ? -errno : 0);
}

/* Through a packet socket, to the loopback, with the queue of the device and past it. */
static void send_packet(int argc, char **argv)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = 1, .sll_halen = 6};
	int fd = make_socket(AF_PACKET, SOCK_DGRAM, 0), yes = 1;

	send_once("sendto", fd, &a, sizeof(a));
	if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)))
		die("setsockopt PACKET_QDISC_BYPASS");
	struct report r;
	a.sll_protocol = htons(0x88b6);
	report_begin(&r, "bypass", fd, &a, sizeof(a));
	report_end(&r, send_by("sendto", fd, &a, sizeof(a)));
}

static void send_sctp(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	int fd = socket(AF_INET, SOCK_SEQPACKET | SOCK_NONBLOCK, IPPROTO_SCTP);

	if (fd < 0)
		not_here("no SCTP");
	send_once("sendto", fd, &a, sizeof(a.in));
}

static void send_unix(int argc, char **argv)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "receiver"};
	int receiver = make_socket(AF_UNIX, SOCK_DGRAM, 0);

	if (bind(receiver, (struct sockaddr *)&a, sizeof(a)))
		die("bind");
	send_once("sendto", make_socket(AF_UNIX, SOCK_DGRAM, 0), &a, sizeof(a));
}

/* `sends N ADDRESSES`: N sends from one socket, to one address after another. */
static void sends(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000, addresses = argc > 2 ? atol(argv[2]) : 1;
	union address a = inet4("127.16.0.0", 4242);
	uint32_t base = ntohl(a.in.sin_addr.s_addr);
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);

	for (long i = 0; i < n; i++) {
		a.in.sin_addr.s_addr = htonl(base + 1 + (uint32_t)(i % addresses));
		send_by("sendto", fd, &a, sizeof(a.in));
	}
	info("\"pid\":%d,\"count\":%ld", getpid(), n);
}

const struct command send_commands[] = {
	{"send-udp4", send_udp4}, {"send-udp6", send_udp6}, {"send-mapped", send_mapped}, {"send-elsewhere", send_elsewhere},
	{"send-unspec", send_unspec}, {"send-many", send_many}, {"send-raw4", send_raw4}, {"send-raw6", send_raw6},
	{"send-ping4", send_ping4}, {"send-ping6", send_ping6}, {"send-packet", send_packet}, {"send-sctp", send_sctp},
	{"send-unix", send_unix}, {"sends", sends}, {0},
};
