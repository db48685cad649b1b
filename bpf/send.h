/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Sends without connect: datagrams whose sender names the address with each. The first of a process, socket and address is
 * recorded at once, through the ring of connects; those after it are counted in a map, which the recorder reads once an interval.
 *
 * The hooks of cgroups run for no send on a connected socket, which so costs what it did.
 */
#ifndef CONNTAPE_SEND_H
#define CONNTAPE_SEND_H

#define EPHEMERAL 32768 /* of net.ipv4.ip_local_port_range, unless somebody changed it */

struct send_key {
	struct process_key process;
	__u64 cookie;
	__u32 address[4];   /* IPv4: the first */
	__u32 generation;
	__u8 family;        /* of address; 0: the entry of a process whose other addresses found no room */
	__u8 protocol;      /* of a frame that is an IP packet (frame.h), else 0 */
	__be16 port;        /* 0: answers of a server, see answers(); where family is 0, 1: of sends to names of UNIX sockets */
};

/* What the recorder is told of a send: the ring has it up to n, an entry of sends all of it. */
struct send_count {
	__u64 counted;    /* sends that no record tells of; what follows is about these */
	__u64 first;      /* ns CLOCK_BOOTTIME */
	__u64 last;
	__u64 sum;        /* bytes */
	__u32 unmeasured; /* sends whose bytes are unknown */
	__u32 others;     /* where family of the key is 0: addresses of the process that have an entry, and sends that had a record instead */
};

struct send {
	struct connect c; /* via VIA_SENDTO or VIA_FRAME; of an entry the first send */
	__u8 remote[SOCKADDR_SMALL];
	__u8 local[SOCKADDR_SMALL];
	__s64 bytes; /* of this send, -1: unknown */
	struct send_count n;
};

KEEP_TYPE(struct send, send);
KEEP_TYPE(struct send_key, send_key);

/*
 * Who sent where in this generation and the one before, which the recorder reads when no program can be about to count in it,
 * and clears before the next but one. So each send is counted once, and whoever goes on sending is not told of anew. A program inserts; only the recorder
 * deletes. Full, or more than sends_each entries of one process: up to sends_most of its sends are recorded one by one while the ring of
 * connects is below half of its mark; beyond, they are counted in the entry of the process alone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct send_key);
	__type(value, struct send);
} sends SEC(".maps");

/* The recorder counts it up. */
__u32 send_generation;

const volatile __u32 sends_each = 16384 / 8;
const volatile __u32 sends_most = 65536 + 16384 / 8; /* so that a scan of 65,536 addresses has each */

struct user_message { /* struct user_msghdr */
	__u64 name;
	__u64 namelen;
	__u64 iov;
	__u64 iovlen;
};

/* What a send syscall was told to send; -1: that does not tell. */
static __always_inline __s64 bytes_of(const struct regs *r)
{
	struct user_message m;
	__u64 iov[2][2], n;

	if (r->compat)
		return -1;
	if (r->nr == NR_SENDTO)
		return r->arg[2];
	if (r->nr != NR_SENDMSG || bpf_probe_read_user(&m, sizeof(m), (void *)r->arg[1]))
		return -1;
	n = m.iovlen;
	if (!n)
		return 0;
	if (n > 2 || bpf_probe_read_user(iov, n == 1 ? sizeof(iov[0]) : sizeof(iov), (void *)m.iov))
		return -1;
	return n == 1 ? iov[0][1] : iov[0][1] + iov[1][1];
}

/* Likewise of a datagram: the hook runs for none that is longer. What says so is a message that somebody wrote over meanwhile. */
static __always_inline __s64 datagram_of(const struct regs *r)
{
	__s64 n = bytes_of(r);

	return n >= 0 && n <= 65535 ? n : -1;
}

static __always_inline void count_send(struct send_count *s, __s64 bytes)
{
	__u64 now = bpf_ktime_get_boot_ns();

	if (!s->first)
		s->first = now;
	s->last = now;
	if (bytes < 0)
		__sync_fetch_and_add(&s->unmeasured, 1);
	else
		__sync_fetch_and_add(&s->sum, bytes);
	__sync_fetch_and_add(&s->counted, 1);
	count(COUNT_SEND_COUNTED);
}

/* Tells of a send at once. */
static __always_inline void send_send(struct send *s)
{
	__u64 fill = bpf_ringbuf_query(&connects, BPF_RB_AVAIL_DATA);
	__u32 size = offsetof(struct send, n);
	int level = LEVELS;

	count_seen();
	if (!below_mark(RING_CONNECTS, fill, connects_mark))
		level = take_connect(&s->c, size);
	if (level == LEVELS && bpf_ringbuf_output(&connects, s, size, wakeup_flags(fill, size)))
		level = LEVEL_PROCESS;
	if (level != LEVELS)
		lose_connect(&s->c, level);
	count(level == LEVELS ? COUNT_SENT : COUNT_LOST);
}

