//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The hooks of the three backends. The loader takes those of one and drops the rest.
 *
 *   fexit   fexit_connect, fexit_return; exit_connect where fexit_return does not fire for connect(2); where programs can
 *           be preempted also lsm_connect, fexit_mark, fexit_mark_again
 *   kprobe  kprobe_connect, kretprobe_connect (or kprobe_connect_file), kretprobe_return, exit_connect
 *   cgroup  cgroup_connect4, cgroup_connect6, cgroup_connect_unix, exit_connect_unseen; where programs can be preempted
 *           also exit_mark, exit_mark_again
 *   all     cgroup_sendmsg4, cgroup_sendmsg6 (send.h), frame_queued (frame.h), dns_ingress (dns.h), hello_sockops (hello.h); of sockets see opened.h
 *
 * What becomes of a connection is in outcome.h, a process's exec, fork and exit in process.h and classic.h, for all of them.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "record.h"
#include "maps.h"
#include "task.h"
#include "fair.h"
#include "redirect.h"
#include "peer.h"
#include "attempt.h"
#include "outcome.h"
#include "open.h"
#include "udp.h"
#include "process.h"
#include "classic.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#ifndef bpf_ksym_exists /* libbpf 1.2 */
#define bpf_ksym_exists(sym) (!!(sym))
#endif

/* Set by the loader where lsm_connect runs before fexit_connect. */
const volatile bool after_lsm = false;

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak; /* 6.2 */

static __always_inline void begin(struct attempt *a, struct sock *sk, short type, const void *address, int addrlen,
				  const bool typed)
{
	struct connect_large *r = &a->record;
	struct regs regs;

	if (READ(typed, sk, __sk_common.skc_family) == AF_UNIX)
		r->c.flags |= CONNECT_LARGE;
	begin_remote(r, address, addrlen, false);
	begin_task(&r->c, &regs);
	begin_socket(r, sk, type, typed);
	begin_via(r, sk, &regs);
	begin_reissue(a, sk);
}

/* ---- fexit: security/security.c, int security_socket_connect(struct socket *, struct sockaddr *, int) ---- */

static __always_inline void fexit_begin(struct attempt *a, struct socket *sock, struct sock *sk, const void *address, int addrlen)
{
	begin(a, sk, sock->type, address, addrlen, true);
	a->record.c.cookie = tracing_cookie ? bpf_get_socket_cookie(sk) : made_cookie(sk);
}

/*
 * Runs inside of the hook, as the last of the security modules that have a say in connect, and is never left out as
 * fexit_connect may be. It has no say: what it returns, it was given. Not called when a module before it refused.
 */
SEC("lsm/socket_connect")
int lsm_connect(__u64 *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	struct sock *sk = sock->sk;
	struct attempt stack, *a;

	if (!sk) /* never; the verifier asks */
		return 0;
	a = new_attempt(&stack);
	fexit_begin(a, sock, sk, (void *)ctx[1], ctx[2]);
	park(a, &stack);
	return 0;
}

SEC("fexit/security_socket_connect")
int fexit_connect(__u64 *ctx)
{
	struct socket *sock = (struct socket *)ctx[0];
	struct attempt stack, *a = in_flight();
	__u32 tid = bpf_get_current_pid_tgid();
	int ret = ctx[3];

	if (after_lsm) {
		if (a && a->record.c.hook_errno == UNKNOWN_ERRNO) {
			a->record.c.hook_errno = -ret;
			return 0;
		}
		if (!a && bpf_map_lookup_elem(&sent_early, &tid))
			return 0;
	}
	a = new_attempt(&stack);
	fexit_begin(a, sock, sock->sk, (void *)ctx[1], ctx[2]);
	a->record.c.hook_errno = -ret;
	park(a, &stack);
	if (ret && !task_storage) /* __sys_connect_file returns the same at once */
		finish_refused(ret);
	return 0;
}

/*
 * net/socket.c: int __sys_connect_file(struct file *, struct sockaddr_storage *, int addrlen, int file_flags). It has the
 * kernel's copy of the address, too: an attempt that no program at the hook saw begins here.
 */
