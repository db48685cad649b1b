/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Sockets that see packets of others, or make packets as they like, and devices that do (TUN and TAP): who makes one, where it is bound, and
 * which options make it one. And, where it is wanted, which socket is bound to which address. A record is that of an event (event.h).
 *
 * Of all other sockets, which are almost all, a program looks at family and type and is over.
 */
#ifndef CONNTAPE_OPENED_H
#define CONNTAPE_OPENED_H

#define AF_PACKET 17
#define AF_XDP 44

#define SOCK_DGRAM 2
#define SOCK_PACKET 10    /* of AF_INET: the old name of AF_PACKET (net/socket.c, __sock_create) */
#define SOCK_TYPE_MASK 15 /* include/linux/net.h: the rest is SOCK_CLOEXEC and SOCK_NONBLOCK */

#define IPPROTO_ICMP 1
#define IPPROTO_ICMPV6 58

#define SOL_IP 0
#define SOL_SOCKET 1
#define SOL_IPV6 41
#define SOL_PACKET 263
#define IP_HDRINCL 3
#define IPV6_HDRINCL 36
#define SO_ATTACH_FILTER 26
#define SO_ATTACH_BPF 50
#define PACKET_ADD_MEMBERSHIP 1
#define PACKET_FANOUT 18
#define PACKET_QDISC_BYPASS 20
#define PACKET_MR_PROMISC 1

#if defined(__TARGET_ARCH_x86)
#define NR_IOCTL 16
#define PARM4(regs) ((regs)->cx)
#define PARM5(regs) ((regs)->r8)
#elif defined(__TARGET_ARCH_arm64)
#define NR_IOCTL 29
#define PARM4(ctx) ((ctx)->regs[3])
#define PARM5(ctx) ((ctx)->regs[4])
#endif
#define TUNSETIFF 0x400454ca /* include/uapi/linux/if_tun.h */
#define IFF_TAP 2
#define IFNAMSIZ 16

/* Set by the loader: each bind, not only of sockets that are special. */
const volatile bool every_bind = false;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net_device {
	char name[IFNAMSIZ];
	int ifindex;
};

struct packet_type {
	struct net_device *dev; /* NULL: any */
};

/* net/packet/internal.h and include/net/xdp_sock.h; types of a module are not known. */
struct packet_sock {
	int ifindex;
	__be16 num;
	struct packet_type prot_hook;
};

struct xdp_sock {
	struct net_device *dev;
	__u16 queue_id;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs___fourth {
	unsigned long r10;
};
#endif

#pragma clang attribute pop

/* Where a packet or XDP socket is bound, or which device was made: in the place of the local address. */
struct place {
	__u16 family; /* 0xffff: of a device */
	__u16 queue;
	__u32 ifindex; /* 0: any */
	__u32 reserved;
	char name[IFNAMSIZ]; /* empty: unknown */
};

KEEP_TYPE(struct place, place);

/* Whether a socket sees packets of others, or makes packets as it likes: raw, ping, packet and XDP sockets. */
static __always_inline bool is_special(int family, int type, int protocol)
{
	if (family == AF_INET || family == AF_INET6)
		return type == SOCK_RAW || (type == SOCK_DGRAM && (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6));
	return family == AF_PACKET || family == AF_XDP;
}

static __always_inline void write_place(struct connect_large *r, const struct place *p)
{
	__builtin_memcpy(((struct connect_small *)r)->local, p, sizeof(*p));
	r->c.local_len = sizeof(*p);
}

/* Where a packet or XDP socket is bound, and of a packet socket for which protocol. */
static __always_inline void read_place(struct connect_large *r, struct sock *sk)
{
	struct place p = { .family = r->c.socket_family };
	struct net_device *dev = NULL;

	if (p.family == AF_PACKET && bpf_core_field_exists(struct packet_sock, ifindex)) {
		r->c.protocol = bpf_ntohs(BPF_CORE_READ((struct packet_sock *)sk, num));
		dev = BPF_CORE_READ((struct packet_sock *)sk, prot_hook.dev);
		p.ifindex = BPF_CORE_READ((struct packet_sock *)sk, ifindex);
	} else if (p.family == AF_XDP && bpf_core_field_exists(struct xdp_sock, dev)) {
		dev = BPF_CORE_READ((struct xdp_sock *)sk, dev);
		p.ifindex = dev ? BPF_CORE_READ(dev, ifindex) : 0;
		p.queue = BPF_CORE_READ((struct xdp_sock *)sk, queue_id);
	} else {
		return;
	}
	if (dev)
		bpf_core_read_str(p.name, sizeof(p.name), &dev->name);
	write_place(r, &p);
}

/*
 * As begin_event, without pointers whose type the verifier knows: each of their fields costs the recorder's start a search through the
 * kernel's types, for every program, and these events are rare.
 */
static __always_inline void begin_opened(struct connect_large *r, struct sock *sk, enum via what, int error)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		r->c.flags |= CONNECT_LARGE;
	r->c.boot_time = bpf_ktime_get_boot_ns();
	r->c.hook_errno = UNKNOWN_ERRNO;
	r->c.error = error;
	r->c.fd = -1;
	bpf_get_current_comm(&r->c.comm, sizeof(r->c.comm));
	begin_task_as(&r->c, (struct task_struct *)bpf_get_current_task(), false);
	begin_socket(r, sk, BPF_CORE_READ(sk, sk_type), false);
	r->c.via = what;
	r->c.cookie = made_cookie(sk);
}

