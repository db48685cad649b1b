/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What becomes of a TCP connection after connect: inet_sock_set_state (include/trace/events/sock.h) tells each change of
 * state, in whatever task or interrupt caused it. So nothing is taken from the current task here, but once: a socket goes from
 * CLOSE to SYN_SENT in the thread that connects it, whose attempt in flight says which row the rest belongs to.
 */
#ifndef CONNTAPE_OUTCOME_H
#define CONNTAPE_OUTCOME_H

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_LISTEN 10
#define TCP_CLOSING 11

#define SOCK_DONE 1 /* include/net/sock.h, enum sock_flags: the peer's FIN has come */

/* Whose outcome is told: an attempt, or the VIA_ACCEPT of a connection that was accepted. */
struct origin {
	__u64 time; /* its boot_time */
	__u64 cookie;
	struct process_key process;
	__u32 tid;
	__u32 login; /* its loginuid, or uid where that is not set */
};

static __always_inline void set_origin(struct origin *of, const struct connect *c)
{
	of->cookie = c->cookie;
	of->process = c->process;
	of->tid = c->tid;
	of->login = c->loginuid != (__u32)-1 ? c->loginuid : c->uid;
	barrier(); /* open_sockets may look at any time */
	of->time = c->boot_time;
}

/* A connection whose attempt was recorded, from SYN_SENT to CLOSE. */
struct tracked {
	struct origin of;  /* time 0: nothing is tracked */
	__u64 established; /* ns CLOCK_BOOTTIME; 0: not yet */
	__u32 rtt;         /* us, when it was established; 0: not measured */
	__u8 state;        /* the last of those that are looked at (is_told) */
	/* What hello.h has of the bytes that are sent first; set when it is established. */
	bool hello_again;   /* the memory of the write could not be read when that began */
	bool hello_shared;  /* somebody else has the kernel call programs at each segment */
	__u32 hello_begin;  /* number of the first byte */
	__u32 hello_next;   /* of the first that has not been looked at */
	__u32 hello_want;   /* how many there are to look at */
};

/*
 * By socket. CLOSE>SYN_SENT makes the entry and fills it at each connect; CLOSE empties it; the kernel frees it with the
 * socket. It cannot be full; where the kernel has no memory for one, COUNT_OUTCOME_LOST says so.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tracked);
} tracked_storage SEC(".maps");

/*
 * The same by address of the socket, on kernels where tracing programs may not use socket storage (before 5.11).
 * CLOSE>SYN_SENT inserts, CLOSE deletes; no socket is freed in between. Full: as above. The loader shrinks it where it is
 * not used.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct tracked);
} tracked_hash SEC(".maps");

/* Which of the two, set by the loader. */
const volatile bool socket_storage = false;

/* A connection that was accepted. */
struct accepted {
	struct origin of;
	__be16 port; /* of the peer: an entry that was left over is not that of another socket */
};

/*
 * By address of the socket. accept inserts (event.h), CLOSE deletes. A socket that was closed at that very moment may stay until
 * another that is accepted has its address. Full: the end of the connection is not told.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64);
	__type(value, struct accepted);
} accepted_sockets SEC(".maps");

/* Whether anything comes into it. */
const volatile bool follows_accepted = false;

/* Whether sockets that listen are told. */
const volatile bool tells_listeners = false;

/*
 * Outcomes. A ring of its own, so that they cannot push out connects, nor connects them. Full: the record is dropped and
 * COUNT_OUTCOME_LOST says so. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} outcomes SEC(".maps");

const volatile __u32 outcomes_wakeup = 1 << 20;   /* fill in bytes at which the recorder is woken */
const volatile __u32 outcomes_mark = 3 << 20;     /* see fair.h */
const volatile __u32 outcomes_allowance = 64 << 10;

static __always_inline struct tracked *tracked_of(struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (socket_storage)
		return bpf_sk_storage_get(&tracked_storage, sk, NULL, 0);
	return bpf_map_lookup_elem(&tracked_hash, &key);
}

const struct tracked nothing_tracked = {};

