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

/*
 * The error that a socket has, or that is the last in its queue. Where the caller asked for a queue (IP_RECVERR) it is told of the error before
 * sk_err is set (sock_queue_err_skb in ip_icmp_error, net/ipv4/ip_sockglue.c) and once more after, and whoever waits for it is woken each time:
 * on another processor he may have taken sk_err before the second program runs. Of a socket without a queue it is seen but in that moment.
 */
static __always_inline __u32 told_error(struct sock *sk)
{
	struct sk_buff___error *last = NULL;
	struct sock_exterr_skb *told;
	__u32 error = sk->sk_err, queued = 0;
	__u8 origin = 0;

	asm volatile("" : "+r"(error)); /* else one load is made of this and of that from the stack, which the verifier refuses */
	if (error)
		return error;
	bpf_core_read(&last, sizeof(last), &sk->sk_error_queue.prev);
	if (!last || (void *)last == (void *)sk + bpf_core_field_offset(struct sock, sk_error_queue)) /* it is empty */
		return 0;
	told = (void *)last + bpf_core_field_offset(struct sk_buff___error, cb);
	bpf_core_read(&origin, sizeof(origin), &told->ee.ee_origin);
	if (origin != SO_EE_ORIGIN_ICMP && origin != SO_EE_ORIGIN_ICMP6)
		return 0;
	bpf_core_read(&queued, sizeof(queued), &told->ee.ee_errno);
	return queued;
}

/* A peer and an error: whoever sends on into an error is told of once. */
static __always_inline __u64 error_of(struct sock *sk, __u32 error)
{
	__u64 peer = sk->__sk_common.skc_daddr, v6[2] = {};

	if (sk->__sk_common.skc_family == AF_INET6 && bpf_core_field_exists(struct sock_common, skc_v6_daddr)) {
		bpf_core_read(v6, sizeof(v6), &sk->__sk_common.skc_v6_daddr);
		peer = v6[0] ^ v6[1];
	}
	return (peer * 31 + sk->__sk_common.skc_dport) << 8 | (__u8)error;
}

/* include/trace/events/sock.h (5.14): inet_sk_error_report(const struct sock *) */
SEC("tp_btf/inet_sk_error_report")
int socket_error(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct tracked *t;
	struct outcome o = {
		.kind = OUTCOME_ERROR,
		.cookie = sk->__sk_common.skc_cookie.counter,
	};

	if ((sk->sk_protocol != IPPROTO_UDP && sk->sk_protocol != IPPROTO_UDPLITE) || !o.cookie ||
	    sk->__sk_common.skc_state != TCP_ESTABLISHED) /* that is: connected */
		return 0;
	o.error = told_error(sk);
	if (!o.error)
		return 0;
	t = track(sk);
	if (!t) {
		count(COUNT_OUTCOME_SEEN);
		count(COUNT_OUTCOME_LOST);
		return 0;
	}
	if (t->established == error_of(sk, o.error))
		return 0;
	t->established = error_of(sk, o.error);
	o.boot_time = bpf_ktime_get_boot_ns();
	o.local_port = sk->__sk_common.skc_num;
	fill_address(&o, sk, true);
	send_outcome(&t->of, &o);
	return 0;
}

#endif