static __always_inline void tell_socket(struct sock *sk, enum via what, int error, int protocol)
{
	struct connect_large r = {};

	begin_opened(&r, sk, what, error);
	if (what == VIA_SOCKET)
		r.c.protocol = r.c.socket_family == AF_PACKET ? bpf_ntohs(protocol) : protocol;
	else if (r.c.socket_family == AF_PACKET || r.c.socket_family == AF_XDP)
		read_place(&r, sk);
	if (send_event(&r) && what == VIA_SOCKET && r.c.socket_family == AF_PACKET)
		wake_recorder(); /* it has more programs to attach (frame.h) */
}

/* ---- made: security/security.c, int security_socket_post_create(struct socket *, int family, int type, int protocol, int kern) ---- */

SEC("fexit/security_socket_post_create")
int fexit_socket(__u64 *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];

	if (!is_special(ctx[1], ctx[2], ctx[3]) || (int)ctx[4] || (int)ctx[5])
		return 0;
	tell_socket(BPF_CORE_READ(sock, sk), VIA_SOCKET, 0, ctx[3]);
	return 0;
}

SEC("kprobe/security_socket_post_create")
int kprobe_socket(struct kprobe_regs *ctx)
{
	struct socket *sock = (struct socket *)PARM1(ctx);
	int protocol = PARM4(ctx);

	if (!is_special(PARM2(ctx), PARM3(ctx), protocol) || (int)PARM5(ctx))
		return 0;
	tell_socket(BPF_CORE_READ(sock, sk), VIA_SOCKET, 0, protocol);
	return 0;
}

static __always_inline struct sock *sock_of(int fd)
{
	struct socket *sock = socket_of((struct task_struct *)bpf_get_current_task(), fd);

	return sock ? BPF_CORE_READ(sock, sk) : NULL;
}

SEC("tracepoint/syscalls/sys_exit_socket")
int exit_socket(struct sys_exit_args *ctx)
{
	struct sock *sk;
	struct regs r;
	int type;

	if (ctx->ret < 0)
		return 0;
	current_regs(&r);
	type = r.arg[1] & SOCK_TYPE_MASK;
	if (!is_special(r.arg[0], type, r.arg[2]) && type != SOCK_PACKET)
		return 0;
	sk = sock_of(ctx->ret);
	if (sk)
		tell_socket(sk, VIA_SOCKET, 0, r.arg[2]);
	return 0;
}

/* ---- bound: the function of each family, int (struct socket *, struct sockaddr *, int), after it chose a port ---- */

static __always_inline void bound(struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (!is_special(family, BPF_CORE_READ(sk, sk_type), BPF_CORE_READ(sk, sk_protocol)) &&
	    !(every_bind && (family == AF_INET || family == AF_INET6 || family == AF_UNIX)))
		return;
	tell_socket(sk, VIA_BIND, 0, 0);
}

static __always_inline int fexit_bound(__u64 *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];

	if (!(int)ctx[3])
		bound(BPF_CORE_READ(sock, sk));
	return 0;
}

