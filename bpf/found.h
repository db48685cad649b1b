/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Sockets that were there before the programs of event.h and opened.h: a walk over all files of all processes, in every network namespace,
 * tells of those that they would have told of, and of devices. The record is theirs, but for addrlen: the inode, by which descriptors of one socket are known.
 * Nothing is trusted to have a type, so that it works alike on all kernels; it runs once.
 */
#ifndef CONNTAPE_FOUND_H
#define CONNTAPE_FOUND_H

#define SOCK_BINDADDR_LOCK 4 /* include/net/sock.h: bind(2) named an address */

/* Set by the loader: what the walk tells of, beside binds (every_bind). */
const volatile bool find_listeners = false;
const volatile bool find_special = false;
const volatile bool find_options = false;

/* Likewise, offsets in struct tun_file and struct tun_struct, which may be types of a module; all 0: not known. */
const volatile __u32 tun_of_file = 0;
const volatile __u32 flags_of_tun = 0;
const volatile __u32 device_of_tun = 0;

#define IPPROTO_RAW 255
#define TUN_DEVICE (10 << 20 | 200) /* /dev/net/tun */

/* include/net/inet_sock.h, which numbers the bits of inet_flags in an enumeration without a name; before 6.6 it was a bitfield. */
#define INET_FLAGS_HDRINCL 12

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_prog {
	void *orig_prog; /* what a classic filter was made from */
};

struct sk_filter {
	struct bpf_prog *prog;
};

struct sock___found {
	struct sk_filter *sk_filter;
	__u8 sk_shutdown;
};

struct inet_sock___bitfield {
	__u8 hdrincl : 1;
};

struct inet_sock___flags {
	unsigned long inet_flags;
};

struct packet_mclist {
	struct packet_mclist *next;
	unsigned short type;
};

struct packet_sock___found {
	void *fanout;
	struct packet_mclist *mclist;
};

#pragma clang attribute pop

static __always_inline void tell_found(struct seq_file *seq, struct connect_large *r, enum via what)
{
	r->c.via = what;
	bpf_seq_write(seq, r, sizeof(*r));
}

/*
 * Whether a socket is bound for others to reach it. What was accepted has the address of its listener, and is connected or was. A datagram
 * socket that is not connected takes what comes from anybody, whether bind(2) chose its port or its first send did.
 */
static __always_inline bool is_bound(struct sock *sk, __u16 family, __u16 type, __u8 state)
{
	__u8 locks;

	if (type != SOCK_DGRAM && state != TCP_LISTEN && (state != TCP_CLOSE || BPF_CORE_READ((struct sock___found *)sk, sk_shutdown)))
		return false;
	if (family == AF_UNIX)
		return BPF_CORE_READ((struct unix_sock *)sk, addr) != NULL;
	if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP && bpf_core_field_exists(struct mptcp_sock, first))
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first); /* it is its subflow that is bound */
	if (!BPF_CORE_READ(sk, __sk_common.skc_num))
		return false;
	locks = BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks);
	return (locks & (SOCK_BINDADDR_LOCK | SOCK_BINDPORT_LOCK)) || (type == SOCK_DGRAM && state != TCP_ESTABLISHED);
}

static __always_inline bool is_promiscuous(struct sock *sk)
{
	struct packet_mclist *m;

	if (!bpf_core_field_exists(struct packet_sock___found, mclist))
		return false;
	m = BPF_CORE_READ((struct packet_sock___found *)sk, mclist);
	for (int i = 0; i < 8 && m; i++, m = BPF_CORE_READ(m, next))
		if (BPF_CORE_READ(m, type) == PACKET_MR_PROMISC)
			return true;
	return false;
}

static __always_inline bool makes_headers(struct sock *sk)
{
	if (bpf_core_field_exists(struct inet_sock___bitfield, hdrincl))
		return BPF_CORE_READ_BITFIELD_PROBED((struct inet_sock___bitfield *)sk, hdrincl);
	return BPF_CORE_READ((struct inet_sock___flags *)sk, inet_flags) & (1 << INET_FLAGS_HDRINCL);
}