static __always_inline void fexit_returned(__u64 *ctx, enum row at)
{
	struct file *file = (struct file *)ctx[0];
	struct attempt *a = stored(true);
	struct socket *sock;
	__u32 tid;

	if (!a)
		return;
	if (unmarked(a, at)) {
		if (a->state != ATTEMPT_BEGUN) {
			tid = bpf_get_current_pid_tgid();
			if ((file->f_inode->i_mode & S_IFMT) != S_IFSOCK || bpf_map_lookup_elem(&sent_early, &tid))
				return;
			send_left(a);
			sock = BPF_CORE_READ(file, private_data);
			__builtin_memset(&a->record.c, 0, sizeof(a->record.c));
			begin(a, BPF_CORE_READ(sock, sk), BPF_CORE_READ(sock, type), (void *)ctx[1], ctx[2], false);
			a->record.c.cookie = made_cookie(BPF_CORE_READ(sock, sk));
			count_seen();
		}
		count_rescued(at);
		if (a->record.c.hook_errno == UNKNOWN_ERRNO)
			count(COUNT_NO_VERDICT);
		set_error(a, (int)ctx[4]);
		redirect_by_copy(&a->record, (void *)ctx[1]);
		peer_returned(&a->record, (struct sock *)a->socket.sock, (int)ctx[4]);
		a->state = ATTEMPT_RETURNED;
	}
	if (at == ROW_SENDER && a->state == ATTEMPT_RETURNED) {
		send_connect(&a->record);
		a->state = ATTEMPT_SENT;
	}
}

SEC("fexit/__sys_connect_file")
int fexit_mark(__u64 *ctx)
{
	fexit_returned(ctx, ROW_FIRST);
	return 0;
}

SEC("fexit/__sys_connect_file")
int fexit_mark_again(__u64 *ctx)
{
	fexit_returned(ctx, ROW_SECOND);
	return 0;
}

SEC("fexit/__sys_connect_file")
int fexit_return(__u64 *ctx)
{
	if (returns_in_row)
		fexit_returned(ctx, ROW_SENDER);
	else
		finish((int)ctx[4], (void *)ctx[1]);
	return 0;
}

/* ---- connect(2)'s own return, for fexit (where the above does not fire for it) and kprobe ---- */

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect(struct sys_exit_args *ctx)
{
	finish(ctx->ret, NULL);
	return 0;
}

/* ---- kprobe ---- */

#if defined(__TARGET_ARCH_x86)
#define PARM1(regs) ((regs)->di)
#define PARM2(regs) ((regs)->si)
#define PARM3(regs) ((regs)->dx)
#define RETURNED(regs) ((regs)->ax)
#elif defined(__TARGET_ARCH_arm64)
#define PARM1(ctx) ((ctx)->regs[0])
#define PARM2(ctx) ((ctx)->regs[1])
#define PARM3(ctx) ((ctx)->regs[2])
#define RETURNED(ctx) ((ctx)->regs[0])
#endif

static __always_inline void kprobe_begin(struct socket *sock, const void *address, int addrlen)
{
	struct sock *sk = BPF_CORE_READ(sock, sk);
	struct attempt stack, *a = new_attempt(&stack);

	begin(a, sk, BPF_CORE_READ(sock, type), address, addrlen, false);
	a->record.c.cookie = made_cookie(sk);
	a->address = (__u64)address;
	park(a, &stack);
}

SEC("kprobe/security_socket_connect")
int kprobe_connect(struct kprobe_regs *ctx)
{
	kprobe_begin((struct socket *)PARM1(ctx), (void *)PARM2(ctx), PARM3(ctx));
	return 0;
}

SEC("kretprobe/security_socket_connect")
int kretprobe_connect(struct kprobe_regs *ctx)
{
	struct attempt *a = in_flight();
	int ret = RETURNED(ctx);

	if (!a)
		return 0;
	a->record.c.hook_errno = -ret;
	if (ret) /* __sys_connect_file returns the same at once */
		finish_refused(ret);
	return 0;
}