SEC("fexit/inet_bind")
int bind_inet(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("fexit/inet6_bind")
int bind_inet6(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("fexit/mptcp_bind")
int bind_mptcp(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("fexit/unix_bind")
int bind_unix(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("fexit/packet_bind")
int bind_packet(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("fexit/packet_bind_spkt")
int bind_spkt(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("fexit/xsk_bind")
int bind_xdp(__u64 *ctx)
{
	return fexit_bound(ctx);
}

SEC("tracepoint/syscalls/sys_exit_bind")
int exit_bind(struct sys_exit_args *ctx)
{
	struct sock *sk;
	struct regs r;

	if (ctx->ret)
		return 0;
	current_regs(&r);
	sk = sock_of(r.arg[0]);
	if (sk)
		bound(sk);
	return 0;
}

/* ---- listens: of TCP and SCTP inet_sock_set_state tells (event.h) ---- */

/* net/unix/af_unix.c: static int unix_listen(struct socket *, int backlog) */
SEC("fexit/unix_listen")
int listen_unix(__u64 *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];

	if (!(int)ctx[2])
		tell_socket(BPF_CORE_READ(sock, sk), VIA_LISTEN, 0, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_listen")
int exit_listen(struct sys_exit_args *ctx)
{
	struct sock *sk;
	struct regs r;

	if (ctx->ret)
		return 0;
	current_regs(&r);
	sk = sock_of(r.arg[0]);
	if (sk && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		tell_socket(sk, VIA_LISTEN, 0, 0);
	return 0;
}

/* ---- options: int security_socket_setsockopt(struct socket *, int level, int optname) ---- */

static __always_inline int option_of(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_ATTACH_FILTER ? VIA_FILTER : name == SO_ATTACH_BPF ? VIA_BPF : 0;
	if (level == SOL_PACKET)
		return name == PACKET_FANOUT ? VIA_FANOUT : name == PACKET_ADD_MEMBERSHIP ? VIA_PROMISCUOUS : name == PACKET_QDISC_BYPASS ? VIA_BYPASS : 0;
	return (level == SOL_IP && name == IP_HDRINCL) || (level == SOL_IPV6 && name == IPV6_HDRINCL) ? VIA_HDRINCL : 0;
}

/* The fourth argument of the system call that the current thread is in; NULL: it is a 32-bit one. */
static __always_inline void *fourth_arg(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct pt_regs *regs;

	if (typed_task && bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	else
		regs = (struct pt_regs *)((__u64)BPF_CORE_READ(task, stack) + KERNEL_STACK - bpf_core_type_size(struct pt_regs));
#if defined(__TARGET_ARCH_x86)
	if (BPF_CORE_READ(task, thread_info.status) & 2) /* TS_COMPAT */
		return NULL;
	return (void *)BPF_CORE_READ((struct pt_regs___fourth *)regs, r10);
#elif defined(__TARGET_ARCH_arm64)
	if (BPF_CORE_READ(task, thread_info.flags) & (1 << 22)) /* TIF_32BIT */
		return NULL;
	return (void *)BPF_CORE_READ(regs, regs[3]);
#endif
}

/*
 * What is asked for is in the caller's memory. An option that is taken back, or a membership of another kind, is none; what
 * cannot be read is told.
 */
static __always_inline bool is_meant(int option)
{
	struct {
		__u32 ifindex; /* of struct packet_mreq; of the others the value */
		__u16 type;
		__u16 alen;
	} value;
	void *from;

	if (option != VIA_HDRINCL && option != VIA_PROMISCUOUS && option != VIA_BYPASS)
		return true;
	from = fourth_arg();
	if (!from || bpf_probe_read_user(&value, option == VIA_PROMISCUOUS ? 8 : 4, from))
		return true;
	return option == VIA_PROMISCUOUS ? value.type == PACKET_MR_PROMISC : value.ifindex != 0;
}

/* A filter on a socket of another family looks at no packet. */
static __always_inline void option_set(struct sock *sk, int option, int error)
{
	__u16 family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;

	if ((family == AF_INET || family == AF_INET6 || family == AF_PACKET) && is_meant(option))
		tell_socket(sk, option, error, 0);
}

SEC("fexit/security_socket_setsockopt")
int fexit_option(__u64 *ctx)
{
	int option = option_of(ctx[1], ctx[2]);
	struct socket *sock = (struct socket *)ctx[0];

	if (option && !(int)ctx[3])
		option_set(BPF_CORE_READ(sock, sk), option, UNKNOWN_ERRNO);
	return 0;
}

SEC("kprobe/security_socket_setsockopt")
int kprobe_option(struct kprobe_regs *ctx)
{
	int option = option_of(PARM2(ctx), PARM3(ctx));
	struct socket *sock = (struct socket *)PARM1(ctx);

	if (option)
		option_set(BPF_CORE_READ(sock, sk), option, UNKNOWN_ERRNO);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_setsockopt")
int exit_option(struct sys_exit_args *ctx)
{
	struct regs r;
	int option;

	if (ctx->ret)
		return 0;
	current_regs(&r);
	option = option_of(r.arg[1], r.arg[2]);
	if (option)
		option_set(sock_of(r.arg[0]), option, 0);
	return 0;
}

/* ---- devices: int security_tun_dev_attach(struct sock *, void *security), by ioctl(2) TUNSETIFF on /dev/net/tun ---- */

/* The name is that which was asked for: tun%d has the kernel choose a number. */
static __always_inline void tun_attached(struct sock *sk)
{
	struct connect_large r = {};
	struct place p = { .family = 0xffff };
	struct {
		char name[IFNAMSIZ];
		__u16 flags;
	} request = {};
	struct regs regs;

	current_regs(&regs);
	if (!regs.compat && regs.nr == NR_IOCTL && (__u32)regs.arg[1] == TUNSETIFF)
		bpf_probe_read_user(&request, sizeof(request), (void *)regs.arg[2]);
	begin_opened(&r, sk, request.flags & IFF_TAP ? VIA_TAP : VIA_TUN, 0);
	__builtin_memcpy(p.name, request.name, sizeof(p.name));
	write_place(&r, &p);
	send_event(&r);
}

SEC("fexit/security_tun_dev_attach")
int fexit_tun(__u64 *ctx)
{
	if (!(int)ctx[2])
		tun_attached((struct sock *)ctx[0]);
	return 0;
}

SEC("kprobe/security_tun_dev_attach")
int kprobe_tun(struct kprobe_regs *ctx)
{
	tun_attached((struct sock *)PARM1(ctx));
	return 0;
}

#endif