/* Finds or makes the entry of a process that has no address; NULL: the map is full. */
static __always_inline struct send *whole_of(struct send_key *key, struct send *s)
{
	struct send_key whole = { .process = key->process, .generation = key->generation };
	struct send *w = bpf_map_lookup_elem(&sends, &whole);

	if (w)
		return w;
	bpf_map_update_elem(&sends, &whole, s, BPF_NOEXIST);
	return bpf_map_lookup_elem(&sends, &whole);
}

/*
 * The first send to an address in this generation: s has all but what the map adds. The record has the port that it was; of
 * answers the entry has none.
 */
static __always_inline void first_send(struct send_key *key, struct send *s, __be16 port, bool answer)
{
	struct send *whole = whole_of(key, s), *other;
	bool known;
	long err;

	key->generation--;
	known = bpf_map_lookup_elem(&sends, key);
	key->generation++;
	if (whole && whole->n.others < sends_each) {
		if (known) {
			s->n.counted = 1;
			s->n.first = s->n.last = s->c.boot_time;
			s->n.unmeasured = s->bytes < 0;
			s->n.sum = s->bytes < 0 ? 0 : s->bytes;
		}
		err = bpf_map_update_elem(&sends, key, s, BPF_NOEXIST);
		if (!err) {
			__sync_fetch_and_add(&whole->n.others, 1);
			if (known) {
				count(COUNT_SEND_COUNTED);
				return;
			}
			goto tell;
		}
		other = bpf_map_lookup_elem(&sends, key);
		if (other) { /* another thread was first */
			count_send(&other->n, s->bytes);
			return;
		}
	}
	if (whole) {
		if (known || answer || whole->n.others >= sends_most || bpf_ringbuf_query(&connects, BPF_RB_AVAIL_DATA) >= connects_mark / 2) {
			count_send(&whole->n, s->bytes);
			return;
		}
		__sync_fetch_and_add(&whole->n.others, 1);
	}
tell:
	__builtin_memcpy(s->remote + 2, &port, sizeof(port));
	send_send(s);
}

static __always_inline struct process_key current_process(void)
{
	if (typed_task)
		return key_of(owner_of(bpf_get_current_task_btf(), true), true);
	return key_of(owner_of((struct task_struct *)bpf_get_current_task(), false), false);
}

static __always_inline void write_remote(struct send *s, const struct send_key *key)
{
	s->remote[0] = key->family;
	__builtin_memcpy(s->remote + 2, &key->port, 2);
	if (key->family == AF_INET6) {
		__builtin_memcpy(s->remote + 8, key->address, 16);
		s->c.remote_len = 28;
	} else {
		__builtin_memcpy(s->remote + 4, key->address, 4);
		s->c.remote_len = 16;
	}
	s->c.addrlen = s->c.remote_len;
}

/*
 * Whether a socket sends answers: its own port is none that the kernel chooses, and the other one is. Each client, and each of
 * its questions, has another port: those of one address are counted together.
 */
static __always_inline bool answers(__u32 own, __be16 port)
{
	return own && own < EPHEMERAL && bpf_ntohs(port) >= EPHEMERAL;
}