/* Instead of these two on a kernel without CONFIG_SECURITY_NETWORK, where there is no verdict. */
SEC("kprobe/__sys_connect_file")
int kprobe_connect_file(struct kprobe_regs *ctx)
{
	struct file *file = (struct file *)PARM1(ctx);

	kprobe_begin(BPF_CORE_READ(file, private_data), (void *)PARM2(ctx), PARM3(ctx));
	return 0;
}

/*
 * For io_uring and 32-bit processes. A blocked connect holds an instance of this probe; when none is left, exit_connect
 * still finishes connect(2).
 */
SEC("kretprobe/__sys_connect_file")
int kretprobe_return(struct kprobe_regs *ctx)
{
	struct attempt *a = in_flight();

	if (a) /* the address is in the caller's frame still */
		finish_attempt(a, (int)RETURNED(ctx), (void *)a->address);
	return 0;
}

/* ---- cgroup: BPF_CGROUP_RUN_PROG_INET4_CONNECT and its kin (tcp_v4_pre_connect, udp_pre_connect, unix_stream_connect …) ---- */

/* Before bpf_cast_to_kern_ctx the kernel's copy can only be put together from what the context tells of it. */
static __always_inline void remote_from_ctx(struct connect_large *r, struct bpf_sock_addr *ctx, bool v6)
{
	__u16 family = v6 ? AF_INET6 : AF_INET;
	__be16 port = ctx->user_port;
	__u32 ip[4];
	int len = v6 ? 28 : 16;

	__builtin_memcpy(r->remote, &family, 2);
	__builtin_memcpy(r->remote + 2, &port, 2);
	if (v6) {
		ip[0] = ctx->user_ip6[0];
		ip[1] = ctx->user_ip6[1];
		ip[2] = ctx->user_ip6[2];
		ip[3] = ctx->user_ip6[3];
		__builtin_memcpy(r->remote + 8, ip, 16);
	} else {
		ip[0] = ctx->user_ip4;
		__builtin_memcpy(r->remote + 4, ip, 4);
	}
	r->c.remote_len = r->c.addrlen < len ? r->c.addrlen : len;
}

/* Leaves word for the socket's first change of state: no attempt will be in flight then. */
static __always_inline void announce(const struct connect *c)
{
	struct announced early = {
		.boot_time = c->boot_time,
		.process = c->process,
		.tid = c->tid,
		.login = c->loginuid != (__u32)-1 ? c->loginuid : c->uid,
	};

	if (c->protocol != IPPROTO_TCP)
		return;
	bpf_map_update_elem(&announced, &c->cookie, &early, BPF_ANY);
	announces = 1;
}

static __always_inline int cgroup_begin(struct bpf_sock_addr *ctx, int family)
{
	struct attempt stack, *a = new_attempt(&stack);
	struct connect_large *r = &a->record;
	struct regs regs;

	if (family == AF_UNIX)
		r->c.flags |= CONNECT_LARGE;
	begin_task(&r->c, &regs);
	/* What the caller passed, which the kernel does not say before 6.7. */
	r->c.addrlen = is_connect(&regs) ? (int)regs.arg[2] : family == AF_INET ? 16 : 28;
	if (bpf_ksym_exists(bpf_cast_to_kern_ctx)) {
		struct bpf_sock_addr_kern *kern = bpf_cast_to_kern_ctx(ctx);

		if (!is_connect(&regs) && bpf_core_field_exists(struct bpf_sock_addr_kern, uaddrlen))
			r->c.addrlen = kern->uaddrlen;
		begin_remote(r, kern->uaddr, r->c.addrlen, false);
		begin_via(r, kern->sk, &regs);
		begin_socket(r, kern->sk, ctx->type, true);
		a->socket.sock = (__u64)kern->sk;
	} else {
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();
		struct socket *sock = is_connect(&regs) ? socket_of(task, regs.arg[0]) : NULL;
		struct sock *sk = sock ? BPF_CORE_READ(sock, sk) : NULL;

		remote_from_ctx(r, ctx, family == AF_INET6);
		begin_via(r, sk, &regs);
		r->c.socket_family = ctx->family;
		r->c.type = ctx->type;
		r->c.protocol = ctx->protocol;
		if (sk)
			begin_socket(r, sk, ctx->type, false);
		a->socket.sock = (__u64)sk;
	}
	if (is_connect(&regs))
		requested_by_caller(r, (void *)regs.arg[1]);
	r->c.cookie = bpf_get_socket_cookie(ctx);
	if (r->c.via == VIA_CONNECT && !regs.compat) {
		park(a, &stack);
	} else { /* no tracepoint tells the return */
		r->c.flags |= CONNECT_RETURN_LOST;
		announce(&r->c);
		send_now(a);
	}
	return 1; /* let it pass */
}

