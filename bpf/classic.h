/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Exec, fork and exit where the kernel may leave a program out: each of the first two is seen by two of different kinds. */
#ifndef CONNTAPE_CLASSIC_H
#define CONNTAPE_CLASSIC_H

/*
 * The three of process.h as classic tracepoint programs, which run with preemption disabled on every kernel. Those do not
 * since tracepoints are guarded by SRCU (7.0, a46023d5616e), and are then left out where they meet themselves on a CPU
 * (__bpf_trace_run). The loader takes these from 6.12 on, when such programs got to call kfuncs (bc638d8cb5be). They are left
 * out where a bpf(2) call was preempted in the middle of a map (bpf_prog_active): so exec and fork have one of either kind.
 * An exit that is left out is made up for by a walk over all tasks.
 */
extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;

struct told {
	__u64 bprm; /* address of the struct linux_binprm */
	__u64 number; /* self_exec_id of the program that it is of */
	__u64 sent; /* that of the last program whose whole description was sent */
	__u64 child; /* start_boottime of the last child whose fork was sent */
};

/*
 * What the programs of an exec, and of a fork, tell each other. Inserted at a thread's first exec or fork, marked at each, and
 * freed by the kernel with the thread. It cannot be full; without memory for one, the same is sent twice.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct told);
} told SEC(".maps");

/*
 * sched_prepare_exec(struct task_struct *task, struct linux_binprm *bprm), 6.10: keeps what a classic tracepoint is not told.
 * Not at sched_process_exec, where classic programs come first when another tool's perf event was there before us. An exec
 * that fails after this kills the process.
 */
SEC("tp_btf/sched_prepare_exec")
int process_exec_prepare(__u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct told *e = bpf_task_storage_get(&told, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!e)
		return 0;
	e->bprm = ctx[1];
	e->number = task->self_exec_id + 1;
	return 0;
}

/* Whichever comes first sends. One that does not know whether it is a script leaves it to the other to send it again. */
static __always_inline void send_exec_once(__u32 slot, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct told *e = bpf_task_storage_get(&told, task, NULL, 0);
	__u64 number = task->self_exec_id;

	if (e && e->sent == number)
		return;
	if (!bprm && e && e->number == number)
		bprm = (struct linux_binprm *)e->bprm;
	if (e && bprm)
		e->sent = number;
	send_exec(slot, task, bprm);
}

SEC("tracepoint/sched/sched_process_exec")
int process_exec_classic(void *ctx)
{
	send_exec_once(SLOT_EXEC_CLASSIC, NULL);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int process_exec_again(__u64 *ctx)
{
	send_exec_once(SLOT_EXEC, (struct linux_binprm *)ctx[2]);
	return 0;
}

static __always_inline void send_fork_once(struct task_struct *child)
{
	struct task_struct *parent = bpf_get_current_task_btf();
	__u64 start = BPF_CORE_READ(child, start_boottime);
	struct told *e;

	if (BPF_CORE_READ(child, tgid) != BPF_CORE_READ(child, pid))
		return; /* a thread */
	e = bpf_task_storage_get(&told, parent, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (e && e->child == start)
		return;
	if (e)
		e->child = start;
	send_fork(parent, child);
}

SEC("tracepoint/sched/sched_process_fork")
int process_fork_classic(struct trace_event_raw_sched_process_fork *ctx)
{
	struct task_struct *child = bpf_task_from_pid(ctx->child_pid);

	if (!child)
		return 0;
	send_fork_once(child);
	bpf_task_release(child);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int process_fork_again(__u64 *ctx)
{
	send_fork_once((struct task_struct *)ctx[1]);
	return 0;
}

SEC("tracepoint/sched/sched_process_exit")
int process_exit_classic(void *ctx)
{
	send_exit(bpf_get_current_task_btf());
	return 0;
}

#endif
