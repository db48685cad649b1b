/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The maps, what may happen to each, and how a program counts and hands over. */
#ifndef CONNTAPE_MAPS_H
#define CONNTAPE_MAPS_H

/*
 * Every program writes its finished attempts here and the recorder drains it. Full: the record is dropped and
 * COUNT_LOST says so. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} connects SEC(".maps");

/*
 * exec, fork and exit. A ring of its own, so that a flood of connects cannot push a description out. Full: the record
 * is dropped and COUNT_PROCESS_LOST says so. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} processes SEC(".maps");

struct socket_key {
	__u64 sock;  /* address of the struct sock */
	__u64 inode; /* of the socket, so that a reused address is told apart */
};

/* What a thread's entry in in_flight_storage is. Where it is not BEGUN or RETURNED, only error means something. */
enum attempt_state {
	ATTEMPT_NONE,
	ATTEMPT_BEGUN,    /* in flight */
	ATTEMPT_RETURNED, /* complete, to be sent */
	ATTEMPT_UNSEEN,   /* a connect(2) that no hook saw has returned: to be recorded */
	ATTEMPT_SENT,
};

/* The record comes first: the recorder reads no further. */
struct attempt {
	struct connect_large record;
	struct socket_key socket;
	__u64 address; /* the kernel's copy of the remote address, where its return is told without it (kprobe) */
	__u64 state;   /* in task storage */
};

/*
 * Attempts between the hook and connect's return, with the thread that makes them (it makes one at a time). The hook
 * makes the entry at a thread's first attempt and fills it at each; the return, the next attempt or the thread's exit
 * clears it; the kernel frees it with the thread. It cannot be full; when the kernel has no memory for one, the attempt
 * is sent at once, without a return value, and COUNT_IN_FLIGHT_FULL says so. The recorder walks it through
 * in_flight_snapshot, so that an attempt that hangs is on the tape before it returns.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct attempt);
} in_flight_storage SEC(".maps");

/*
 * The same by tid, on kernels where the backend may not use task storage (before 5.12; cgroup programs before 6.18). The
 * hook inserts; the return, the thread's next attempt or its exit deletes. Full (more threads blocked in connect than
 * entries): as above. Preallocated: a tracing program may not allocate. The loader shrinks it where it is not used.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct attempt);
} in_flight_hash SEC(".maps");

/* Which of the two, set by the loader: storage takes no lock, which is half of what a hash costs a connect. */
const volatile bool task_storage = false;

/* Set by the loader where programs at the return come in a row of several (returned(), attempt.h). */
const volatile bool returns_in_row = false;

/*
 * Threads whose attempt was sent at the hook because no in_flight entry was to be had, by tid. The hook inserts, connect's return
 * deletes. The cgroup backend needs it to tell such a return from that of an attempt which its hook does not see. Full:
 * the oldest goes, and its attempt may then be recorded a second time, with address_source user.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} sent_early SEC(".maps");

/*
 * Sockets whose io_uring connect is in progress: the kernel issues such a request again when the socket is ready. The
 * first return inserts, the second issue deletes. A socket closed in between stays until it is the oldest. Full: the
 * oldest goes, and the second issue of its request would be recorded as an attempt.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct socket_key);
	__type(value, __u8);
} uring_pending SEC(".maps");

/* Set once uring_pending has been used: until then no connect pays for looking there. */
__u32 uring_pends;

/*
 * Attempts on TCP sockets that were sent at the hook since nothing tells their return, by cookie: whose outcome is to come.
 * The cgroup hooks insert, CLOSE>SYN_SENT deletes; one that comes to no SYN stays until it is the oldest. Full: the oldest
 * goes, which matters only if as many threads stand between hook and SYN.
 */
struct announced {
	__u64 boot_time;
	struct process_key process;
	__u32 tid;
	__u32 login;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct announced);
} announced SEC(".maps");

/* Set once it has been used: until then nobody pays for looking there. */
__u32 announces;

/*
 * Counts, by enum counter, a row a CPU (the loader sets how many) and a cache line or two a row. Fixed entries, nothing is
 * inserted or deleted. The recorder reads them through mmap(2): the bpf(2) calls that read a map keep tracepoint and
 * kprobe programs off their CPU until they return (bpf_disable_instrumentation, include/linux/bpf.h).
 */
struct counts {
	__u64 n[COUNTER_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct counts);
} counters SEC(".maps");

/*
 * Fill of the connect ring, in bytes, at which the recorder is woken; below it the recorder polls. A wakeup costs the
 * connecting thread several microseconds, a poll costs it nothing.
 */
const volatile __u32 wakeup_bytes = 4 << 20;

/* Fill of the process ring, in bytes, at which a recorder that sleeps is woken: nobody polls then. */
const volatile __u32 process_wakeup_bytes = 1 << 20;

/*
 * Set by the recorder when it has been idle for so long that it does not poll either. Whoever wakes it clears this, so
 * that one thread pays for the wakeup and those after it do not.
 */
__u32 recorder_sleeps;

/*
 * Set when all hooks are attached. Until then a return without a begin is of a connect that began before this recorder looked, and the
 * program that would record it may be about to come: it is not one that the kernel left out.
 */
__u32 all_attached;

/*
 * The recorder's tgid in the initial pid namespace, which it does not know if it lives in another. process_snapshot, which it
 * runs at its start, sets it.
 */
__u32 recorder_tgid;

/* Where the list of its threads begins, likewise: a struct signal_struct of the kernel. */
__u64 recorder_signal;

static __always_inline void count(__u32 which)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct counts *c = bpf_map_lookup_elem(&counters, &cpu);

	if (c)
		__sync_fetch_and_add(&c->n[which], 1);
}

/* By a record that is never read: a ring without room for it is past its mark, and its reader was woken. */
static __always_inline void wake_recorder(void)
{
	void *nothing;

	recorder_sleeps = 0;
	nothing = bpf_ringbuf_reserve(&connects, 8, 0);
	if (nothing)
		bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
}

/* Of an attempt that begins. The recorder wakes now and not at its end, which may never come. */
static __always_inline void count_seen(void)
{
	count(COUNT_SEEN);
	if (recorder_sleeps)
		wake_recorder();
}

#endif