static __always_inline void find_options_of(struct seq_file *seq, struct connect_large *r, struct sock *sk)
{
	struct sk_filter *filter = BPF_CORE_READ((struct sock___found *)sk, sk_filter);

	if (filter)
		tell_found(seq, r, BPF_CORE_READ(filter, prog, orig_prog) ? VIA_FILTER : VIA_BPF);
	if (r->c.socket_family != AF_PACKET) {
		if (r->c.type == SOCK_RAW && r->c.protocol != IPPROTO_RAW && makes_headers(sk))
			tell_found(seq, r, VIA_HDRINCL);
		return;
	}
	if (bpf_core_field_exists(struct packet_sock___found, fanout) && BPF_CORE_READ((struct packet_sock___found *)sk, fanout))
		tell_found(seq, r, VIA_FANOUT);
	if (is_promiscuous(sk))
		tell_found(seq, r, VIA_PROMISCUOUS);
}

static __always_inline void begin_found(struct connect_large *r, struct task_struct *task, struct sock *sk, __u32 fd)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX)
		r->c.flags |= CONNECT_LARGE;
	r->c.boot_time = bpf_ktime_get_boot_ns();
	r->c.hook_errno = UNKNOWN_ERRNO;
	r->c.error = UNKNOWN_ERRNO;
	r->c.fd = fd;
	bpf_probe_read_kernel_str(&r->c.comm, sizeof(r->c.comm), task->comm);
	begin_task_as(&r->c, task, false);
	begin_socket(r, sk, BPF_CORE_READ(sk, sk_type), false);
	r->c.cookie = made_cookie(sk);
}

/* Sockets that can see or make packets: that there is one, and where it is bound, are two records, as they are when it happens. */
static __always_inline void find_special_of(struct seq_file *seq, struct connect_large *r, struct sock *sk)
{
	bool bound = r->c.type == SOCK_RAW && r->c.local_len;

	if (r->c.socket_family == AF_PACKET || r->c.socket_family == AF_XDP) {
		read_place(r, sk);
		bound = r->c.local_len && ((struct place *)((struct connect_small *)r)->local)->ifindex;
	}
	if (find_special) {
		__u16 len = r->c.local_len;

		r->c.local_len = 0;
		tell_found(seq, r, VIA_SOCKET);
		r->c.local_len = len;
	}
	if (bound && (find_special || every_bind))
		tell_found(seq, r, VIA_BIND);
}

/*
 * A file of /dev/net/tun that has a device: many files share its inode, so the address of the file tells them apart. struct tun_file begins
 * with its struct sock.
 */
static __always_inline void find_device(struct seq_file *seq, struct connect_large *r, struct task_struct *task, struct file *file, __u32 fd)
{
	struct place p = { .family = 0xffff };
	struct net_device *dev = NULL;
	__u32 flags = 0;
	char *of, *tun = NULL;

	of = BPF_CORE_READ(file, private_data);
	bpf_probe_read_kernel(&tun, sizeof(tun), of + tun_of_file);
	if (!tun)
		return;
	bpf_probe_read_kernel(&flags, sizeof(flags), tun + flags_of_tun);
	bpf_probe_read_kernel(&dev, sizeof(dev), tun + device_of_tun);
	begin_found(r, task, (struct sock *)of, fd);
	r->c.addrlen = (__u64)of >> 3;
	bpf_core_read_str(p.name, sizeof(p.name), &dev->name);
	write_place(r, &p);
	tell_found(seq, r, flags & IFF_TAP ? VIA_TAP : VIA_TUN);
}

SEC("iter/task_file")
int found_sockets(struct bpf_iter__task_file *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct connect_large r = {};
	struct socket *sock;
	struct sock *sk;
	__u16 family;
	__u16 mode;
	__u8 state;

	if (!file || !task)
		return 0;
	mode = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	if (mode == S_IFCHR && find_special && tun_of_file && BPF_CORE_READ(file, f_inode, i_rdev) == TUN_DEVICE)
		find_device(seq, &r, task, file, ctx->fd);
	if (mode != S_IFSOCK)
		return 0;
	sock = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(sock, sk);
	if (!sk)
		return 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX && family != AF_PACKET && family != AF_XDP)
		return 0;
	begin_found(&r, task, sk, ctx->fd);
	r.c.addrlen = BPF_CORE_READ(file, f_inode, i_ino);
	state = BPF_CORE_READ(sk, __sk_common.skc_state);
	if (is_special(family, r.c.type, r.c.protocol)) {
		find_special_of(seq, &r, sk);
	} else {
		if (every_bind && is_bound(sk, family, r.c.type, state))
			tell_found(seq, &r, VIA_BIND);
		if (find_listeners && state == TCP_LISTEN && r.c.type != SOCK_DGRAM)
			tell_found(seq, &r, VIA_LISTEN);
	}
	if (find_options && family != AF_UNIX && family != AF_XDP)
		find_options_of(seq, &r, sk);
	return 0;
}

#endif
