/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What can be read of a task: its key, credentials, namespaces, cgroup, and the registers that it entered the kernel with. */
#ifndef CONNTAPE_TASK_H
#define CONNTAPE_TASK_H

#if defined(__TARGET_ARCH_x86)
#define NR_CONNECT 42
#define NR_SENDTO 44
#define NR_SENDMSG 46
#define NR_SENDMMSG 307
#define NR_COMPAT_SOCKETCALL 102 /* arch/x86/entry/syscalls/syscall_32.tbl */
#define NR_COMPAT_CONNECT 362
#define NR_COMPAT_SENDTO 369
#define NR_COMPAT_SENDMSG 370
#define NR_COMPAT_SENDMMSG 345
#define X32_SYSCALL_BIT 0x40000000
#elif defined(__TARGET_ARCH_arm64)
#define NR_CONNECT 203
#define NR_SENDTO 206
#define NR_SENDMSG 211
#define NR_SENDMMSG 269
#define NR_COMPAT_SOCKETCALL (-2) /* EABI has none */
#define NR_COMPAT_CONNECT 283     /* arch/arm/tools/syscall.tbl */
#define NR_COMPAT_SENDTO 290
#define NR_COMPAT_SENDMSG 296
#define NR_COMPAT_SENDMMSG 374
#endif

#define SYS_CONNECT 3 /* include/uapi/linux/net.h: socketcall's first argument */

/* Where the user's registers lie on a kernel stack, for kernels before bpf_task_pt_regs (5.15). */
#define KERNEL_STACK 16384

struct regs {
	bool compat;
	long nr; /* the syscall; -1: none */
	__u64 arg[3];
};

static __always_inline struct process_key key_of(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct process_key key = {
		.start = BPF_CORE_READ(leader, start_boottime),
		.tgid = BPF_CORE_READ(task, tgid),
		.exec = BPF_CORE_READ(leader, self_exec_id),
	};

	return key;
}

static __always_inline __u32 loginuid_of(struct task_struct *task)
{
	if (!bpf_core_field_exists(struct task_struct, loginuid))
		return -1;
	return BPF_CORE_READ(task, loginuid.val);
}

static __always_inline __u32 session_of(struct task_struct *task)
{
	if (!bpf_core_field_exists(struct task_struct, sessionid))
		return -1;
	return BPF_CORE_READ(task, sessionid);
}

/*
 * Before 5.12 io_uring ran offloaded requests in kernel threads that borrow the ring owner's mm (kthread_use_mm):
 * its owner is who is asking. Anything else asks for itself.
 */
static __always_inline struct task_struct *owner_of(struct task_struct *task)
{
	struct mm_struct *mm;
	struct task_struct *owner;

	if (!(BPF_CORE_READ(task, flags) & PF_KTHREAD) || !bpf_core_field_exists(struct mm_struct, owner))
		return task;
	mm = BPF_CORE_READ(task, mm);
	if (!mm)
		return task;
	owner = BPF_CORE_READ(mm, owner);
	return owner ? owner : task;
}

static __always_inline struct pt_regs *pt_regs_of(struct task_struct *task)
{
	/* bpf_core_type_size is that of the running kernel's struct, which is not that of ours. */
	const __u64 top = KERNEL_STACK - bpf_core_type_size(struct pt_regs);

	return (struct pt_regs *)(BPF_CORE_READ(task, stack) + top);
}

/* The syscall that the current user thread is in. A kernel thread or io worker is in none. */
static __always_inline void read_regs(struct task_struct *task, struct regs *r)
{
	struct pt_regs *regs;

	r->compat = false;
	r->nr = -1;
	if (BPF_CORE_READ(task, flags) & (PF_KTHREAD | PF_IO_WORKER))
		return;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	else
		regs = pt_regs_of(task);
#if defined(__TARGET_ARCH_x86)
	r->compat = BPF_CORE_READ(task, thread_info.status) & 2; /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
	r->nr = (int)BPF_CORE_READ(regs, orig_ax);
	if (r->compat) { /* the 32-bit entry's argument registers */
		r->arg[0] = (__u32)BPF_CORE_READ(regs, bx);
		r->arg[1] = (__u32)BPF_CORE_READ(regs, cx);
		r->arg[2] = (__u32)BPF_CORE_READ(regs, dx);
	} else {
		if (r->nr >= 0)
			r->nr &= ~X32_SYSCALL_BIT;
		r->arg[0] = BPF_CORE_READ(regs, di);
		r->arg[1] = BPF_CORE_READ(regs, si);
		r->arg[2] = BPF_CORE_READ(regs, dx);
	}
#elif defined(__TARGET_ARCH_arm64)
	r->compat = BPF_CORE_READ(task, thread_info.flags) & (1 << 22); /* TIF_32BIT, arch/arm64/include/asm/thread_info.h */
	r->nr = BPF_CORE_READ(regs, syscallno);
	r->arg[0] = BPF_CORE_READ(regs, orig_x0);
	r->arg[1] = BPF_CORE_READ(regs, regs[1]);
	r->arg[2] = BPF_CORE_READ(regs, regs[2]);
#endif
}

static __always_inline bool is_connect(const struct regs *r)
{
	return r->nr == (r->compat ? NR_COMPAT_CONNECT : NR_CONNECT);
}

static __always_inline bool is_socketcall(const struct regs *r)
{
	return r->compat && r->nr == NR_COMPAT_SOCKETCALL && r->arg[0] == SYS_CONNECT;
}

static __always_inline bool is_send(const struct regs *r)
{
	if (r->compat)
		return r->nr == NR_COMPAT_SENDTO || r->nr == NR_COMPAT_SENDMSG || r->nr == NR_COMPAT_SENDMMSG;
	return r->nr == NR_SENDTO || r->nr == NR_SENDMSG || r->nr == NR_SENDMMSG;
}

#endif
