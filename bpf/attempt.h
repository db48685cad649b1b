/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * One attempt, from the hook to connect's return: begin() says who tries what, park() keeps it in in_flight until
 * finish() sends it with what connect returned, or send_now() sends it without.
 */
#ifndef CONNTAPE_ATTEMPT_H
#define CONNTAPE_ATTEMPT_H

/* bpf_get_socket_cookie takes a struct sock in tracing programs from 5.12 (c5dbb89fc2ac); there is no probing for it. */
const volatile bool tracing_cookie = false;

#define SOCK_RAW 3

/* The cookie is made at its first reading; this sees only one that somebody has asked for. */
static __always_inline __u64 made_cookie(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
}

/* The bound address of an inet socket, written as the sockaddr that getsockname(2) would give. */
static __always_inline void read_local_inet(struct connect *c, __u8 *local, struct sock *sk, const bool typed)
{
	/* A raw socket keeps its protocol there (raw_bind, inet_create): it has no port. */
	__u16 port = c->type == SOCK_RAW ? 0 : READ(typed, sk, __sk_common.skc_num);
	__be32 v4 = READ(typed, sk, __sk_common.skc_rcv_saddr);

	if (c->socket_family == AF_INET) {
		if (!port && !v4)
			return;
		__builtin_memcpy(local + 4, &v4, sizeof(v4));
		c->local_len = 16;
	} else {
		__u64 v6[2] = {};

		if (bpf_core_field_exists(struct sock_common, skc_v6_rcv_saddr))
			bpf_core_read(v6, sizeof(v6), &sk->__sk_common.skc_v6_rcv_saddr);
		if (!port && !v6[0] && !v6[1])
			return;
		__builtin_memcpy(local + 8, v6, sizeof(v6));
		c->local_len = 28;
	}
	port = bpf_htons(port);
	__builtin_memcpy(local, &c->socket_family, 2);
	__builtin_memcpy(local + 2, &port, 2);
}

static __always_inline void read_local_unix(struct connect_large *r, struct sock *sk)
{
	struct unix_address *addr = BPF_CORE_READ((struct unix_sock *)sk, addr);
	__u32 len;

	if (!addr)
		return;
	len = BPF_CORE_READ(addr, len);
	barrier_var(len);
	if (len > LOCAL_MAX)
		return;
	if (!bpf_probe_read_kernel(r->local, len, (void *)addr + bpf_core_field_offset(struct unix_address, name)))
		r->c.local_len = len;
}

/* Who tries. The worker that io_uring borrows counts as itself by tid and comm, and as the ring's owner otherwise. */
static __always_inline void begin_task_as(struct connect *c, struct task_struct *task, const bool typed)
{
	struct task_struct *owner = owner_of(task, typed);
	const struct cred *cred = READ(typed, task, cred); /* a worker runs with the credentials of the request */

	c->process = key_of(owner, typed);
	c->cgroup_id = READ(typed, owner, cgroups, dfl_cgrp, kn, id);
	c->tid = READ(typed, task, pid);
	c->uid = READ(typed, cred, uid.val);
	c->gid = READ(typed, cred, gid.val);
	c->euid = READ(typed, cred, euid.val);
	c->loginuid = loginuid_of(owner, typed);
	c->session_id = session_of(owner, typed);
	if (owner != task)
		c->flags |= CONNECT_KERNEL_WORKER;
}

/* Fills in the current task, and the syscall that it is in. */
static __always_inline void begin_task(struct connect *c, struct regs *regs)
{
	struct task_struct *task;

	c->boot_time = bpf_ktime_get_boot_ns();
	c->hook_errno = UNKNOWN_ERRNO;
	c->error = UNKNOWN_ERRNO;
	c->fd = -1;
	bpf_get_current_comm(&c->comm, sizeof(c->comm));
	if (typed_task) {
		task = bpf_get_current_task_btf();
		begin_task_as(c, task, true);
		read_regs(task, regs, true);
	} else {
		task = (struct task_struct *)bpf_get_current_task();
		begin_task_as(c, task, false);
		read_regs(task, regs, false);
	}
}

