/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * TCP sockets that are open: a walk over all files of all processes, in every network namespace. The first walk of a
 * recorder begins to follow those that were connected before (adopting); each walk tells of all that are followed what they
 * moved so far. A socket that no process has a descriptor of (on its way in SCM_RIGHTS, io_uring's own table) is not met.
 */
#ifndef CONNTAPE_OPEN_H
#define CONNTAPE_OPEN_H

#define SOCK_STREAM 1
#define SOCK_BINDPORT_LOCK 8 /* include/net/sock.h: bound to a port by bind(2), or accepted from one that was */

/* Set by the recorder for the time of its first walk. */
__u32 adopting;

/*
 * Whether a socket connected, and was not accepted. bytes_acked counts the SYN of one that connected: then it is ahead of the
 * bytes that were sent by one, less what is on its way. A send meanwhile makes that wrong, so it is read twice; and data
 * that the host itself dropped were counted as sent, so that another sum than these two says nothing.
 */
static __always_inline bool connected_out(struct sock *sk, struct tcp_sock *tp, __u8 state, const bool typed)
{
	__u32 fin = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2;
	__u64 acked, sent;
	__u32 next, ahead;

	if (state == TCP_SYN_SENT)
		return true;
	for (int i = 0; i < 4; i++) {
		acked = READ(typed, tp, bytes_acked);
		sent = READ(typed, tp, bytes_sent) - READ(typed, tp, bytes_retrans);
		next = READ(typed, tp, snd_nxt);
		ahead = (__u32)acked + next - READ(typed, tp, snd_una) - (__u32)sent - fin;
		barrier();
		if (acked != READ(typed, tp, bytes_acked) || next != READ(typed, tp, snd_nxt))
			continue;
		if (ahead <= 1)
			return ahead;
		break;
	}
	return !(BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_BINDPORT_LOCK);
}

static __always_inline bool is_open(__u8 state)
{
	return state == TCP_ESTABLISHED || state == TCP_SYN_SENT || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSE_WAIT;
}

/* Begins to follow a socket as if it were connected now. NULL: it is over, or there is no memory. */
static __always_inline struct tracked *adopt(struct sock *sk, struct connect *c, __u8 state)
{
	struct tracked *t = track(sk);
	__u64 key = (__u64)sk;

	if (!t) {
		count(COUNT_OUTCOME_SEEN);
		count(COUNT_OUTCOME_LOST);
		return NULL;
	}
	t->established = state == TCP_SYN_SENT ? 0 : c->boot_time;
	t->rtt = 0;
	t->state = state;
	set_origin(&t->of, c);
	barrier();
	/* A change meanwhile is told by state_changed; one before is told by nobody. */
	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_CLOSE || !t->of.time)
		return t;
	t->of.time = 0;
	if (!socket_storage)
		bpf_map_delete_elem(&tracked_hash, &key);
	return NULL;
}

/* Who has the socket, and what it is connected to. */
static __always_inline void fill_holder(struct connect_small *h, struct task_struct *task, __u32 fd, struct sock *sk, const bool typed)
{
	struct connect_large *r = (struct connect_large *)h; /* what follows leaves alone what is behind a small one */
	__u16 family, port;

	r->c.boot_time = bpf_ktime_get_boot_ns();
	begin_task_as(&r->c, task, false);
	bpf_probe_read_kernel_str(&r->c.comm, sizeof(r->c.comm), task->comm);
	r->c.socket_family = READ(typed, sk, __sk_common.skc_family);
	r->c.type = SOCK_STREAM;
	r->c.protocol = IPPROTO_TCP;
	r->c.netns = READ(typed, sk, __sk_common.skc_net.net, ns.inum);
	read_local_inet(&r->c, local_of(r), sk, typed);
	r->c.cookie = !tracing_cookie ? made_cookie(sk) : typed ? bpf_get_socket_cookie(sk) : made_cookie(sk);
	r->c.fd = fd;
	r->c.hook_errno = UNKNOWN_ERRNO;
	r->c.error = UNKNOWN_ERRNO;
	r->c.via = VIA_SNAPSHOT;
	family = r->c.socket_family;
	port = READ(typed, sk, __sk_common.skc_dport);
	__builtin_memcpy(h->remote, &family, 2);
	__builtin_memcpy(h->remote + 2, &port, 2);
	if (family == AF_INET) {
		__be32 v4 = READ(typed, sk, __sk_common.skc_daddr);

		__builtin_memcpy(h->remote + 4, &v4, sizeof(v4));
		r->c.remote_len = 16;
	} else if (bpf_core_field_exists(struct sock_common, skc_v6_daddr)) {
		bpf_core_read(h->remote + 8, 16, &sk->__sk_common.skc_v6_daddr);
		r->c.remote_len = 28;
	}
	r->c.addrlen = r->c.remote_len;
}

static __always_inline void visit(struct bpf_iter__task_file *ctx, struct task_struct *task, struct sock *sk, struct tcp_sock *tp, const bool typed)
{
	__u8 state = READ(typed, sk, __sk_common.skc_state);
	struct open_socket s;
	struct tracked *t;

	if (!is_open(state))
		return;
	t = tracked_of(sk);
	if (!(t && t->of.time) && !(adopting && connected_out(sk, tp, state, typed)))
		return;
	__builtin_memset(&s, 0, sizeof(s));
	fill_holder(&s.holder, task, ctx->fd, sk, typed);
	if (!t || !t->of.time)
		t = adopt(sk, &s.holder.c, state);
	if (!t)
		return;
	s.so_far.boot_time = bpf_ktime_get_boot_ns();
	s.so_far.connect_time = t->of.time ? t->of.time : s.holder.c.boot_time;
	s.so_far.cookie = t->of.cookie;
	s.so_far.tid = t->of.tid;
	s.so_far.established = t->established;
	s.so_far.rtt = t->rtt;
	s.so_far.closed_by = closed_by(state);
	s.so_far.kind = state == TCP_SYN_SENT ? OUTCOME_CONNECTING : OUTCOME_OPEN;
	s.so_far.from = state;
	fill_local(&s.so_far, sk, tp, typed);
	fill_bytes(&s.so_far, sk, tp, typed);
	bpf_seq_write(ctx->meta->seq, &s, sizeof(s));
}

SEC("iter/task_file")
int open_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *sock;
	struct sock *sk;

	if (!file || !task)
		return 0;
	if (socket_storage) { /* 5.11, as bpf_sock_from_file */
		struct tcp_sock *tp;

		sock = bpf_sock_from_file(file);
		if (!sock)
			return 0;
		sk = sock->sk;
		if (!sk || sock->type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP)
			return 0;
		tp = bpf_skc_to_tcp_sock(sk);
		if (tp)
			visit(ctx, task, sk, tp, true);
		return 0;
	}
	if ((BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	sock = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(sock, sk);
	if (!sk || BPF_CORE_READ(sock, type) != SOCK_STREAM || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET || BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6)
		visit(ctx, task, sk, (struct tcp_sock *)sk, false);
	return 0;
}

#endif
