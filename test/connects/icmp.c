/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a router answers: ICMP errors that come back to a socket, made here and sent over the loopback of a network namespace of its own. The
 * kernel takes one if it quotes a packet that is on its way.
 */
#include "connects.h"
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>

static uint16_t checksum(const void *data, size_t len)
{
	const uint16_t *p = data;
	uint32_t sum = 0;
	for (size_t i = 0; i < len / 2; i++)
		sum += p[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/*
 * Sends an ICMP error that quotes a packet: its IP header and the eight bytes behind it. Another process does, as a send without connect is
 * recorded too, and is none of this case.
 */
static void send_error(int code, const unsigned char *packet)
{
	struct {
		struct icmphdr icmp;
		unsigned char quoted[28];
	} error = {.icmp = {.type = ICMP_DEST_UNREACH, .code = (uint8_t)code}};
	union address home = inet4("127.0.0.1", 0);
	pid_t router = fork();
	if (router < 0)
		die("fork");
	if (router) {
		int status;
		if (waitpid(router, &status, 0) != router || status)
			die("the router");
		return;
	}
	int fd = make_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	memcpy(error.quoted, packet, sizeof(error.quoted));
	error.icmp.checksum = checksum(&error, sizeof(error));
	if (sendto(fd, &error, sizeof(error), 0, &home.sa, sizeof(home.in)) != sizeof(error))
		die("send an ICMP error");
	_exit(0);
}

/* A raw socket gets a copy of what the loopback delivers: of the first packet to a port. */
static void sniff(int raw, uint16_t to, unsigned char *packet, size_t size)
{
	for (;;) {
		struct pollfd p = {.fd = raw, .events = POLLIN};
		if (poll(&p, 1, 10000) != 1)
			die("poll");
		memset(packet, 0, size);
		if (read(raw, packet, size) >= 28 && !memcmp(packet + 22, &to, 2))
			return;
	}
}

/* The listener's only place is taken, so that it drops the SYN, and the connect waits for an answer. */
static void tcp_error(const char *step, const union address *a, int code, int error)
{
	unsigned char packet[64];
	socklen_t len = sizeof(error);
	int got = 0, raw = make_socket(AF_INET, SOCK_RAW, IPPROTO_TCP);
	int fd = make_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	attempt(step, fd, &a->sa, sizeof(a->in));
	sniff(raw, a->in.sin_port, packet, sizeof(packet));
	send_error(code, packet);
	struct pollfd p = {.fd = fd};
	if (poll(&p, 1, 10000) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &got, &len))
		die("SO_ERROR");
	errno = got;
	if (got != error)
		die("another error");
	close(fd);
	close(raw);
}

static void icmp_tcp(int argc, char **argv)
{
	union address a;
	new_netns();
	full_listener(&a);
	tcp_error("net", &a, ICMP_NET_UNREACH, ENETUNREACH);
	tcp_error("host", &a, ICMP_HOST_UNREACH, EHOSTUNREACH);
	tcp_error("port", &a, ICMP_PORT_UNREACH, ECONNREFUSED);
	tcp_error("prohibited", &a, ICMP_PKT_FILTERED, EHOSTUNREACH);
}

/* A connected UDP socket that asked for errors: its next send fails with the one that came back. */
static void icmp_udp(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 0);
	unsigned char packet[64];
	int on = 1;
	new_netns();
	int peer = make_socket(AF_INET, SOCK_DGRAM, 0), raw = make_socket(AF_INET, SOCK_RAW, IPPROTO_UDP), fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t len = sizeof(a.in);
	if (bind(peer, &a.sa, len) || getsockname(peer, &a.sa, &len) || setsockopt(fd, SOL_IP, IP_RECVERR, &on, sizeof(on)))
		die("bind");
	attempt("connect", fd, &a.sa, sizeof(a.in));
	if (send(fd, "x", 1, 0) != 1)
		die("send");
	sniff(raw, a.in.sin_port, packet, sizeof(packet));
	send_error(ICMP_HOST_UNREACH, packet);
	struct pollfd p = {.fd = fd};
	if (poll(&p, 1, 10000) != 1 || send(fd, "y", 1, 0) != -1 || errno != EHOSTUNREACH)
		die("the next send");
}

const struct command icmp_commands[] = {{"icmp-tcp", icmp_tcp}, {"icmp-udp", icmp_udp}, {0}};