static __always_inline struct tracked *track(struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (socket_storage)
		return bpf_sk_storage_get(&tracked_storage, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	bpf_map_update_elem(&tracked_hash, &key, &nothing_tracked, BPF_ANY);
	return bpf_map_lookup_elem(&tracked_hash, &key);
}

/* Whether an outcome may be sent above the mark: by the process and the login of who connected. */
static __noinline int take_outcome(const struct origin *of, __u32 size)
{
	struct allowance_key *key = first_key(RING_OUTCOMES, &of->process);

	if (!key)
		return LEVELS;
	if (!take(key, size, outcomes_allowance))
		return LEVEL_PROCESS;
	key->level = LEVEL_LOGIN;
	key->a = of->login;
	key->b = 0;
	return take(key, size, 8 * (__u64)outcomes_allowance) ? LEVELS : LEVEL_LOGIN;
}

static __always_inline void send_outcome(const struct origin *of, struct outcome *o)
{
	__u64 fill = bpf_ringbuf_query(&outcomes, BPF_RB_AVAIL_DATA);

	count(COUNT_OUTCOME_SEEN);
	if (!below_mark(RING_OUTCOMES, fill, outcomes_mark) && take_outcome(of, sizeof(*o)) != LEVELS) {
		count(COUNT_OUTCOME_LOST);
		return;
	}
	if (bpf_ringbuf_output(&outcomes, o, sizeof(*o), BPF_RB_NO_WAKEUP)) {
		count(COUNT_OUTCOME_LOST);
		return;
	}
	count(COUNT_OUTCOME_SENT);
	if (recorder_sleeps || (fill >= outcomes_wakeup && fill < outcomes_wakeup + sizeof(*o) + 8))
		wake_recorder();
}

/* Who is connecting: the current thread's attempt in flight, if it is of this socket. A subflow is a socket of its own. */
static __always_inline bool is_of(const struct attempt *a, const struct sock *sk)
{
	if (a->record.c.protocol == IPPROTO_MPTCP)
		return true;
	return a->record.c.protocol == IPPROTO_TCP && (a->socket.sock ? a->socket.sock == (__u64)sk :
						       a->record.c.cookie == (__u64)sk->__sk_common.skc_cookie.counter);
}

/* Set by the loader where the hook is in security_socket_connect, which not everything that connects passes. */
const volatile bool hook_passed_by = false;

/* Where an attempt is put together that passed the hook by. A row for each of the programs below: none meets itself on a CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct attempt);
} passing_by SEC(".maps");

/*
 * Sends the attempt of a socket that goes to SYN_SENT and passed the hook by: send(2) and its kin, or io_uring's, with MSG_FASTOPEN
 * (tcp_sendmsg_fastopen, net/ipv4/tcp.c), and the connects that the kernel makes for itself (kernel_connect, net/socket.c), for
 * a network file system or a further subflow. NULL: it did not pass the hook by, or there is no telling: it is then that of
 * a connect whose program the kernel left out (attempt.h), and its return tells it.
 */
static __always_inline struct attempt *passed_by(struct sock *sk, bool again)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 row = again, tid = bpf_get_current_pid_tgid(), port = sk->__sk_common.skc_dport;
	struct connect_large *r;
	struct attempt *a;
	struct regs regs;
	bool fast;

	if (!tp) /* never: its protocol is TCP */
		return NULL;
	fast = tp->fastopen_req;
	a = bpf_map_lookup_elem(&passing_by, &row);
	if (!a || (!fast && bpf_map_lookup_elem(&sent_early, &tid)))
		return NULL;
	r = &a->record;
	__builtin_memset(&r->c, 0, sizeof(r->c));
	begin_task(&r->c, &regs);
	begin_via(r, sk, &regs);
	if (!fast) {
		if (r->c.via == VIA_CONNECT || r->c.via == VIA_SOCKETCALL ||
		    (returns_in_row && r->c.via == VIA_IO_URING && (regs.nr == NR_IO_URING_ENTER || regs.nr == -1)))
			return NULL;
		r->c.via = VIA_KERNEL;
		r->c.fd = -1;
	}
	begin_socket(r, sk, sk->sk_type, true);
	*(__u32 *)r->remote = r->c.socket_family | port << 16;
	if (r->c.socket_family == AF_INET) {
		*(__u32 *)(r->remote + 4) = sk->__sk_common.skc_daddr;
		r->c.remote_len = 16;
	} else {
		*(__u32 *)(r->remote + 4) = 0;
		*(__u32 *)(r->remote + 24) = 0;
		if (bpf_core_field_exists(struct sock_common, skc_v6_daddr))
			bpf_core_read(r->remote + 8, 16, &sk->__sk_common.skc_v6_daddr);
		r->c.remote_len = 28;
	}
	r->c.addrlen = r->c.remote_len;
	r->c.cookie = tracing_cookie ? bpf_get_socket_cookie(sk) : made_cookie(sk);
	r->c.flags |= CONNECT_RETURN_LOST; /* nothing tells it */
	send_now(a);
	return a;
}

