/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Answers to DNS questions, as they come to a socket of this host: UDP datagrams with the bit that says so (QR), and TCP
 * segments, both from port 53. The recorder reads what they say; nothing is asked, and no other packet is copied.
 *
 * A program of the root cgroup at ingress runs in whatever task is interrupted, with the socket at hand: who asked is known by the
 * socket's cookie, which its connect or first send has in its record. Where connects have no cookies, dns_asker4 and dns_asker6
 * note the process.
 */
#ifndef CONNTAPE_DNS_H
#define CONNTAPE_DNS_H

#define DNS_PORT 53
#define DNS_HEADER 12
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd

/* What a record begins with; the bytes of the message, or of the segment, follow. Behind these is nothing of use. */
struct answer {
	__u64 boot_time; /* ns CLOCK_BOOTTIME */
	__u64 cookie;    /* SO_COOKIE of the socket that got it */
	struct process_key process; /* who connected that socket; zero: not noted */
	__u32 netns;     /* inode, of the socket */
	__u32 sequence;  /* TCP: number of the first byte */
	__u32 len;       /* bytes that follow */
	__u32 whole;     /* bytes there were */
	__u8 from[16];   /* address of the server, IPv4: the first four */
	__u16 family;    /* of from */
	__u8 protocol;
	__u8 hello;      /* 1: bytes that a client sent first (hello.h). sequence counts from 0, and process is who connected */
	__u32 tid;       /* of such, the attempt's; what follows is 0 of an answer */
	__u64 connect_time; /* likewise */
	__u32 port;      /* of the server */
	__u32 reserved;
};

KEEP_TYPE(struct answer, answer);

const volatile __u32 dns_wakeup = 256 << 10; /* fill in bytes at which the recorder is woken */
const volatile __u32 dns_mark = 768 << 10;   /* see fair.h */
const volatile __u32 dns_allowance = 16 << 10;

/*
 * A ring of its own, so that a flood of answers cannot push out connects. Full, or a socket without an allowance above the mark: the
 * record is dropped and COUNT_ANSWER_LOST says so.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} dns_answers SEC(".maps");

/* Who connected a socket to a server. dns_asker4 and 6 insert; the kernel deletes it with the socket. No memory: nobody is noted. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct process_key);
} dns_askers SEC(".maps");

/* Set by the loader where dns_asker4 and dns_asker6 are attached. */
const volatile bool dns_notes_askers = false;

/* Whether an answer may be sent above the mark: by the socket, which is all that is known of who gets it, and its namespace. */
static __noinline int take_answer(struct answer *a)
{
	struct allowance_key *key = first_key(RING_ANSWERS, &a->process);
	__u32 size = sizeof(*a) + a->len;

	if (!key)
		return LEVELS;
	key->a = a->cookie;
	key->b = 0;
	if (!take(key, size, dns_allowance))
		return LEVEL_PROCESS;
	key->level = LEVEL_GROUP;
	key->a = a->netns;
	return take(key, size, 8 * (__u64)dns_allowance) ? LEVELS : LEVEL_GROUP;
}

