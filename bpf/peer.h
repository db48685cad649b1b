/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The process at the other end of a UNIX socket that is connected. net/unix/af_unix.c, unix_stream_connect: the socket has
 * taken sk_peer_pid over from the listener when connect returns, which has been the one of whoever called listen(2). Datagrams have
 * none. It lies at the end of the local address, which only a socket bound to a long name needs.
 */
#ifndef CONNTAPE_PEER_H
#define CONNTAPE_PEER_H

#define UNIX_CONNECTED 1 /* TCP_ESTABLISHED: unix_stream_connect sets it */
#define PEER_AT (LOCAL_MAX - sizeof(struct process_key))

/* The process that a pid is of, by its key. After its end only the number is known. */
static __always_inline void read_peer_key(struct process_key *key, struct pid *pid)
{
	struct hlist_node *node = BPF_CORE_READ(pid, tasks[PIDTYPE_TGID].first);
	struct task_struct *task;

	key->tgid = BPF_CORE_READ(pid, numbers[0].nr);
	key->start = 0;
	key->exec = 0;
	if (!node)
		return;
	task = (void *)node - bpf_core_field_offset(struct task_struct, pid_links[PIDTYPE_TGID]);
	if (BPF_CORE_READ(task, tgid) != key->tgid)
		return;
	key->start = BPF_CORE_READ(task, start_boottime);
	key->exec = BPF_CORE_READ(task, self_exec_id);
}

/* Has the record of an attempt that returned say whom it reached. Another thread may have closed the socket since. */
static __always_inline void peer_returned(struct connect_large *r, struct sock *sk, long ret)
{
	struct pid *pid;

	if (ret || r->c.socket_family != AF_UNIX || r->c.local_len > PEER_AT || !bpf_core_field_exists(struct sock, sk_peer_pid))
		return;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) != AF_UNIX || BPF_CORE_READ(sk, __sk_common.skc_state) != UNIX_CONNECTED)
		return;
	pid = BPF_CORE_READ(sk, sk_peer_pid);
	if (!pid)
		return;
	read_peer_key((struct process_key *)(r->local + PEER_AT), pid);
	barrier(); /* in_flight_snapshot may look at any time */
	r->c.flags |= CONNECT_PEER;
}

#endif
