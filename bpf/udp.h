/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * An ICMP error that came back to a connected UDP socket, in whatever task or interrupt brought it. The socket's error is what
 * the next send or receive will return. Nothing is kept of a socket before its first error, so that a connect pays nothing.
 */
#ifndef CONNTAPE_UDP_H
#define CONNTAPE_UDP_H

#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136

/* A peer and an error: whoever sends on into an error is told of once. */
static __always_inline __u64 error_of(struct sock *sk)
{
	__u64 peer = sk->__sk_common.skc_daddr, v6[2] = {};

	if (sk->__sk_common.skc_family == AF_INET6 && bpf_core_field_exists(struct sock_common, skc_v6_daddr)) {
		bpf_core_read(v6, sizeof(v6), &sk->__sk_common.skc_v6_daddr);
		peer = v6[0] ^ v6[1];
	}
	return (peer * 31 + sk->__sk_common.skc_dport) << 8 | (__u8)sk->sk_err;
}

/* include/trace/events/sock.h (5.14): inet_sk_error_report(const struct sock *) */
SEC("tp_btf/inet_sk_error_report")
int socket_error(__u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct tracked *t;
	struct outcome o = {
		.kind = OUTCOME_ERROR,
		.error = sk->sk_err,
		.cookie = sk->__sk_common.skc_cookie.counter,
	};

	if ((sk->sk_protocol != IPPROTO_UDP && sk->sk_protocol != IPPROTO_UDPLITE) || !o.error || !o.cookie ||
	    sk->__sk_common.skc_state != TCP_ESTABLISHED) /* that is: connected */
		return 0;
	t = track(sk);
	if (!t) {
		count(COUNT_OUTCOME_SEEN);
		count(COUNT_OUTCOME_LOST);
		return 0;
	}
	if (t->established == error_of(sk))
		return 0;
	t->established = error_of(sk);
	o.boot_time = bpf_ktime_get_boot_ns();
	o.local_port = sk->__sk_common.skc_num;
	fill_address(&o, sk, true);
	send_outcome(t, &o);
	return 0;
}

#endif