/* room is constant: of a ring only so much can be had. */
static __always_inline bool copy_answer(struct __sk_buff *skb, const struct answer *a, __u32 at, const __u32 room)
{
	struct answer *r = bpf_ringbuf_reserve(&dns_answers, sizeof(*a) + room, 0);
	__u64 rest = a->len - 1; /* behind the first byte: so the verifier of 5.10 sees that there is one */

	if (!r)
		return false;
	*r = *a;
	barrier_var(rest);
	if (rest >= room || bpf_skb_load_bytes(skb, at, r + 1, rest + 1)) {
		bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
		return false;
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return true;
}

static __always_inline bool send_answer(struct __sk_buff *skb, const struct answer *a, __u32 at)
{
	if (a->len <= 256)
		return copy_answer(skb, a, at, 256);
	if (a->len <= 1024)
		return copy_answer(skb, a, at, 1024);
	if (a->len <= 4096)
		return copy_answer(skb, a, at, 4096);
	return copy_answer(skb, a, at, 65536);
}

/* The kernel's socket, as a number: programs of this kind may not read through the pointer that they are given. */
static __always_inline struct sock *socket_of_packet(struct __sk_buff *skb)
{
	void *given = (void *)skb->sk, *sk = NULL;

	bpf_probe_read_kernel(&sk, sizeof(sk), &given);
	return sk;
}

static __always_inline void note_asker(struct __sk_buff *skb, struct answer *a)
{
	struct bpf_sock *sk = (struct bpf_sock *)skb->sk;
	struct process_key *key;

	if (!dns_notes_askers || !sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	key = bpf_sk_storage_get(&dns_askers, sk, NULL, 0);
	if (key)
		a->process = *key;
}

/* Where the transport header begins, 0: nothing that is of use. */
static __always_inline __u32 read_ip(struct __sk_buff *skb, struct answer *a)
{
	__u8 head[40];

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, head, 20))
			return 0;
		a->family = AF_INET;
		a->protocol = head[9];
		__builtin_memcpy(a->from, head + 12, 4);
		return (head[0] & 15) * 4;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, 0, head, 40))
		return 0;
	a->family = AF_INET6;
	a->protocol = head[6]; /* extensions come with no answer that anybody has seen */
	__builtin_memcpy(a->from, head + 8, 16);
	return 40;
}

/* Where the message, or a segment of several, begins; 0: it is no answer. */
static __always_inline __u32 read_transport(struct __sk_buff *skb, struct answer *a, __u32 at)
{
	__be16 port;
	__u8 head[14];
	__u32 own;

	if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
		return 0;
	__builtin_memcpy(&port, head, 2);
	if (port != bpf_htons(DNS_PORT))
		return 0;
	if (a->protocol == IPPROTO_UDP) {
		own = 8;
		if (!(head[10] & 0x80)) /* QR */
			return 0;
	} else if (a->protocol == IPPROTO_TCP) {
		own = (head[12] >> 4) * 4;
		__builtin_memcpy(&a->sequence, head + 4, 4);
		a->sequence = bpf_ntohl(a->sequence);
	} else {
		return 0;
	}
	at += own;
	if (skb->len <= at || (a->protocol == IPPROTO_UDP && skb->len < at + DNS_HEADER))
		return 0;
	a->whole = skb->len - at;
	a->len = a->whole > 65536 ? 65536 : a->whole;
	return at;
}

/* Of what is connected, the port of the other end tells at once: TCP pays for two loads. */
SEC("cgroup_skb/ingress")
int dns_ingress(struct __sk_buff *skb)
{
	__u32 port = skb->remote_port;
	struct answer a = {};
	__u64 fill;
	__u32 at;
	bool sent;

	if (port && port != bpf_htonl(DNS_PORT))
		return 1;
	at = read_ip(skb, &a);
	if (!at)
		return 1;
	at = read_transport(skb, &a, at);
	if (!at)
		return 1;
	a.boot_time = bpf_ktime_get_boot_ns();
	a.cookie = bpf_get_socket_cookie(skb);
	a.netns = BPF_CORE_READ(socket_of_packet(skb), __sk_common.skc_net.net, ns.inum);
	note_asker(skb, &a);
	count(COUNT_ANSWER_SEEN);
	fill = bpf_ringbuf_query(&dns_answers, BPF_RB_AVAIL_DATA);
	sent = (below_mark(RING_ANSWERS, fill, dns_mark) || take_answer(&a) == LEVELS) && send_answer(skb, &a, at);
	count(sent ? COUNT_ANSWER_SENT : COUNT_ANSWER_LOST);
	if (recorder_sleeps || (fill >= dns_wakeup && fill < dns_wakeup + 4096))
		wake_recorder();
	return 1;
}

static __always_inline int connect_asker(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = (struct bpf_sock *)ctx->sk;
	struct process_key *key;

	if (ctx->user_port != bpf_htons(DNS_PORT) || !sk)
		return 1;
	key = bpf_sk_storage_get(&dns_askers, sk, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (key)
		*key = current_process();
	return 1;
}

SEC("cgroup/connect4")
int dns_asker4(struct bpf_sock_addr *ctx)
{
	return connect_asker(ctx);
}

SEC("cgroup/connect6")
int dns_asker6(struct bpf_sock_addr *ctx)
{
	return connect_asker(ctx);
}

#endif
