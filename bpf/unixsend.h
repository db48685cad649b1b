/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Datagrams that a UNIX socket sends to a name. They are told of and counted as other sends are (send.h), in a map of their own: names are long.
 * The hook runs for no send on a connected socket.
 */
#ifndef CONNTAPE_UNIXSEND_H
#define CONNTAPE_UNIXSEND_H

struct unix_send_key {
	struct send_key k;    /* family AF_UNIX */
	__u8 name[LOCAL_MAX]; /* struct sockaddr_un, as far as it goes */
};

/* Likewise: the ring has it up to n. */
struct unix_send {
	struct connect_large r;
	__s64 bytes;
	struct send_count n;
};

KEEP_TYPE(struct unix_send_key, unix_send_key);
KEEP_TYPE(struct unix_send, unix_send);

/*
 * As sends. Full, or more than unix_sends_each entries of one process: its sends to further names are counted in its entry of sends, without a
 * name; where that has no room, they are lost.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct unix_send_key);
	__type(value, struct unix_send);
} unix_sends SEC(".maps");

const volatile __u32 unix_sends_each = 2048 / 8;

const struct unix_send no_unix_send = {};
const struct send no_send = {};

/* Finds or makes the entry of a process in sends, as whole_of: it has one for its sends to names alone. */
static __always_inline struct send *unix_whole_of(struct unix_send_key *key, struct sock *sk)
{
	struct send_key whole = { .process = key->k.process, .generation = key->k.generation, .port = 1 };
	struct send *w = bpf_map_lookup_elem(&sends, &whole);
	struct regs regs;

	if (w || bpf_map_update_elem(&sends, &whole, &no_send, BPF_NOEXIST))
		return w ? w : bpf_map_lookup_elem(&sends, &whole);
	w = bpf_map_lookup_elem(&sends, &whole);
	if (!w)
		return NULL;
	begin_task(&w->c, &regs);
	begin_kind(&w->c, sk, SOCK_DGRAM, true);
	w->c.via = VIA_SENDTO;
	w->bytes = -1;
	return w;
}

static __always_inline void fill_unix_send(struct unix_send *s, const struct unix_send_key *key, struct sock *sk, __u32 len)
{
	struct regs regs;

	s->r.c.flags = CONNECT_LARGE;
	begin_task(&s->r.c, &regs);
	begin_socket(&s->r, sk, SOCK_DGRAM, true);
	if (is_send(&regs))
		s->r.c.fd = regs.arg[0];
	s->bytes = bytes_of(&regs);
	s->r.c.via = VIA_SENDTO;
	s->r.c.cookie = key->k.cookie;
	__builtin_memcpy(s->r.remote, key->name, sizeof(key->name));
	s->r.c.remote_len = len;
	s->r.c.addrlen = len;
}

static __always_inline void tell_unix_send(struct unix_send *s)
{
	__u64 fill = bpf_ringbuf_query(&connects, BPF_RB_AVAIL_DATA);
	__u32 size = offsetof(struct unix_send, n);
	int level = LEVELS;

	count_seen();
	if (!below_mark(RING_CONNECTS, fill, connects_mark))
		level = take_connect(&s->r.c, size);
	if (level == LEVELS && bpf_ringbuf_output(&connects, s, size, wakeup_flags(fill, size)))
		level = LEVEL_PROCESS;
	if (level != LEVELS)
		lose_connect(&s->r.c, level);
	count(level == LEVELS ? COUNT_SENT : COUNT_LOST);
}

static __always_inline __s64 unix_bytes(void)
{
	struct regs regs;

	current_regs(&regs);
	return bytes_of(&regs);
}

/* net/unix/af_unix.c, unix_dgram_sendmsg, of a message with a name */
SEC("cgroup/sendmsg_unix") /* 6.7 */
int cgroup_sendmsg_unix(struct bpf_sock_addr *ctx)
{
	struct unix_send_key key = { .k = { .process = current_process(), .family = AF_UNIX, .generation = send_generation } };
	struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);
	struct unix_send *known;
	struct send *whole;
	bool before;
	__u32 len;

	len = kern->uaddrlen;
	barrier_var(len);
	if (len > sizeof(key.name)) /* never: the kernel has looked at it */
		return 1;
	bpf_probe_read_kernel(key.name, len, kern->uaddr);
	key.k.cookie = bpf_get_socket_cookie(ctx);
	known = bpf_map_lookup_elem(&unix_sends, &key);
	if (known) {
		count_send(&known->n, unix_bytes());
		return 1;
	}
	whole = unix_whole_of(&key, kern->sk);
	if (!whole) {
		count_seen();
		count(COUNT_LOST);
		return 1;
	}
	key.k.generation--;
	before = bpf_map_lookup_elem(&unix_sends, &key);
	key.k.generation++;
	if (whole->n.others >= unix_sends_each) {
		count_send(&whole->n, unix_bytes());
		return 1;
	}
	if (!bpf_map_update_elem(&unix_sends, &key, &no_unix_send, BPF_NOEXIST)) {
		known = bpf_map_lookup_elem(&unix_sends, &key);
		if (!known) /* never: only the recorder deletes, and none of this generation */
			return 1;
		__sync_fetch_and_add(&whole->n.others, 1);
		fill_unix_send(known, &key, kern->sk, len);
		if (before)
			count_send(&known->n, known->bytes);
		else
			tell_unix_send(known);
		return 1;
	}
	known = bpf_map_lookup_elem(&unix_sends, &key); /* another thread was first, or there is no room */
	count_send(known ? &known->n : &whole->n, unix_bytes());
	return 1;
}

#endif
