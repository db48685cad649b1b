/* SPDX-License-Identifier: Apache-2.0 */
/* Other families, odd addresses, an LSM's refusal, and calls that fail before they are a connect at all. */
#include "connects.h"
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <net/ethernet.h>
#include <sys/prctl.h>

static void unspec_udp(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242), none = {.sa.sa_family = AF_UNSPEC};
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	attempt("connect", fd, &a, sizeof(a.in));
	attempt("disconnect", fd, &none, sizeof(none.in));
	attempt("short", fd, &none, 2);
}

static void unspec_tcp(int argc, char **argv)
{
	union address a, none = {.sa.sa_family = AF_UNSPEC};
	listener(AF_INET, &a, 8);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	attempt("connect", fd, &a, sizeof(a.in));
	attempt("disconnect", fd, &none, sizeof(none.sa));
	attempt("again", fd, &a, sizeof(a.in));
}

static void raw4(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 0);
	attempt("connect", make_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), &a, sizeof(a.in));
}

static void raw6(int argc, char **argv)
{
	union address a = inet6("::1", 0, 0);
	attempt("connect", make_socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), &a, sizeof(a.in6));
}

void allow_ping(void)
{
	new_netns();
	int fd = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY);
	if (fd < 0 || write(fd, "0 65535", 7) != 7)
		not_here("no ping_group_range");
	close(fd);
}

static void ping4(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 0);
	allow_ping();
	attempt("connect", make_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), &a, sizeof(a.in));
}

static void ping6(int argc, char **argv)
{
	union address a = inet6("::1", 0, 0);
	allow_ping();
	attempt("connect", make_socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6), &a, sizeof(a.in6));
}

static void netlink(int argc, char **argv)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK};
	attempt("connect", make_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), &a, sizeof(a));
}

static void packet(int argc, char **argv)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = 1};
	attempt("connect", make_socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP)), &a, sizeof(a));
}

/* Leaves the machine where the hypervisor listens, so it asks for a word that says this is a guest of ours. */
static void vsock(int argc, char **argv)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = 4242};
	if (argc < 2 || strcmp(argv[1], "in-guest"))
		not_here("vsock only in a guest");
	attempt("connect", make_socket(AF_VSOCK, SOCK_STREAM, 0), &a, sizeof(a));
}

static void family99(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	a.sa.sa_family = 99;
	attempt("tcp", make_socket(AF_INET, SOCK_STREAM, 0), &a, sizeof(a.in));
	attempt("udp", make_socket(AF_INET, SOCK_DGRAM, 0), &a, sizeof(a.in));
}

static void short_addrlen(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	attempt("eight", make_socket(AF_INET, SOCK_STREAM, 0), &a, 8);
	attempt("two", make_socket(AF_INET, SOCK_DGRAM, 0), &a, 2);
	attempt("one", make_socket(AF_INET, SOCK_STREAM, 0), &a, 1);
	attempt("none", make_socket(AF_INET, SOCK_STREAM, 0), &a, 0);
}

/* From here on to seccomp: calls that fail before the kernel has a socket and an address. They are not connections. */
static void long_addrlen(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	attempt("129", make_socket(AF_INET, SOCK_STREAM, 0), &a, 129);
	attempt("negative", make_socket(AF_INET, SOCK_STREAM, 0), &a, (socklen_t)-1);
}

static void bad_fd(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	attempt("closed", 999, &a, sizeof(a.in));
	attempt("negative", -1, &a, sizeof(a.in));
	attempt("o_path", open("/", O_PATH), &a, sizeof(a.in));
}

static void not_a_socket(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	attempt("connect", open("/dev/null", O_RDWR), &a, sizeof(a.in));
}

static void bad_pointer(int argc, char **argv)
{
	struct report r;
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	report_begin(&r, "connect", fd, NULL, sizeof(struct sockaddr_in));
	long result = syscall(SYS_connect, fd, (void *)8, sizeof(struct sockaddr_in));
	report_end(&r, result < 0 ? -errno : 0);
}

static void seccomp(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	struct sock_filter refuse[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = 4, .filter = refuse};
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		not_here("no seccomp");
	attempt("connect", fd, &a, sizeof(a.in));
}

/* Landlock from ABI 4 on (Linux 6.7) can forbid TCP connects. The numbers are the same on every architecture. */
static void landlock(int argc, char **argv)
{
	enum { create_ruleset = 444, restrict_self = 446 };
	struct { uint64_t fs, net; } rules = {.net = 1 << 1 /* LANDLOCK_ACCESS_NET_CONNECT_TCP */};
	union address a;
	if (syscall(create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */) < 4)
		not_here("landlock ABI 4 is missing");
	listener(AF_INET, &a, 8);
	int ruleset = (int)syscall(create_ruleset, &rules, sizeof(rules), 0);
	if (ruleset < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(restrict_self, ruleset, 0))
		die("landlock");
	attempt("connect", make_socket(AF_INET, SOCK_STREAM, 0), &a, sizeof(a.in));
}

/* The kernel connects a socket of its own, in the thread that asks for a disk over TCP. It is refused. */
static void kernel_connect(int argc, char **argv)
{
	union address a;
	struct report r;
	char options[128];
	closed_port(AF_INET, &a);
	int n = snprintf(options, sizeof(options), "transport=tcp,traddr=127.0.0.1,trsvcid=%d,nqn=conntape", ntohs(a.in.sin_port));
	int fd = open("/dev/nvme-fabrics", O_RDWR);
	if (fd < 0)
		not_here("no NVMe over TCP");
	report_begin(&r, "connect", -1, &a, sizeof(a.in));
	r.family = AF_INET;
	r.type = SOCK_STREAM;
	r.protocol = IPPROTO_TCP;
	report_end(&r, write(fd, options, (size_t)n) < 0 ? -errno : 0);
}

const struct command odd_commands[] = {
	{"unspec-udp", unspec_udp}, {"unspec-tcp", unspec_tcp}, {"raw4", raw4}, {"raw6", raw6}, {"ping4", ping4},
	{"ping6", ping6}, {"netlink", netlink}, {"packet", packet}, {"vsock", vsock}, {"family99", family99},
	{"short-addrlen", short_addrlen}, {"long-addrlen", long_addrlen}, {"bad-fd", bad_fd}, {"not-a-socket", not_a_socket},
	{"bad-pointer", bad_pointer}, {"seccomp", seccomp}, {"landlock", landlock},
	{"kernel-connect", kernel_connect}, {0},
};