/* Which socket. */
static __always_inline void begin_kind(struct connect *c, struct sock *sk, short type, const bool typed)
{
	c->socket_family = READ(typed, sk, __sk_common.skc_family);
	c->type = type;
	c->protocol = READ(typed, sk, sk_protocol);
	c->netns = READ(typed, sk, __sk_common.skc_net.net, ns.inum);
}

/* Which socket, and what it is bound to. Wants flags' CONNECT_LARGE to be settled. */
static __always_inline void begin_socket(struct connect_large *r, struct sock *sk, short type, const bool typed)
{
	begin_kind(&r->c, sk, type, typed);
	if (r->c.socket_family == AF_UNIX) {
		if (r->c.flags & CONNECT_LARGE)
			read_local_unix(r, sk);
	} else if (r->c.socket_family == AF_INET || r->c.socket_family == AF_INET6) {
		read_local_inet(&r->c, local_of(r), sk, typed);
	}
}

/* Whether the kernel made the socket for itself. Some of those have a file as well (nvme_tcp_alloc_queue, 6.7). */
static __always_inline bool is_kernels(struct sock *sk)
{
	struct socket *sock = BPF_CORE_READ(sk, sk_socket);

	return !sock || !BPF_CORE_READ(sock, file) || BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock);
}

/*
 * How it was issued. What connects a user's socket outside of a connect
 * or send syscall is io_uring: in its worker, in its polling thread, in io_uring_enter or in task work on the way out
 * of any other syscall.
 */
static __always_inline void begin_via(struct connect_large *r, struct sock *sk, const struct regs *regs)
{
	if (is_connect(regs)) {
		r->c.via = VIA_CONNECT;
		r->c.fd = regs->arg[0];
		return;
	}
	if (is_socketcall(regs)) {
		__u32 args[1] = {};

		r->c.via = VIA_SOCKETCALL;
		if (!bpf_probe_read_user(args, sizeof(args), (void *)regs->arg[1]))
			r->c.fd = args[0];
		return;
	}
	if (sk && is_kernels(sk)) {
		r->c.via = VIA_KERNEL;
	} else if (is_send(regs)) {
		r->c.via = VIA_FASTOPEN;
		r->c.fd = regs->arg[0];
	} else {
		r->c.via = VIA_IO_URING;
	}
}

/*
 * The address: of len bytes, never one more. By its kernel copy, which nobody can change meanwhile, or where no hook has
 * seen that, by the caller's memory.
 */
static __always_inline void begin_remote(struct connect_large *r, const void *address, int len, bool user)
{
	__u32 size = len;
	long err;

	r->c.addrlen = len;
	if (len <= 0)
		return;
	if (size > SOCKADDR_MAX)
		size = SOCKADDR_MAX;
	if (size > SOCKADDR_SMALL)
		r->c.flags |= CONNECT_LARGE;
	barrier_var(size); /* or the compiler moves the bound to where the verifier does not see it */
	if (size > SOCKADDR_MAX)
		return;
	err = user ? bpf_probe_read_user(r->remote, size, address) : bpf_probe_read_kernel(r->remote, size, address);
	if (err)
		r->c.flags |= CONNECT_ADDRESS_FAULT;
	else
		r->c.remote_len = size;
}

/* Marks the second issue of an io_uring request. Wants via. */
static __always_inline void begin_reissue(struct attempt *a, struct sock *sk)
{
	struct socket *sock;
	struct connect_large *r = &a->record;

	a->socket.sock = (__u64)sk;
	if (r->c.via == VIA_KERNEL || (r->c.via != VIA_IO_URING && !uring_pends))
		return;
	sock = BPF_CORE_READ(sk, sk_socket);
	a->socket.inode = BPF_CORE_READ((struct socket_alloc *)sock, vfs_inode.i_ino);
	if (!uring_pends || bpf_map_delete_elem(&uring_pending, &a->socket))
		return;
	r->c.via = VIA_IO_URING; /* task work on the way out of connect(2) looks like it */
	r->c.fd = -1;
	r->c.flags |= CONNECT_REISSUE;
	count(COUNT_REISSUED);
}

