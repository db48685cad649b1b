/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Programs of a cgroup on connect4 and connect6 may send a connect elsewhere. They change the kernel's copy of the address, in
 * place, and the protocol reads it then. The hooks of fexit and kprobe come before that: their record has what was asked for,
 * and is told here where it went. Those of cgroup come after the programs of cgroups below the root: their record has where
 * it went, and what was asked for is in the caller's memory alone.
 *
 * An address is compared as the words of its sockaddr: family and port, then the address of IPv4; or, behind a word that
 * does not count, that of IPv6.
 */
#ifndef CONNTAPE_REDIRECT_H
#define CONNTAPE_REDIRECT_H

#define WORDS 6

/* Where the local address lies: behind a small or a large remote one. */
static __always_inline __u8 *local_of(struct connect_large *r)
{
	return r->c.flags & CONNECT_LARGE ? r->local : ((struct connect_small *)r)->local;
}

/* Whether the record has an address that can be redirected, and of which family. */
static __always_inline bool may_redirect(const struct connect_large *r, bool *v6)
{
	__u16 family = *(const __u16 *)r->remote;

	*v6 = family == AF_INET6;
	if (r->c.socket_family != AF_INET && r->c.socket_family != AF_INET6)
		return false;
	return family == AF_INET ? r->c.remote_len >= 16 : *v6 && r->c.remote_len >= 24;
}

static __always_inline bool same_place(const __u32 *a, const __u32 *b, bool v6)
{
	if (a[0] != b[0])
		return false;
	return v6 ? a[2] == b[2] && a[3] == b[3] && a[4] == b[4] && a[5] == b[5] : a[1] == b[1];
}

/* :: and 0.0.0.0, also as ::ffff:0.0.0.0: the protocol takes a loopback address, or its own, instead. */
static __always_inline bool is_any(const __u32 *a, bool v6)
{
	if (!v6)
		return !a[1];
	return !a[2] && !a[3] && !a[5] && (!a[4] || a[4] == bpf_htonl(0xffff));
}

/* What the protocol itself writes over :: (tcp_v6_connect, __ip6_datagram_connect): ::1 or ::ffff:127.0.0.1. */
static __always_inline bool is_loopback(const __u32 *a)
{
	return !a[2] && !a[3] && ((!a[4] && a[5] == bpf_htonl(1)) || (a[4] == bpf_htonl(0xffff) && a[5] == bpf_htonl(0x7f000001)));
}

/* Where what was asked for lies. It is there once flags has CONNECT_REDIRECTED. */
static __always_inline __u32 *requested_of(struct connect_large *r)
{
	return (__u32 *)(local_of(r) + SOCKADDR_SMALL);
}

/* Has the record say that it went to an address, if that is another. */
static __always_inline void redirect(struct connect_large *r, const __u32 *to, bool v6)
{
	__u32 *remote = (__u32 *)r->remote;

	if ((__u16)to[0] != (__u16)remote[0] || same_place(remote, to, v6))
		return;
	if (!(r->c.flags & CONNECT_REDIRECTED)) {
		__builtin_memcpy(requested_of(r), remote, SOCKADDR_SMALL);
		barrier(); /* in_flight_snapshot may look at any time */
		r->c.flags |= CONNECT_REDIRECTED;
		barrier();
	}
	remote[0] = to[0];
	if (v6) {
		remote[2] = to[2];
		remote[3] = to[3];
		remote[4] = to[4];
		remote[5] = to[5];
	} else {
		remote[1] = to[1];
	}
}

/* By the kernel's copy of the address, when the protocol is done with it. */
static __always_inline void redirect_by_copy(struct connect_large *r, const void *address)
{
	__u32 to[WORDS] = {};
	bool v6;

	if (!may_redirect(r, &v6) || bpf_probe_read_kernel(to, v6 ? 24 : 8, address))
		return;
	if (v6 && is_any((__u32 *)r->remote, true) && is_loopback(to))
		return;
	redirect(r, to, v6);
}

/* By what the socket is connected to. */
static __always_inline void redirect_by_socket(struct connect_large *r, struct sock *sk, const bool typed)
{
	__u32 to[WORDS] = {};
	__u32 port;
	bool v6;

	if (!may_redirect(r, &v6) || is_any((__u32 *)r->remote, v6))
		return;
	port = READ(typed, sk, __sk_common.skc_dport);
	to[0] = (v6 ? AF_INET6 : AF_INET) | port << 16;
	if (!v6)
		to[1] = READ(typed, sk, __sk_common.skc_daddr);
	else if (bpf_core_field_exists(struct sock_common, skc_v6_daddr))
		bpf_core_read(to + 2, 16, &sk->__sk_common.skc_v6_daddr);
	if (!is_any(to, v6)) /* or it is disconnected again */
		redirect(r, to, v6);
}

/* By the caller's memory, which another of its threads may have changed meanwhile. */
static __always_inline void requested_by_caller(struct connect_large *r, const void *address)
{
	__u32 *asked = requested_of(r); /* programs have no stack left for it */
	bool v6;

	if (!may_redirect(r, &v6) || bpf_probe_read_user(asked, v6 ? 24 : 16, address))
		return;
	if ((__u16)asked[0] == (v6 ? AF_INET6 : AF_INET) && !same_place((__u32 *)r->remote, asked, v6))
		r->c.flags |= CONNECT_REDIRECTED;
}

#endif