static __always_inline void begin_tracking(struct sock *sk, bool again)
{
	struct attempt *a = in_flight();
	struct announced *early = NULL;
	struct tracked *t;
	__u64 cookie;

	if (!a || !is_of(a, sk)) {
		a = NULL;
		cookie = sk->__sk_common.skc_cookie.counter;
		if (announces)
			early = bpf_map_lookup_elem(&announced, &cookie);
		if (!early && hook_passed_by)
			a = passed_by(sk, again);
		if (!early && !a)
			return;
	}
	t = track(sk);
	if (!t) {
		count(COUNT_OUTCOME_SEEN);
		count(COUNT_OUTCOME_LOST);
		return;
	}
	t->established = 0;
	t->rtt = 0;
	t->state = TCP_SYN_SENT;
	if (a) {
		redirect_by_socket(&a->record, sk, true);
		set_origin(&t->of, &a->record.c);
	} else if (early) {
		t->of.cookie = cookie;
		t->of.process = early->process;
		t->of.tid = early->tid;
		t->of.login = early->login;
		t->of.time = early->boot_time;
		bpf_map_delete_elem(&announced, &cookie);
	}
}

static __always_inline void fill_address(struct outcome *o, struct sock *sk, const bool typed)
{
	o->family = READ(typed, sk, __sk_common.skc_family);
	if (o->family == AF_INET) {
		__be32 v4 = READ(typed, sk, __sk_common.skc_rcv_saddr);

		__builtin_memcpy(o->local, &v4, sizeof(v4));
	} else if (bpf_core_field_exists(struct sock_common, skc_v6_rcv_saddr)) {
		bpf_core_read(o->local, sizeof(o->local), &sk->__sk_common.skc_v6_rcv_saddr);
	}
}

static __always_inline void fill_local(struct outcome *o, struct sock *sk, struct tcp_sock *tp, const bool typed)
{
	o->local_port = bpf_ntohs(READ(typed, tp, inet_conn.icsk_inet.inet_sport)); /* skc_num is 0 again at CLOSE */
	fill_address(o, sk, typed);
}

/*
 * bytes_acked counts our SYN (not the one that answers another) and our FIN, when they were acknowledged, and bytes_sent neither, but each retransmission;
 * bytes_received counts the peer's FIN. At CLOSE all are intact; tcp_disconnect wipes them right after.
 */
static __always_inline void fill_bytes(struct outcome *o, struct sock *sk, struct tcp_sock *tp, const bool typed)
{
	__u64 sent = READ(typed, tp, bytes_sent) - READ(typed, tp, bytes_retrans);
	__u64 acked = READ(typed, tp, bytes_acked), received = READ(typed, tp, bytes_received);

	acked -= acked > 0 && !o->accepted;
	o->bytes_sent = acked < sent ? acked : sent;
	o->bytes_received = received - (received > 0 && READ(typed, sk, __sk_common.skc_flags) & (1UL << SOCK_DONE));
	o->retransmits = READ(typed, tp, total_retrans);
}