/* Wakes only on the record that crosses the mark: behind it the recorder is awake, or its poll is due. */
static __always_inline __u64 wakeup_flags(__u64 fill, __u32 size)
{
	return fill >= wakeup_bytes && fill < wakeup_bytes + size + 8 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void send_connect(struct connect_large *r)
{
	__u64 fill = bpf_ringbuf_query(&connects, BPF_RB_AVAIL_DATA);
	__u32 size = r->c.flags & CONNECT_LARGE ? sizeof(struct connect_large) : offsetof(struct connect_small, requested);
	int level = LEVELS;
	long err;

	if (!below_mark(RING_CONNECTS, fill, connects_mark)) {
		level = take_connect(&r->c, size);
		if (level != LEVELS) {
			lose_connect(&r->c, level);
			count(COUNT_LOST);
			return;
		}
	}
	if (r->c.flags & CONNECT_LARGE)
		err = bpf_ringbuf_output(&connects, r, sizeof(struct connect_large), wakeup_flags(fill, sizeof(struct connect_large)));
	else if (r->c.flags & CONNECT_REDIRECTED)
		err = bpf_ringbuf_output(&connects, r, sizeof(struct connect_small), wakeup_flags(fill, sizeof(struct connect_small)));
	else
		err = bpf_ringbuf_output(&connects, r, offsetof(struct connect_small, requested),
					 wakeup_flags(fill, offsetof(struct connect_small, requested)));
	if (err)
		lose_connect(&r->c, LEVEL_PROCESS);
	count(err ? COUNT_LOST : COUNT_SENT);
}

static __always_inline void send_now(struct attempt *a)
{
	count_seen();
	send_connect(&a->record);
}

/* What the current thread has in task storage, or NULL. */
static __always_inline struct attempt *stored(bool create)
{
	return bpf_task_storage_get(&in_flight_storage, bpf_get_current_task_btf(), NULL, create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
}

/* The current thread's attempt in flight, or NULL. */
static __always_inline struct attempt *in_flight(void)
{
	struct attempt *a;
	__u32 tid;

	if (task_storage) {
		a = stored(false);
		return a && a->state == ATTEMPT_BEGUN ? a : NULL;
	}
	tid = bpf_get_current_pid_tgid();
	return bpf_map_lookup_elem(&in_flight_hash, &tid);
}

/* Of an attempt whose return nobody saw. */
static __always_inline void send_abandoned(struct attempt *a)
{
	count(COUNT_ABANDONED);
	a->record.c.flags |= CONNECT_RETURN_LOST;
	send_connect(&a->record);
}

/* Sends what an earlier return left, if no program came to that. */
static __always_inline void send_left(struct attempt *a)
{
	if (a->state == ATTEMPT_BEGUN)
		send_abandoned(a);
	else if (a->state == ATTEMPT_RETURNED)
		send_connect(&a->record);
	else if (a->state == ATTEMPT_UNSEEN)
		count(COUNT_UNSEEN_LOST);
	a->state = ATTEMPT_NONE;
}

/* The current thread's attempt returns no more, or another begins. */
static __always_inline void abandon(void)
{
	struct attempt *a;
	__u32 tid;

	if (task_storage) {
		a = stored(false);
		if (a)
			send_left(a);
		return;
	}
	tid = bpf_get_current_pid_tgid();
	a = bpf_map_lookup_elem(&in_flight_hash, &tid);
	if (!a)
		return;
	send_abandoned(a);
	bpf_map_delete_elem(&in_flight_hash, &tid);
}

/*
 * Where the current thread's attempt is to be put together: in its task storage, or where there is none on the stack.
 * Of the former only the header is cleared: what is behind its lengths is not read.
 */
static __always_inline struct attempt *new_attempt(struct attempt *stack)
{
	struct attempt *a;

	if (task_storage) {
		a = stored(true);
		if (a) {
			send_left(a);
			__builtin_memset(&a->record.c, 0, sizeof(a->record.c));
			return a;
		}
	}
	__builtin_memset(stack, 0, sizeof(*stack));
	return stack;
}

/* Keeps the current thread's attempt until it returns. */
static __always_inline void park(struct attempt *a, struct attempt *stack)
{
	__u32 tid = a->record.c.tid;
	__u8 one = 1;

	count_seen();
	if (a != stack) {
		barrier(); /* in_flight_snapshot may look at any time */
		a->state = ATTEMPT_BEGUN;
		return;
	}
	if (!task_storage) {
		if (!bpf_map_update_elem(&in_flight_hash, &tid, a, BPF_NOEXIST))
			return;
		abandon(); /* an earlier one whose return went unseen */
		if (!bpf_map_update_elem(&in_flight_hash, &tid, a, BPF_NOEXIST))
			return;
	}
	count(COUNT_IN_FLIGHT_FULL);
	a->record.c.flags |= CONNECT_RETURN_LOST;
	bpf_map_update_elem(&sent_early, &tid, &one, BPF_ANY);
	send_connect(&a->record);
}

/* What connect returned, into its record. */
static __always_inline void set_error(struct attempt *a, long ret)
{
	__u8 one = 1;

	a->record.c.error = ret < 0 ? -ret : 0;
	if (a->record.c.via == VIA_IO_URING && (ret == -EINPROGRESS || ret == -EAGAIN)) {
		bpf_map_update_elem(&uring_pending, &a->socket, &one, BPF_ANY);
		uring_pends = 1;
	}
}

/*
 * Where an attempt went, when nothing shows the kernel's copy of the address. Of TCP that is known since SYN_SENT (outcome.h).
 * Another thread may have closed the socket since.
 */
static __always_inline void redirect_returned(struct attempt *a, long ret)
{
	struct sock *sk = (struct sock *)a->socket.sock;

	if (!ret && a->record.c.protocol != IPPROTO_TCP && a->record.c.protocol != IPPROTO_MPTCP && made_cookie(sk) == a->record.c.cookie)
		redirect_by_socket(&a->record, sk, false);
}

/* Sends an attempt with what connect returned. */
static __always_inline void hand_over(struct attempt *a, long ret)
{
	__u32 tid;

	set_error(a, ret);
	send_connect(&a->record);
	if (task_storage) {
		a->state = ATTEMPT_SENT;
	} else {
		tid = bpf_get_current_pid_tgid();
		bpf_map_delete_elem(&in_flight_hash, &tid);
	}
}

/* Likewise; copy: the kernel's copy of its address as it is by now, NULL where it is gone. */
static __always_inline void finish_attempt(struct attempt *a, long ret, const void *copy)
{
	if (copy)
		redirect_by_copy(&a->record, copy);
	else
		redirect_returned(a, ret);
	peer_returned(&a->record, (struct sock *)a->socket.sock, ret);
	hand_over(a, ret);
}

/* Sends the current thread's attempt that the hook refused: it went nowhere. */
static __always_inline void finish_refused(long ret)
{
	struct attempt *a = in_flight();

	if (a)
		hand_over(a, ret);
}

/* Sends the current thread's attempt. False: there is none. */
static __always_inline bool finish(long ret, const void *copy)
{
	struct attempt *a = in_flight();

	if (!a)
		return false;
	finish_attempt(a, ret, copy);
	return true;
}

/*
 * From 5.12 on the kernel leaves a program out when it meets itself on a CPU, which it does where a thread was preempted
 * inside it and another comes by (kernel/bpf/trampoline.c, __bpf_prog_enter_recur; for the tracepoints of system calls
 * since 7.2, trace_call_bpf_faultable). So where kernel code can be preempted there are three at a return, each guarded by
 * itself: two that only mark what returned, and are over in an instant, and the one that sends. Whatever finds the mark
 * missing makes up for it; if the sender is left out, the thread's next attempt, its exit or in_flight_snapshot sends.
 * The first to run counts nothing: its misses, less what the others made up for, are the returns that nobody saw.
 */
enum row {
	ROW_FIRST,
	ROW_SECOND,
	ROW_SENDER,
};

/* Whether no program before this one has dealt with the return. */
static __always_inline bool unmarked(struct attempt *a, enum row at)
{
	return at == ROW_FIRST || (a->state != ATTEMPT_RETURNED && a->state != ATTEMPT_UNSEEN);
}

static __always_inline void count_rescued(enum row at)
{
	if (at != ROW_FIRST && returns_in_row)
		count(COUNT_RESCUED);
}

#endif
