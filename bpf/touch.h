/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What is done to the recorder itself: signals that would end or stop it, and debuggers. */
#ifndef CONNTAPE_TOUCH_H
#define CONNTAPE_TOUCH_H

/* The latest touch of each kind: of several between two looks of the recorder the count is right, and the rest of the last. */
struct touch touches[TOUCHES];

static __always_inline bool is_recorder(struct task_struct *task)
{
	return recorder_tgid && task->tgid == recorder_tgid;
}

static __always_inline void touched(enum touch_kind kind, __u32 what, bool kernel)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct touch *t = &touches[kind];

	if (id >> 32 == recorder_tgid)
		return;
	t->last = bpf_ktime_get_boot_ns();
	t->tgid = id >> 32;
	t->uid = bpf_get_current_uid_gid();
	t->what = what;
	t->kernel = kernel;
	bpf_get_current_comm(&t->comm, sizeof(t->comm));
	__sync_fetch_and_add(&t->n, 1);
	if (recorder_sleeps)
		wake_recorder();
}

#define BIT(n) (1ULL << (n))

/* SIGHUP, INT, QUIT, ILL, TRAP, ABRT, BUS, FPE, KILL, SEGV, TERM, STOP, TSTP, TTIN, TTOU, SYS */
#define ENDS_OR_STOPS                                                                                                  \
	(BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(11) | BIT(15) | BIT(19) | \
	 BIT(20) | BIT(21) | BIT(22) | BIT(31))

#define SIGSTOP 19 /* sent by the kernel for PTRACE_ATTACH alone, while the tracer runs: its doing */
#define SEND_SIG_PRIV 1 /* include/linux/sched/signal.h: in the place of a siginfo, for what the kernel sends */

/* include/trace/events/signal.h: signal_generate(int sig, struct kernel_siginfo *, struct task_struct *, int group, int result) */
SEC("tp_btf/signal_generate")
int touch_signal(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[2];
	__u32 sig = ctx[0];

	if (is_recorder(task) && sig < 64 && (BIT(sig) & ENDS_OR_STOPS))
		touched(TOUCH_SIGNAL, sig, ctx[1] == SEND_SIG_PRIV && sig != SIGSTOP);
	return 0;
}

#define PTRACE_MODE_ATTACH 2 /* include/linux/ptrace.h: to change it, or read its memory; not to look at /proc/PID/maps */

/*
 * security/security.c: int security_ptrace_access_check(struct task_struct *child, unsigned int mode), asked by ptrace(2),
 * process_vm_readv(2), pidfd_getfd(2) and who opens /proc/PID/mem.
 */
SEC("fexit/security_ptrace_access_check")
int touch_memory(__u64 *ctx)
{
	if (is_recorder((struct task_struct *)ctx[0]) && (ctx[1] & PTRACE_MODE_ATTACH))
		touched(TOUCH_MEMORY, ctx[2], false);
	return 0;
}

SEC("kprobe/security_ptrace_access_check")
int touch_memory_kprobe(struct kprobe_regs *ctx)
{
	struct task_struct *child = (struct task_struct *)PARM1(ctx);

	if (recorder_tgid && BPF_CORE_READ(child, tgid) == recorder_tgid && (PARM2(ctx) & PTRACE_MODE_ATTACH))
		touched(TOUCH_MEMORY, 0, false);
	return 0;
}

/*
 * Without trampolines and kprobes: what ptrace(2) and process_vm_readv(2) returned. No tracepoint tells that somebody opens
 * /proc/PID/mem, but that of every open.
 */

#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206

/* The one that is traced last comes first in its tracer's list (kernel/ptrace.c, __ptrace_link). */
SEC("tracepoint/syscalls/sys_exit_ptrace")
int exit_ptrace(struct sys_exit_args *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task(), *tracee;
	struct list_head *newest;
	struct regs r;

	if (ctx->ret || !recorder_tgid)
		return 0;
	current_regs(&r);
	if (r.arg[0] != PTRACE_ATTACH && r.arg[0] != PTRACE_SEIZE)
		return 0;
	newest = BPF_CORE_READ(task, ptraced.next);
	if ((void *)newest == (void *)task + bpf_core_field_offset(struct task_struct, ptraced)) /* it has ended */
		return 0;
	tracee = (void *)newest - bpf_core_field_offset(struct task_struct, ptrace_entry);
	if (BPF_CORE_READ(tracee, tgid) == recorder_tgid)
		touched(TOUCH_MEMORY, 0, false);
	return 0;
}

#define MOST_THREADS 256 /* of the recorder that are looked at; it has a dozen or two */
#define THREADS_AT_ONCE 16
#define THREAD_FOUND 1

/*
 * Looks at some threads of the recorder, from a node of their list on, for one with a number in a pid namespace, which is so many levels deep.
 * Returns THREAD_FOUND, or the node to go on with. A function of its own to the verifier, which so looks at its loop once.
 */
__noinline __u64 look_at_threads(__u64 node, __u64 ns, int nr, __u32 level)
{
	__u64 head = recorder_signal + bpf_core_field_offset(struct signal_struct, thread_head);
	__u64 at = bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);

	for (int i = 0; i < THREADS_AT_ONCE && node && node != head; i++) {
		struct task_struct *thread = (void *)node - bpf_core_field_offset(struct task_struct, thread_node);
		struct pid *pid = BPF_CORE_READ(thread, thread_pid);
		struct upid *upid = (void *)pid + at;

		if (BPF_CORE_READ(pid, level) >= level && BPF_CORE_READ(upid, nr) == nr && (__u64)BPF_CORE_READ(upid, ns) == ns)
			return THREAD_FOUND;
		node = (__u64)BPF_CORE_READ((struct list_head *)node, next);
	}
	return node;
}

/* Whether the current task, in its pid namespace, calls a thread of the recorder by this number. */
static __always_inline bool names_recorder(int nr)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct list_head *head = (void *)recorder_signal + bpf_core_field_offset(struct signal_struct, thread_head);
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	struct upid *upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	__u64 node = 0, ns = (__u64)BPF_CORE_READ(upid, ns);

	if (!recorder_signal || bpf_probe_read_kernel(&node, sizeof(node), &head->next))
		return false;
	for (int i = 0; i < MOST_THREADS / THREADS_AT_ONCE && node && node != (__u64)head; i++) {
		node = look_at_threads(node, ns, nr, level);
		if (node == THREAD_FOUND)
			return true;
	}
	return false;
}

/* For process_vm_readv and process_vm_writev. */
SEC("tracepoint/syscalls/sys_exit_process_vm_readv")
int exit_process_vm(struct sys_exit_args *ctx)
{
	struct regs r;

	if (ctx->ret < 0)
		return 0;
	current_regs(&r);
	if (names_recorder(r.arg[0]))
		touched(TOUCH_MEMORY, 0, false);
	return 0;
}

#endif
