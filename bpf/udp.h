/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * An ICMP error that came back to a connected UDP socket, in whatever task or interrupt brought it. The socket's error is what
 * the next send or receive will return. Nothing is kept of a socket before its first error, so that a connect pays nothing.
 */
#ifndef CONNTAPE_UDP_H
#define CONNTAPE_UDP_H

#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136

#define SO_EE_ORIGIN_ICMP 2
#define SO_EE_ORIGIN_ICMP6 3

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock_extended_err {
	__u32 ee_errno;
	__u8 ee_origin;
};

struct sock_exterr_skb {
	struct sock_extended_err ee;
};

struct sk_buff___error {
	char cb[48];
};

#pragma clang attribute pop

/* The last error in a socket's queue, if ICMP brought it. */
static __always_inline __u32 queued_error(struct sock *sk)
{
	struct sk_buff___error *last = NULL;
	struct sock_exterr_skb *told;
	__u32 error = 0;
	__u8 origin = 0;

	bpf_core_read(&last, sizeof(last), &sk->sk_error_queue.prev);
	if (!last || (void *)last == (void *)sk + bpf_core_field_offset(struct sock, sk_error_queue)) /* it is empty */
		return 0;
	told = (void *)last + bpf_core_field_offset(struct sk_buff___error, cb);
	bpf_core_read(&origin, sizeof(origin), &told->ee.ee_origin);
	if (origin == SO_EE_ORIGIN_ICMP || origin == SO_EE_ORIGIN_ICMP6)
		bpf_core_read(&error, sizeof(error), &told->ee.ee_errno);
	return error;
}

/*
 * The error that a socket has. With IP_RECVERR the kernel reports twice: when it queues the error, and after it sets sk_err (ip_icmp_error,
 * __udp4_lib_err). The first report finds sk_err unset; at the second one the caller, whom the first woke, may have taken it. So the
 * queue is asked, too.
 */
static __always_inline __u32 error_of(struct sock *sk)
{
	__u32 error = sk->sk_err;

	barrier_var(error); /* or the compiler makes one load of this one and one from the stack, which the verifier refuses */
	return error ? error : queued_error(sk);
}

/*
 * An error of one connect: whoever sends on into it is told of once. The kernel chooses sk_txhash at random at each connect of a UDP socket
 * (sk_set_txhash in __ip4_datagram_connect and __ip6_datagram_connect), also at another one to the same peer.
 */
static __always_inline __u64 error_key(struct sock *sk, __u32 error)
{
	__u64 connect = bpf_core_field_exists(struct sock, sk_txhash) ? sk->sk_txhash : 0;

	return connect << 32 | error;
}

/* include/trace/events/sock.h (5.14): inet_sk_error_report(const struct sock *) */
SEC("tp_btf/inet_sk_error_report")
int socket_error(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct tracked *t;
	__u64 key;
	struct outcome o = {
		.kind = OUTCOME_ERROR,
		.cookie = sk->__sk_common.skc_cookie.counter,
	};

	if ((sk->sk_protocol != IPPROTO_UDP && sk->sk_protocol != IPPROTO_UDPLITE) || !o.cookie ||
	    sk->__sk_common.skc_state != TCP_ESTABLISHED) /* that is: connected */
		return 0;
	o.error = error_of(sk);
	if (!o.error)
		return 0;
	t = track(sk);
	if (!t) {
		count(COUNT_OUTCOME_SEEN);
		count(COUNT_OUTCOME_LOST);
		return 0;
	}
	key = error_key(sk, o.error);
	if (t->established == key) /* of a UDP socket that is what was told last */
		return 0;
	t->established = key;
	o.boot_time = bpf_ktime_get_boot_ns();
	o.local_port = sk->__sk_common.skc_num;
	fill_address(&o, sk, true);
	send_outcome(&t->of, &o);
	return 0;
}

#endif
