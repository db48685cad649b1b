/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What a client says first on a TCP connection, if that names the server: a TLS ClientHello, or the head of an HTTP request.
 *
 * A program on each packet would be paid for by all that is ever sent. The kernel has a callback for each segment of a single socket
 * instead, which exists to write options of TCP (BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG, 5.10): it is switched on when a connection that is
 * recorded is established, and off after its first bytes, or when the server has said something. Sockets that have none pay nothing.
 *
 * The kernel also calls back when a write begins (tcp_current_mss), in the thread that writes. The bytes are then still in its memory,
 * where the registers of its system call say. They are the socket's that the descriptor there leads to, or nobody's.
 */
#ifndef CONNTAPE_HELLO_H
#define CONNTAPE_HELLO_H

/* include/uapi/linux/bpf.h */
#define BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB 4
#define BPF_SOCK_OPS_HDR_OPT_LEN_CB 14
#define BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG 64
#define BPF_WRITE_HDR_TCP_CURRENT_MSS 1

#define HELLO_MOST 32768 /* bytes from the beginning of a connection that are looked at, of TLS */
#define REQUEST_MOST 4096 /* of HTTP */
#define HELLO_PARTS 8 /* of the memory of a write */
#define HELLO_SEGMENTS 64 /* that are sent before the first write is given up */

/* Set by the loader. */
const volatile bool hello_tls = false;
const volatile bool hello_http = false;

enum told_hello {
	HELLO_TOLD,
	HELLO_LOST,
	HELLO_UNREADABLE,
};

/* The kernel's socket, as a number (see socket_of_packet). */
static __always_inline struct sock *socket_of_ops(struct bpf_sock_ops *ctx)
{
	void *given = (void *)ctx->sk, *sk = NULL;

	bpf_probe_read_kernel(&sk, sizeof(sk), &given);
	return sk;
}

static __always_inline struct tracked *tracked_by(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *own = (struct bpf_sock *)ctx->sk;
	__u64 key;

	if (!own)
		return NULL;
	if (socket_storage)
		return bpf_sk_storage_get(&tracked_storage, own, NULL, 0);
	key = (__u64)socket_of_ops(ctx);
	return bpf_map_lookup_elem(&tracked_hash, &key);
}

