/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What can be read of a task: its key, credentials, namespaces, cgroup, and the registers that it entered the kernel with. */
#ifndef CONNTAPE_TASK_H
#define CONNTAPE_TASK_H

#if defined(__TARGET_ARCH_x86)
#define NR_WRITE 1
#define NR_WRITEV 20
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
#define NR_WRITE 64
#define NR_WRITEV 66
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

#define NR_IO_URING_ENTER 426 /* everywhere */

#define SYS_CONNECT 3 /* include/uapi/linux/net.h: socketcall's first argument */

/*
 * Whether a pointer is one whose type the verifier knows: then a plain load does (the kernel catches its fault), which
 * costs a tenth of a call to bpf_probe_read_kernel. For the current task that needs bpf_get_current_task_btf, 5.11.
 */
#define READ(typed, src, ...) ((typed) ? ___arrow(src, __VA_ARGS__) : BPF_CORE_READ(src, __VA_ARGS__))

/* Set by the loader. */
const volatile bool typed_task = false;

/* Where the user's registers lie on a kernel stack, for kernels before bpf_task_pt_regs (5.15). */
#define KERNEL_STACK 16384

struct regs {
	bool compat;
	long nr; /* the syscall; -1: none */
	__u64 arg[3];
};

static __always_inline struct process_key key_of(struct task_struct *task, const bool typed)
{
	struct task_struct *leader = READ(typed, task, group_leader);
	struct process_key key = {
		.start = READ(typed, leader, start_boottime),
		.tgid = READ(typed, task, tgid),
		.exec = READ(typed, leader, self_exec_id),
	};

	return key;
}

static __always_inline __u32 loginuid_of(struct task_struct *task, const bool typed)
{
	if (!bpf_core_field_exists(struct task_struct, loginuid))
		return -1;
	return READ(typed, task, loginuid.val);
}

static __always_inline __u32 session_of(struct task_struct *task, const bool typed)
{
	if (!bpf_core_field_exists(struct task_struct, sessionid))
		return -1;
	return READ(typed, task, sessionid);
}

/*
 * Before 5.12 io_uring ran offloaded requests in kernel threads that borrow the ring owner's mm (kthread_use_mm):
 * its owner is who is asking. Anything else asks for itself.
 */
static __always_inline struct task_struct *owner_of(struct task_struct *task, const bool typed)
{
	struct mm_struct *mm;
	struct task_struct *owner;

	if (!(READ(typed, task, flags) & PF_KTHREAD) || !bpf_core_field_exists(struct mm_struct, owner))
		return task;
	mm = READ(typed, task, mm);
	if (!mm)
		return task;
	owner = READ(typed, mm, owner);
	return owner ? owner : task;
}

static __always_inline void read_regs_of(struct pt_regs *regs, struct task_struct *task, struct regs *r, const bool typed)
{
#if defined(__TARGET_ARCH_x86)
	r->compat = READ(typed, task, thread_info.status) & 2; /* TS_COMPAT, arch/x86/include/asm/thread_info.h */
	r->nr = (int)READ(typed, regs, orig_ax);
	if (r->compat) { /* the 32-bit entry's argument registers */
		r->arg[0] = (__u32)READ(typed, regs, bx);
		r->arg[1] = (__u32)READ(typed, regs, cx);
		r->arg[2] = (__u32)READ(typed, regs, dx);
	} else {
		if (r->nr >= 0)
			r->nr &= ~X32_SYSCALL_BIT;
		r->arg[0] = READ(typed, regs, di);
		r->arg[1] = READ(typed, regs, si);
		r->arg[2] = READ(typed, regs, dx);
	}
#elif defined(__TARGET_ARCH_arm64)
	r->compat = READ(typed, task, thread_info.flags) & (1 << 22); /* TIF_32BIT, arch/arm64/include/asm/thread_info.h */
	r->nr = READ(typed, regs, syscallno);
	r->arg[0] = READ(typed, regs, orig_x0);
	r->arg[1] = READ(typed, regs, regs[1]);
	r->arg[2] = READ(typed, regs, regs[2]);
#endif
}

/* The syscall that the current user thread is in. A kernel thread or io worker is in none. */
static __always_inline void read_regs(struct task_struct *task, struct regs *r, const bool typed)
{
	*r = (struct regs){ .nr = -1 };
	if (READ(typed, task, flags) & (PF_KTHREAD | PF_IO_WORKER))
		return;
	if (typed && bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs)) {
		read_regs_of((struct pt_regs *)bpf_task_pt_regs(task), task, r, true);
	} else {
		/* bpf_core_type_size is that of the running kernel's struct, which is not that of ours. */
		__u64 top = (__u64)READ(typed, task, stack) + KERNEL_STACK - bpf_core_type_size(struct pt_regs);

		read_regs_of((struct pt_regs *)top, task, r, false);
	}
}

static __always_inline void current_regs(struct regs *r)
{
	if (typed_task)
		read_regs(bpf_get_current_task_btf(), r, true);
	else
		read_regs((struct task_struct *)bpf_get_current_task(), r, false);
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

/* The socket behind a file descriptor of the current task, or NULL. Another thread may have replaced it since. */
static __always_inline struct socket *socket_of(struct task_struct *task, int fd)
{
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;

	if (fd < 0 || fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(fdt, fd) + fd);
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	return BPF_CORE_READ(file, private_data);
}

#endif