/* net/ipv4/udp.c and net/ipv6/udp.c, udp_sendmsg and udpv6_sendmsg: not on a connected socket, unless there is control data. */
static __always_inline int cgroup_send(struct bpf_sock_addr *ctx, __u16 family)
{
	__be16 port = ctx->user_port;
	struct bpf_sock *own = (struct bpf_sock *)ctx->sk;
	struct send_key key = { .process = current_process(), .family = family, .port = port, .generation = send_generation };
	struct send s, *known;
	struct regs regs;
	bool answer;

	if (!port) /* refused; or the socket is connected, and no address was given */
		return 1;
	key.cookie = bpf_get_socket_cookie(ctx);
	if (family == AF_INET6) {
		key.address[0] = ctx->user_ip6[0];
		key.address[1] = ctx->user_ip6[1];
		key.address[2] = ctx->user_ip6[2];
		key.address[3] = ctx->user_ip6[3];
	} else {
		key.address[0] = ctx->user_ip4;
	}
	answer = own && answers(own->src_port, port);
	if (answer)
		key.port = 0;
	known = bpf_map_lookup_elem(&sends, &key);
	if (known) {
		current_regs(&regs);
		count_send(&known->n, datagram_of(&regs));
		return 1;
	}
	__builtin_memset(&s, 0, sizeof(s));
	begin_task(&s.c, &regs);
	s.bytes = datagram_of(&regs);
	if (is_send(&regs))
		s.c.fd = regs.arg[0];
	if (bpf_ksym_exists(bpf_cast_to_kern_ctx)) {
		struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);

		begin_kind(&s.c, kern->sk, ctx->type, true);
		read_local_inet(&s.c, s.local, kern->sk, true);
	} else {
		struct socket *sock = is_send(&regs) ? socket_of((struct task_struct *)bpf_get_current_task(), regs.arg[0]) : NULL;
		struct sock *sk = sock ? BPF_CORE_READ(sock, sk) : NULL;

		s.c.socket_family = ctx->family;
		s.c.type = ctx->type;
		s.c.protocol = ctx->protocol;
		if (sk) {
			begin_kind(&s.c, sk, ctx->type, false);
			read_local_inet(&s.c, s.local, sk, false);
		}
	}
	s.c.via = VIA_SENDTO;
	s.c.cookie = key.cookie;
	write_remote(&s, &key);
	first_send(&key, &s, port, answer);
	return 1;
}

SEC("cgroup/sendmsg4")
int cgroup_sendmsg4(struct bpf_sock_addr *ctx)
{
	return cgroup_send(ctx, AF_INET);
}

SEC("cgroup/sendmsg6")
int cgroup_sendmsg6(struct bpf_sock_addr *ctx)
{
	return cgroup_send(ctx, AF_INET6);
}

/*
 * raw_sendmsg and its kin in net/ipv4 and net/ipv6, of raw and ping sockets, for which no hook of cgroups runs:
 * int (struct sock *, struct msghdr *, size_t). There are no ports.
 */
static __always_inline int function_send(struct sock *sk, struct msghdr *msg, __s64 len, const bool typed)
{
	__u16 family = READ(typed, sk, __sk_common.skc_family);
	void *name = BPF_CORE_READ(msg, msg_name);
	int size = BPF_CORE_READ(msg, msg_namelen);
	struct send_key key = { .process = current_process(), .family = family, .generation = send_generation };
	struct send s, *known;
	struct regs regs;

	if (!name || size < 16) /* to where it is connected; or refused */
		return 0;
	if (family == AF_INET6) {
		if (size < 24) /* SIN6_LEN_RFC2133 */
			return 0;
		bpf_probe_read_kernel(key.address, 16, name + 8);
	} else {
		bpf_probe_read_kernel(key.address, 4, name + 4);
	}
	key.cookie = typed && tracing_cookie ? bpf_get_socket_cookie(sk) : made_cookie(sk);
	known = bpf_map_lookup_elem(&sends, &key);
	if (known) {
		count_send(&known->n, len);
		return 0;
	}
	__builtin_memset(&s, 0, sizeof(s));
	begin_task(&s.c, &regs);
	s.bytes = len;
	if (is_send(&regs))
		s.c.fd = regs.arg[0];
	begin_kind(&s.c, sk, READ(typed, sk, sk_type), typed);
	read_local_inet(&s.c, s.local, sk, typed);
	s.c.via = VIA_SENDTO;
	s.c.cookie = key.cookie;
	write_remote(&s, &key);
	first_send(&key, &s, 0, false);
	return 0;
}

SEC("fentry/raw_sendmsg")
int fentry_raw4(__u64 *ctx)
{
	return function_send((struct sock *)ctx[0], (struct msghdr *)ctx[1], ctx[2], true);
}

SEC("fentry/rawv6_sendmsg")
int fentry_raw6(__u64 *ctx)
{
	return function_send((struct sock *)ctx[0], (struct msghdr *)ctx[1], ctx[2], true);
}

SEC("fentry/ping_v4_sendmsg")
int fentry_ping4(__u64 *ctx)
{
	return function_send((struct sock *)ctx[0], (struct msghdr *)ctx[1], ctx[2], true);
}

SEC("fentry/ping_v6_sendmsg")
int fentry_ping6(__u64 *ctx)
{
	return function_send((struct sock *)ctx[0], (struct msghdr *)ctx[1], ctx[2], true);
}

SEC("kprobe/raw_sendmsg") /* and the others */
int kprobe_send(struct kprobe_regs *ctx)
{
	return function_send((struct sock *)PARM1(ctx), (struct msghdr *)PARM2(ctx), PARM3(ctx), false);
}

#endif