static __always_inline void switch_off(struct bpf_sock_ops *ctx, const struct tracked *t)
{
	if (!t || !t->hello_shared)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline void await_hello(struct bpf_sock_ops *ctx)
{
	struct tracked *t = tracked_by(ctx);

	if (!t || !t->of.time)
		return;
	t->hello_again = false;
	t->hello_shared = ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
	t->hello_begin = t->hello_next = ctx->snd_una; /* the SYN is acknowledged, and with it what was sent in it */
	t->hello_want = 0;
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/* Whether a record may be sent above the mark: by the process that connected, and its namespace. */
static __noinline int take_hello(const struct answer *a)
{
	struct allowance_key *key = first_key(RING_ANSWERS, &a->process);
	__u32 size = sizeof(*a) + a->len;

	if (!key)
		return LEVELS;
	if (!take(key, size, dns_allowance))
		return LEVEL_PROCESS;
	key->level = LEVEL_GROUP;
	key->a = a->netns;
	key->b = 0;
	return take(key, size, 8 * (__u64)dns_allowance) ? LEVELS : LEVEL_GROUP;
}

/* room is constant, as in copy_answer. */
static __always_inline int copy_hello(const struct answer *a, __u64 from, const __u32 room)
{
	struct answer *r = bpf_ringbuf_reserve(&dns_answers, sizeof(*a) + room, 0);
	__u64 rest = a->len - 1;

	if (!r)
		return HELLO_LOST;
	*r = *a;
	barrier_var(rest);
	if (rest >= room || bpf_probe_read_user(r + 1, rest + 1, (void *)from)) {
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
		return HELLO_UNREADABLE;
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return HELLO_TOLD;
}

static __noinline int send_hello(const struct answer *a, __u64 from)
{
	__u64 fill = bpf_ringbuf_query(&dns_answers, BPF_RB_AVAIL_DATA);
	int told;

	if (!below_mark(RING_ANSWERS, fill, dns_mark) && take_hello(a) != LEVELS)
		told = HELLO_LOST;
	else if (a->len <= 512)
		told = copy_hello(a, from, 512);
	else if (a->len <= 2048)
		told = copy_hello(a, from, 2048);
	else
		told = copy_hello(a, from, HELLO_MOST);
	if (recorder_sleeps || (fill >= dns_wakeup && fill < dns_wakeup + 4096))
		wake_recorder();
	return told;
}

static __always_inline bool is_request(__u32 first)
{
	return first == 0x20544547 /* GET */ || first == 0x54534f50 /* POST */ || first == 0x20545550 /* PUT */ || first == 0x44414548 /* HEAD */ ||
	       first == 0x454c4544 /* DELE */ || first == 0x4954504f /* OPTI */ || first == 0x43544150 /* PATC */ || first == 0x4e4e4f43 /* CONN */;
}

/* How many bytes from the beginning of the connection are to be looked at; 0: none, they name no server. -1: they cannot be read. */
static __always_inline int wanted(__u64 from, __u64 len)
{
	__u8 head[12] = {};
	__u32 record, message;

	if (bpf_probe_read_user(head, len >= 9 ? 9 : len >= 4 ? 4 : 1, (void *)from))
		return -1;
	if (hello_http && is_request(*(__u32 *)head))
		return REQUEST_MOST;
	if (!hello_tls || head[0] != 22) /* RFC 8446, 5.1: handshake */
		return 0;
	if (len < 9)
		return HELLO_MOST;
	if (head[1] != 3 || head[5] != 1) /* client_hello */
		return 0;
	record = head[3] << 8 | head[4];
	message = head[6] << 16 | head[7] << 8 | head[8];
	if (message + 4 > record || message + 9 > HELLO_MOST) /* in several records */
		return HELLO_MOST;
	return message + 9;
}

struct write_memory {
	__u64 iov;    /* of user_message; 0: there is one part, which is */
	__u64 n;      /* parts */
	__u64 one[2]; /* address and length */
};

/* Where the bytes of the system call are. False: it is none that writes. */
static __always_inline bool memory_of(const struct regs *r, struct write_memory *w)
{
	struct user_message m;

	w->iov = 0;
	w->n = 1;
	w->one[0] = r->arg[1];
	w->one[1] = r->arg[2];
	if (r->compat)
		return false;
	if (r->nr == NR_WRITE || r->nr == NR_SENDTO)
		return true;
	w->iov = r->arg[1];
	w->n = r->arg[2];
	if (r->nr == NR_WRITEV)
		return true;
	if ((r->nr != NR_SENDMSG && r->nr != NR_SENDMMSG) || bpf_probe_read_user(&m, sizeof(m), (void *)r->arg[1]))
		return false;
	w->iov = m.iov;
	w->n = m.iovlen;
	return true;
}

/* Tells of the bytes of a write. False: they cannot be read. */
static __always_inline bool tell_write(struct tracked *t, struct answer *a, struct write_memory *w)
{
	__u32 at = t->hello_next - t->hello_begin;
	int i, want;

	for (i = 0; i < HELLO_PARTS; i++) {
		if (i >= w->n)
			break;
		if (w->iov && bpf_probe_read_user(w->one, sizeof(w->one), (void *)(w->iov + i * sizeof(w->one))))
			return false;
		if (!w->one[1])
			continue;
		if (!at) {
			want = wanted(w->one[0], w->one[1]);
			if (want < 0)
				return false;
			t->hello_want = want;
		}
		if (at >= t->hello_want)
			return true;
		a->sequence = at;
		a->whole = a->len = w->one[1] < t->hello_want - at ? w->one[1] : t->hello_want - at;
		want = send_hello(a, w->one[0]);
		if (want == HELLO_UNREADABLE)
			return false;
		count(COUNT_ANSWER_SEEN);
		count(want == HELLO_TOLD ? COUNT_ANSWER_SENT : COUNT_ANSWER_LOST);
		at += w->one[1] < HELLO_MOST ? w->one[1] : HELLO_MOST;
		t->hello_next = t->hello_begin + at;
	}
	return true;
}

/*
 * Whether the thread that runs holds the socket, and is not about to give it back: then release_sock does what came meanwhile, and calls
 * back with the registers of a write that is over. What came between taking the socket and this is in the way likewise, once in a while.
 */
static __always_inline bool holds(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_lock.owned) && !BPF_CORE_READ(sk, sk_backlog.len);
}

/* A write begins, or, where its memory could not be read then, sends its first segment. */
static __always_inline void see_write(struct bpf_sock_ops *ctx, struct tracked *t)
{
	struct sock *sk = socket_of_ops(ctx);
	struct write_memory w;
	struct socket *socket;
	struct answer a = {};
	struct regs regs;
	__u32 seq;

	current_regs(&regs);
	if (!memory_of(&regs, &w) || !holds(sk))
		return;
	socket = socket_of((struct task_struct *)bpf_get_current_task(), regs.arg[0]);
	if (!socket || BPF_CORE_READ(socket, sk) != sk)
		return;
	if (regs.nr == NR_SENDMMSG && t->hello_next != t->hello_begin) /* which of its messages this is does not show */
		return;
	seq = BPF_CORE_READ((struct tcp_sock *)sk, write_seq);
	if (!t->hello_again && seq != t->hello_next) { /* of the write before; or bytes went by */
		if ((__s32)(seq - t->hello_next) > 0) {
			count(COUNT_ANSWER_SEEN);
			count(COUNT_ANSWER_LOST);
			switch_off(ctx, t);
		}
		return;
	}
	a.boot_time = bpf_ktime_get_boot_ns();
	a.cookie = t->of.cookie;
	a.process = t->of.process;
	a.tid = t->of.tid;
	a.connect_time = t->of.time;
	a.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	a.protocol = IPPROTO_TCP;
	a.hello = 1;
	a.family = ctx->family;
	a.port = bpf_ntohl(ctx->remote_port);
	if (a.family == AF_INET) {
		*(__u32 *)a.from = ctx->remote_ip4;
	} else {
		*(__u32 *)a.from = ctx->remote_ip6[0];
		*(__u32 *)(a.from + 4) = ctx->remote_ip6[1];
		*(__u32 *)(a.from + 8) = ctx->remote_ip6[2];
		*(__u32 *)(a.from + 12) = ctx->remote_ip6[3];
	}
	seq = t->hello_next;
	if (!tell_write(t, &a, &w)) {
		t->hello_next = seq; /* what was told of it comes again */
		if (!t->hello_again) {
			t->hello_again = true;
			return;
		}
		count(COUNT_ANSWER_SEEN);
		count(COUNT_ANSWER_LOST);
		t->hello_want = 0;
	}
	t->hello_again = false;
	if (t->hello_next - t->hello_begin >= t->hello_want)
		switch_off(ctx, t);
}

static __always_inline void see_segment(struct bpf_sock_ops *ctx)
{
	struct tracked *t = tracked_by(ctx);

	if (!t || !t->of.time || ctx->data_segs_in || ctx->data_segs_out > HELLO_SEGMENTS) {
		switch_off(ctx, t);
		return;
	}
	if (ctx->args[0] == BPF_WRITE_HDR_TCP_CURRENT_MSS || (t->hello_again && ctx->skb_len))
		see_write(ctx, t);
}

SEC("sockops")
int hello_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB)
		see_segment(ctx);
	else if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		await_hello(ctx);
	return 1;
}

#endif