SEC("cgroup/connect4")
int cgroup_connect4(struct bpf_sock_addr *ctx)
{
	return cgroup_begin(ctx, AF_INET);
}

SEC("cgroup/connect6")
int cgroup_connect6(struct bpf_sock_addr *ctx)
{
	return cgroup_begin(ctx, AF_INET6);
}

SEC("cgroup/connect_unix") /* 6.7 */
int cgroup_connect_unix(struct bpf_sock_addr *ctx)
{
	return cgroup_begin(ctx, AF_UNIX);
}

/* What the hooks above do not see: the address can only come from the caller's memory, which it may have changed. */
static __always_inline void record_unseen(long ret)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct attempt a = {};
	struct connect_large *r = &a.record;
	struct socket *sock;
	struct regs regs;
	int len;

	begin_task(&r->c, &regs);
	len = regs.arg[2];
	/* net/socket.c, __sys_connect and move_addr_to_kernel: it failed before it reached the socket. */
	if (ret == -EBADF || ret == -ENOTSOCK || ret == -EFAULT || (ret == -EINVAL && (len < 0 || len > SOCKADDR_MAX))) {
		count(COUNT_NOT_ATTEMPTED);
		return;
	}
	r->c.flags |= CONNECT_ADDRESS_FROM_USER;
	sock = socket_of(task, regs.arg[0]);
	if (sock && BPF_CORE_READ(sock, sk, __sk_common.skc_family) == AF_UNIX)
		r->c.flags |= CONNECT_LARGE;
	begin_remote(r, (void *)regs.arg[1], len, true);
	if (sock) {
		struct sock *sk = BPF_CORE_READ(sock, sk);

		begin_socket(r, sk, BPF_CORE_READ(sock, type), false);
		peer_returned(r, sk, ret);
		r->c.cookie = made_cookie(sk);
	}
	r->c.via = VIA_CONNECT;
	r->c.fd = regs.arg[0];
	r->c.error = ret < 0 ? -ret : 0;
	send_now(&a);
}

static __always_inline void mark_unseen(struct sys_exit_args *ctx, enum row at)
{
	struct attempt *a = stored(true);

	if (!a || !unmarked(a, at) || (a->state != ATTEMPT_BEGUN && !all_attached))
		return;
	count_rescued(at);
	if (a->state == ATTEMPT_BEGUN) {
		set_error(a, ctx->ret);
		redirect_returned(a, ctx->ret);
		peer_returned(&a->record, (struct sock *)a->socket.sock, ctx->ret);
		a->state = ATTEMPT_RETURNED;
	} else {
		send_left(a);
		a->state = ATTEMPT_UNSEEN;
	}
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_mark(struct sys_exit_args *ctx)
{
	mark_unseen(ctx, ROW_FIRST);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_mark_again(struct sys_exit_args *ctx)
{
	mark_unseen(ctx, ROW_SECOND);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int exit_connect_unseen(struct sys_exit_args *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();

	if (returns_in_row) {
		struct attempt *a = stored(true);

		mark_unseen(ctx, ROW_SENDER);
		if (a && a->state == ATTEMPT_RETURNED) {
			send_connect(&a->record);
			a->state = ATTEMPT_SENT;
			return 0;
		}
		if (a)
			a->state = ATTEMPT_SENT;
	} else if (finish(ctx->ret, NULL)) {
		return 0;
	}
	if (bpf_map_delete_elem(&sent_early, &tid))
		record_unseen(ctx->ret);
	return 0;
}

#include "event.h"
#include "opened.h"
#include "found.h"
#include "send.h"
#include "frame.h"
#include "unixsend.h"
#include "dns.h"
#include "hello.h"
#include "touch.h"
