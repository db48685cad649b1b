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

#define SEND_SIG_PRIV 1 /* include/linux/sched/signal.h: in the place of a siginfo, for what the kernel sends */

/* include/trace/events/signal.h: signal_generate(int sig, struct kernel_siginfo *, struct task_struct *, int group, int result) */
SEC("tp_btf/signal_generate")
int touch_signal(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[2];
	__u32 sig = ctx[0];

	if (is_recorder(task) && sig < 64 && (BIT(sig) & ENDS_OR_STOPS))
		touched(TOUCH_SIGNAL, sig, ctx[1] == SEND_SIG_PRIV);
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

#endif