/* Who sent the first FIN shows from the state that it left. */
static __always_inline enum closed_by closed_by(int state)
{
	if (state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK)
		return CLOSED_BY_REMOTE;
	if (state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING)
		return CLOSED_BY_LOCAL;
	return CLOSED_BY_NONE;
}

/* tracked: NULL of a connection that was accepted, which was established when that was. */
static __always_inline void tell_outcome(const struct origin *of, struct tracked *tracked, struct sock *sk, enum outcome_kind kind, int from)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct outcome o = {
		.boot_time = bpf_ktime_get_boot_ns(),
		.connect_time = of->time,
		.cookie = of->cookie,
		.established = of->time,
		.tid = of->tid,
		.kind = kind,
		.from = from,
		.closed_by = closed_by(from),
		.error = sk->sk_err,
		.accepted = !tracked,
	};

	if (!tp) /* never: its protocol is TCP */
		return;
	if (tracked) {
		if (kind == OUTCOME_ESTABLISHED) {
			tracked->established = o.boot_time;
			tracked->rtt = tp->srtt_us >> 3; /* of the handshake; later that of a delayed ACK is in it */
		}
		o.established = tracked->established;
		o.rtt = tracked->rtt;
	}
	fill_local(&o, sk, tp, true);
	fill_bytes(&o, sk, tp, true);
	send_outcome(of, &o);
}

/* The end of a connection that was accepted. */
static __always_inline void end_accepted(struct sock *sk, int from)
{
	__u64 key = (__u64)sk;
	struct accepted *a = bpf_map_lookup_elem(&accepted_sockets, &key);

	if (!a)
		return;
	if (a->port == sk->__sk_common.skc_dport)
		tell_outcome(&a->of, NULL, sk, OUTCOME_CLOSED, from);
	bpf_map_delete_elem(&accepted_sockets, &key);
}

/* Of a socket that listens, which event.h has. */
static __always_inline void tell_listener(struct sock *sk);

/* Whether a change to this state is looked at. Of the others, half of all, nobody asks anything. */
static __always_inline bool is_told(int to)
{
	return 1 << to & (1 << TCP_SYN_SENT | 1 << TCP_ESTABLISHED | 1 << TCP_CLOSE | (int)tells_listeners << TCP_LISTEN);
}

static __always_inline void change_state(struct sock *sk, int from, int to, bool again)
{
	struct tracked *t;
	__u64 key = (__u64)sk;

	if (!is_told(to))
		return;
	if (to == TCP_LISTEN) {
		if (from == TCP_CLOSE && !again)
			tell_listener(sk);
		return;
	}
	if (sk->sk_protocol != IPPROTO_TCP) /* an MPTCP socket is no tcp_sock: its subflows are */
		return;
	t = tracked_of(sk);
	if (to == TCP_SYN_SENT) {
		if (from == TCP_CLOSE && !(again && t && t->of.time && t->state == TCP_SYN_SENT))
			begin_tracking(sk, again);
		return;
	}
	if (!t || !t->of.time) {
		if (to == TCP_CLOSE && follows_accepted)
			end_accepted(sk, from);
		return;
	}
	if (t->state == to)
		return;
	t->state = to;
	if (to == TCP_ESTABLISHED) {
		tell_outcome(&t->of, t, sk, OUTCOME_ESTABLISHED, from);
		return;
	}
	tell_outcome(&t->of, t, sk, OUTCOME_CLOSED, from);
	t->of.time = 0;
	if (!socket_storage)
		bpf_map_delete_elem(&tracked_hash, &key);
}

SEC("tp_btf/inet_sock_set_state")
int state_changed(__u64 *ctx)
{
	change_state((struct sock *)ctx[0], ctx[1], ctx[2], false);
	return 0;
}

/* Finds nothing to do unless the kernel left the program above out. */
SEC("tp_btf/inet_sock_set_state")
int state_changed_again(__u64 *ctx)
{
	change_state((struct sock *)ctx[0], ctx[1], ctx[2], true);
	return 0;
}

#endif
