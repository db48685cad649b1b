/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The other half: connections that are accepted, and sockets that listen; opened.h adds what else sockets do. A record is that of a connect, with another via;
 * remote is the peer. The end of an accepted TCP connection is an outcome (outcome.h) that says that it was accepted.
 */
#ifndef CONNTAPE_EVENT_H
#define CONNTAPE_EVENT_H

const volatile __u32 events_wakeup = 512 << 10; /* fill in bytes at which the recorder is woken */
const volatile __u32 events_mark = 3 << 19;     /* see fair.h */
const volatile __u32 events_allowance = 32 << 10;

/*
 * What sockets do beside connecting. A ring of its own, so that a flood of peers cannot push out connects. Full: the record is
 * dropped and COUNT_EVENT_LOST says so. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} events SEC(".maps");

/* Whether an event may be sent above the mark: by the process and the login. */
static __noinline int take_event(struct connect *c, __u32 size)
{
	struct allowance_key *key = first_key(RING_EVENTS, &c->process);

	if (!key)
		return LEVELS;
	if (!take(key, size, events_allowance))
		return LEVEL_PROCESS;
	key->level = LEVEL_LOGIN;
	key->a = c->loginuid != (__u32)-1 ? c->loginuid : c->uid;
	key->b = 0;
	return take(key, size, 8 * (__u64)events_allowance) ? LEVELS : LEVEL_LOGIN;
}

static __always_inline bool send_event(struct connect_large *r)
{
	__u64 fill = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	__u32 size = offsetof(struct connect_small, requested);
	long err;

	if (r->c.flags & CONNECT_LARGE)
		size = sizeof(struct connect_large);
	else if (r->c.remote_len <= SOCKADDR_SHORT && r->c.local_len <= SOCKADDR_SHORT)
		size = sizeof(struct connect_short);
	count(COUNT_EVENT_SEEN);
	if (!below_mark(RING_EVENTS, fill, events_mark) && take_event(&r->c, size) != LEVELS) {
		count(COUNT_EVENT_LOST);
		return false;
	}
	if (size == sizeof(struct connect_large)) {
		err = bpf_ringbuf_output(&events, r, sizeof(struct connect_large), BPF_RB_NO_WAKEUP);
	} else if (size == sizeof(struct connect_short)) {
		__builtin_memmove(((struct connect_short *)r)->local, ((struct connect_small *)r)->local, SOCKADDR_SHORT);
		err = bpf_ringbuf_output(&events, r, sizeof(struct connect_short), BPF_RB_NO_WAKEUP);
	} else {
		err = bpf_ringbuf_output(&events, r, offsetof(struct connect_small, requested), BPF_RB_NO_WAKEUP);
	}
	if (err) {
		count(COUNT_EVENT_LOST);
		return false;
	}
	count(COUNT_EVENT_SENT);
	if (recorder_sleeps || (fill >= events_wakeup && fill < events_wakeup + size + 8))
		wake_recorder();
	return true;
}

static __always_inline void begin_event(struct connect_large *r, struct sock *sk, enum via what, const bool typed)
{
	struct regs regs;

	if (READ(typed, sk, __sk_common.skc_family) == AF_UNIX)
		r->c.flags |= CONNECT_LARGE;
	begin_task(&r->c, &regs);
	begin_socket(r, sk, READ(typed, sk, sk_type), typed);
	r->c.via = what;
	r->c.cookie = made_cookie(sk);
}

/* The peer of an inet socket, written as the sockaddr that getpeername(2) would give. */
static __always_inline void read_peer(struct connect_large *r, struct sock *sk)
{
	__u8 *remote = r->remote;
	__be16 port = BPF_CORE_READ(sk, __sk_common.skc_dport);

	__builtin_memcpy(remote, &r->c.socket_family, 2);
	__builtin_memcpy(remote + 2, &port, 2);
	if (r->c.socket_family == AF_INET) {
		__be32 v4 = BPF_CORE_READ(sk, __sk_common.skc_daddr);

		__builtin_memcpy(remote + 4, &v4, sizeof(v4));
		r->c.remote_len = 16;
	} else {
		__u64 v6[2] = {};

		if (bpf_core_field_exists(struct sock_common, skc_v6_daddr))
			bpf_core_read(v6, sizeof(v6), &sk->__sk_common.skc_v6_daddr);
		__builtin_memcpy(remote + 8, v6, sizeof(v6));
		r->c.remote_len = 28;
	}
}

/* Has the end of a TCP connection told: of MPTCP that of its first subflow. */
static __always_inline void follow_accepted(const struct connect *c, struct sock *sk)
{
	struct accepted a = {};
	__u64 key;

	if (c->protocol == IPPROTO_MPTCP && bpf_core_field_exists(struct mptcp_sock, first))
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	if (!sk || (c->protocol != IPPROTO_TCP && c->protocol != IPPROTO_MPTCP))
		return;
	set_origin(&a.of, c);
	a.port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	key = (__u64)sk;
	bpf_map_update_elem(&accepted_sockets, &key, &a, BPF_ANY);
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE) /* it was over before, or is: nothing more is told */
		bpf_map_delete_elem(&accepted_sockets, &key);
}

static __always_inline void accepted(struct sock *sk, __s32 fd, const bool typed)
{
	__u16 family = READ(typed, sk, __sk_common.skc_family);
	struct connect_large r = {};

	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return;
	begin_event(&r, sk, VIA_ACCEPT, typed);
	r.c.fd = fd;
	r.c.error = 0;
	if (family != AF_UNIX)
		read_peer(&r, sk);
	else if (bpf_core_field_exists(struct sock, sk_peer_pid))
		r.c.addrlen = BPF_CORE_READ(sk, sk_peer_pid, numbers[0].nr);
	if (send_event(&r) && family != AF_UNIX)
		follow_accepted(&r.c, sk);
}

/*
 * security/security.c: void security_sock_graft(struct sock *, struct socket *). sock_graft() calls it for what accept(2) hands
 * out, whoever asked: accept, accept4, io_uring, the kernel. The caller holds the socket's lock.
 */
SEC("fentry/security_sock_graft")
int fentry_accept(__u64 *ctx)
{
	accepted((struct sock *)ctx[0], -1, true);
	return 0;
}

SEC("kprobe/security_sock_graft")
int kprobe_accept(struct kprobe_regs *ctx)
{
	accepted((struct sock *)PARM1(ctx), -1, false);
	return 0;
}

/* For sys_exit_accept and sys_exit_accept4, where nothing else is to be had. */
SEC("tracepoint/syscalls/sys_exit_accept")
int exit_accept(struct sys_exit_args *ctx)
{
	struct socket *sock;
	struct sock *sk;

	if (ctx->ret < 0)
		return 0;
	sock = socket_of((struct task_struct *)bpf_get_current_task(), ctx->ret);
	sk = sock ? BPF_CORE_READ(sock, sk) : NULL;
	if (sk)
		accepted(sk, ctx->ret, false);
	return 0;
}

/* A TCP or MPTCP socket listens, in the thread that had it do so. */
static __always_inline void tell_listener(struct sock *sk)
{
	struct connect_large r = {};

	begin_event(&r, sk, VIA_LISTEN, true);
	r.c.error = 0;
	send_event(&r);
}

#endif
