/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The life of processes: described at exec before the new program runs, at fork, at exit, and once at the start. */
#ifndef CONNTAPE_PROCESS_H
#define CONNTAPE_PROCESS_H

#define PATH_BYTES 4096 /* of one path: PATH_MAX */
#define PATH_STEPS 2048 /* of one path, components and mounts together: more of them do not fit into PATH_BYTES */
#define STEPS_AT_ONCE 16
#define NAME_BYTES 256  /* of one component with its NUL: NAME_MAX + 1 */
#define ARGV_BYTES 4096
#define ARGV_CUT 256 /* what is left of arguments under a flood */
#define TEXT_BYTES (5 * PATH_BYTES) /* exe, cwd, cgroup, filename, argv */
#define SUBSYSTEMS 16               /* more than any kernel's CGROUP_SUBSYS_COUNT */
#define PIDTYPE_TGID 1

struct description {
	struct process p;
	__u8 text[TEXT_BYTES];
	__u32 used; /* bytes of text; kept here rather than in a register, so that all turns of a loop look alike to the verifier */
	struct dentry *dentry;
	struct mount *mnt;
	struct kernfs_node *kn;
};

enum description_slot {
	SLOT_EXEC,
	SLOT_EXEC_CLASSIC,
	SLOT_SNAPSHOT,
	SLOT_IN_FLIGHT,
	SLOTS,
};

/*
 * Where a description is put together before it is sent: too large for the stack. One a CPU and program, and the kernel
 * does not let a program interrupt itself on a CPU. Fixed entries.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct description);
} descriptions SEC(".maps");

/* Appends a name with its NUL. False: it does not fit, or could not be read. */
static __always_inline bool append_name(struct description *d, __u32 from, const void *name)
{
	__u32 off = d->used;
	long n;

	if (off > TEXT_BYTES - NAME_BYTES || off - from > PATH_BYTES - NAME_BYTES)
		return false;
	n = bpf_probe_read_kernel_str(&d->text[off], NAME_BYTES, name);
	if (n <= 0)
		return false;
	d->used = off + n;
	return true;
}

/* The root is one empty component, so that it is not the same as no path. */
static __always_inline void append_root(struct description *d, __u32 from)
{
	__u32 off = d->used;

	if (off != from || off >= TEXT_BYTES)
		return;
	d->text[off] = 0;
	d->used = off + 1;
}

enum walk { WALK_ON, WALK_ENDED, WALK_CUT };

/*
 * Some steps from a dentry up. The verifier looks at a function of its own once, so that it goes through the turns of this loop and not
 * through all those of a path, which would take a third of the time that loading all programs takes.
 */
__noinline int climb_path(__u32 slot, __u32 from)
{
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);
	int i;

	if (!d)
		return WALK_ENDED;
	for (i = 0; i < STEPS_AT_ONCE; i++) {
		struct dentry *at = d->dentry, *parent = BPF_CORE_READ(at, d_parent);
		struct mount *mnt = d->mnt;

		if (at == BPF_CORE_READ(mnt, mnt.mnt_root)) {
			struct mount *up = BPF_CORE_READ(mnt, mnt_parent);

			if (up == mnt)
				return WALK_ENDED;
			d->dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
			d->mnt = up;
			continue;
		}
		if (!append_name(d, from, BPF_CORE_READ(at, d_name.name)))
			return WALK_CUT;
		if (at == parent) /* a file outside of any tree: a memfd's */
			return WALK_ENDED;
		d->dentry = parent;
	}
	return WALK_ON;
}

/*
 * Appends the path of a dentry in a mount, from the leaf up, across mounts to the root of the mount namespace. This is
 * what d_path gives a process that has not changed its root. Returns how the walk ended: 0, or 1 when the path was cut.
 */
__noinline int append_path(__u32 slot, __u64 dentry, __u64 vfsmount)
{
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);
	int i, walk = WALK_ON;
	__u32 from;

	if (!d || !dentry)
		return 0;
	from = d->used;
	d->dentry = (struct dentry *)dentry;
	d->mnt = (struct mount *)(vfsmount - bpf_core_field_offset(struct mount, mnt));
	for (i = 0; i < PATH_STEPS / STEPS_AT_ONCE && walk == WALK_ON; i++)
		walk = climb_path(slot, from);
	if (walk == WALK_CUT)
		return 1;
	append_root(d, from);
	return walk == WALK_ON;
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn)
{
	struct kernfs_node___parent *before = (void *)kn;
	struct kernfs_node___rcu *since = (void *)kn;

	if (bpf_core_field_exists(struct kernfs_node___rcu, __parent))
		return BPF_CORE_READ(since, __parent);
	return BPF_CORE_READ(before, parent);
}

/* Some steps from a cgroup up, as climb_path. */
__noinline int climb_cgroup(__u32 slot, __u32 from)
{
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);
	int i;

	if (!d)
		return WALK_ENDED;
	for (i = 0; i < STEPS_AT_ONCE; i++) {
		struct kernfs_node *at = d->kn, *parent = kernfs_parent(at);

		if (!parent)
			return WALK_ENDED;
		if (!append_name(d, from, BPF_CORE_READ(at, name)))
			return WALK_CUT;
		d->kn = parent;
	}
	return WALK_ON;
}

/* Appends a cgroup's path, from the leaf up. Returns as append_path does. */
__noinline int append_cgroup(__u32 slot, __u64 kn)
{
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);
	int i, walk = WALK_ON;
	__u32 from;

	if (!d || !kn)
		return 0;
	from = d->used;
	d->kn = (struct kernfs_node *)kn;
	for (i = 0; i < PATH_STEPS / STEPS_AT_ONCE && walk == WALK_ON; i++)
		walk = climb_cgroup(slot, from);
	if (walk == WALK_CUT)
		return 1;
	append_root(d, from);
	return walk == WALK_ON;
}

/* The task's cgroup v2; where that is the root, as on hosts that still use v1, the first v1 hierarchy's that is not. */
static __always_inline struct kernfs_node *cgroup_of(struct task_struct *task)
{
	struct css_set *cset = BPF_CORE_READ(task, cgroups);
	struct kernfs_node *kn = BPF_CORE_READ(cset, dfl_cgrp, kn);
	int i;

	if (kernfs_parent(kn))
		return kn;
	for (i = 0; i < SUBSYSTEMS; i++) {
		struct cgroup_subsys_state *css = NULL;
		struct kernfs_node *v1;

		if (i >= bpf_core_field_size(struct css_set, subsys) / sizeof(void *))
			break;
		bpf_probe_read_kernel(&css, sizeof(css),
				      (void *)cset + bpf_core_field_offset(struct css_set, subsys) + i * sizeof(void *));
		if (!css)
			continue;
		v1 = BPF_CORE_READ(css, cgroup, kn);
		if (v1 && kernfs_parent(v1))
			return v1;
	}
	return kn;
}

static __always_inline void describe_ids(struct process *p, struct task_struct *task)
{
	const struct cred *cred = BPF_CORE_READ(task, real_cred);
	struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	struct nsproxy *ns = BPF_CORE_READ(task, nsproxy);
	struct upid *upid;

	p->boot_time = bpf_ktime_get_boot_ns();
	p->key = key_of(task, false);
	p->uid = BPF_CORE_READ(cred, uid.val);
	p->gid = BPF_CORE_READ(cred, gid.val);
	p->euid = BPF_CORE_READ(cred, euid.val);
	p->userns = BPF_CORE_READ(cred, user_ns, ns.inum);
	p->loginuid = loginuid_of(task, false);
	p->session_id = session_of(task, false);
	p->cgroup_id = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	upid = (void *)pid + bpf_core_field_offset(struct pid, numbers) + BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
	p->pid_in_ns = BPF_CORE_READ(upid, nr);
	p->pidns = BPF_CORE_READ(upid, ns, ns.inum);
	p->mntns = BPF_CORE_READ(ns, mnt_ns, ns.inum);
	p->netns = BPF_CORE_READ(ns, net_ns, ns.inum);
	p->utsns = BPF_CORE_READ(ns, uts_ns, ns.inum);
	p->ipcns = BPF_CORE_READ(ns, ipc_ns, ns.inum);
	p->cgroupns = BPF_CORE_READ(ns, cgroup_ns, ns.inum);
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD)
		p->flags |= PROCESS_KERNEL_THREAD;
	BPF_CORE_READ_INTO(&p->comm, task, comm);
}

/* memfd_create(2) names its file "memfd:" and the caller's name, on the kernel's own tmpfs mount. */
static __always_inline bool is_memfd(struct file *exe, struct dentry *dentry)
{
	const char memfd[6] = "memfd:";
	char name[6] = {};
	int i;

	if (!(BPF_CORE_READ(exe, f_path.mnt, mnt_flags) & MNT_INTERNAL) ||
	    BPF_CORE_READ(exe, f_inode, i_sb, s_magic) != TMPFS_MAGIC)
		return false;
	bpf_probe_read_kernel(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	for (i = 0; i < (int)sizeof(name); i++)
		if (name[i] != memfd[i])
			return false;
	return true;
}

/* The time of an inode's last change, ns since the epoch. Since 6.13 the highest bit of the nanoseconds is a mark (I_CTIME_QUERIED). */
static __always_inline __u64 ctime_of(struct inode *inode)
{
	struct inode___before *before = (void *)inode;
	struct inode___renamed *renamed = (void *)inode;
	struct inode___split *split = (void *)inode;

	if (bpf_core_field_exists(struct inode___split, i_ctime_sec))
		return BPF_CORE_READ(split, i_ctime_sec) * 1000000000ULL + (BPF_CORE_READ(split, i_ctime_nsec) & 0x7fffffff);
	if (bpf_core_field_exists(struct inode___renamed, __i_ctime))
		return BPF_CORE_READ(renamed, __i_ctime.tv_sec) * 1000000000ULL + BPF_CORE_READ(renamed, __i_ctime.tv_nsec);
	return BPF_CORE_READ(before, i_ctime.tv_sec) * 1000000000ULL + BPF_CORE_READ(before, i_ctime.tv_nsec);
}

/* Fills the header and exe, cwd and cgroup behind it. */
static __always_inline void describe(struct description *d, __u32 slot, struct task_struct *task)
{
	struct process *p = &d->p;
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	__u32 from;

	__builtin_memset(p, 0, sizeof(*p));
	d->used = 0;
	describe_ids(p, task);
	p->parent = key_of(BPF_CORE_READ(task, real_parent), false);
	if (exe) {
		struct dentry *dentry = BPF_CORE_READ(exe, f_path.dentry);
		struct inode *inode = BPF_CORE_READ(exe, f_inode);

		p->exe_inode = BPF_CORE_READ(inode, i_ino);
		p->exe_device = BPF_CORE_READ(inode, i_sb, s_dev);
		p->exe_ctime = ctime_of(inode);
		p->exe_size = BPF_CORE_READ(inode, i_size);
		p->exe_fs = BPF_CORE_READ(inode, i_sb, s_magic);
		if (is_memfd(exe, dentry))
			p->flags |= PROCESS_EXE_MEMFD;
		else if (!BPF_CORE_READ(dentry, d_hash.pprev) || !BPF_CORE_READ(inode, i_nlink))
			p->flags |= PROCESS_EXE_DELETED;
		if (append_path(slot, (__u64)dentry, (__u64)BPF_CORE_READ(exe, f_path.mnt)))
			p->flags |= PROCESS_EXE_TRUNCATED;
		p->exe_len = d->used;
	}
	from = d->used;
	if (append_path(slot, (__u64)BPF_CORE_READ(task, fs, pwd.dentry), (__u64)BPF_CORE_READ(task, fs, pwd.mnt)))
		p->flags |= PROCESS_CWD_TRUNCATED;
	p->cwd_len = d->used - from;
	from = d->used;
	if (append_cgroup(slot, (__u64)cgroup_of(task)))
		p->flags |= PROCESS_CGROUP_TRUNCATED;
	p->cgroup_len = d->used - from;
}

/* A script's own path, as execve got it: exe is its interpreter. */
static __always_inline void describe_script(struct description *d, struct linux_binprm *bprm)
{
	const char *filename = BPF_CORE_READ(bprm, filename);
	__u32 off = d->used;
	long n;

	if (filename == BPF_CORE_READ(bprm, interp) || off > TEXT_BYTES - PATH_BYTES)
		return;
	n = bpf_probe_read_kernel_str(&d->text[off], PATH_BYTES, filename);
	if (n <= 0)
		return;
	d->p.flags |= PROCESS_SCRIPT;
	d->p.filename_len = n - 1; /* without its NUL */
	d->used = off + n - 1;
}

static __always_inline void describe_argv(struct description *d, struct task_struct *task)
{
	__u64 start = BPF_CORE_READ(task, mm, arg_start);
	__u64 total = BPF_CORE_READ(task, mm, arg_end) - start;
	__u32 len = total < ARGV_BYTES ? total : ARGV_BYTES;
	__u32 off = d->used;

	d->p.argv_total = total;
	if (off > TEXT_BYTES - ARGV_BYTES || len > ARGV_BYTES)
		return;
	if (bpf_probe_read_user(&d->text[off], len, (void *)start)) {
		d->p.flags |= PROCESS_ARGV_FAULT;
		return;
	}
	d->p.argv_len = len;
	d->used = off + len;
}

/* Whether a record may be sent above the mark. */
static __noinline int take_process(struct process *p, __u32 size)
{
	struct allowance_key *key = first_key(RING_PROCESSES, &p->key);

	if (!key)
		return true;
	if (!take(key, size, processes_allowance))
		return false;
	key->level = LEVEL_FAMILY;
	key->a = p->parent.start;
	key->b = p->parent.tgid;
	return take_kin(key, size, processes_allowance, &p->cgroup_id, &p->uid, &p->loginuid) == LEVELS;
}

/*
 * An exit is always sent: it is small, and frees what the recorder keeps. So is a fork, of which there is one a process. An
 * exec beyond its allowance loses its arguments, and above three quarters of the ring is not sent.
 */
static __always_inline void send_process(struct process *p, __u32 size)
{
	__u64 fill = bpf_ringbuf_query(&processes, BPF_RB_AVAIL_DATA);
	__u32 argv = p->argv_len;

	count(COUNT_PROCESS_SEEN);
	if (!below_mark(RING_PROCESSES, fill, processes_mark) && p->kind == PROCESS_EXEC && !take_process(p, size)) {
		if (fill >= processes_mark + processes_mark / 2) {
			count(COUNT_PROCESS_LOST);
			return;
		}
		if (argv > ARGV_CUT) {
			p->argv_len = ARGV_CUT;
			size -= argv - ARGV_CUT;
		}
	}
	if (size > sizeof(struct process) + TEXT_BYTES)
		return;
	count(bpf_ringbuf_output(&processes, p, size, BPF_RB_NO_WAKEUP) ? COUNT_PROCESS_LOST : COUNT_PROCESS_SENT);
	if ((recorder_sleeps && fill >= process_wakeup_bytes) || (fill < process_wakeup_bytes && fill + size >= process_wakeup_bytes))
		wake_recorder();
}

static __always_inline void send_exec(__u32 slot, struct task_struct *task, struct linux_binprm *bprm)
{
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);

	if (!d)
		return;
	describe(d, slot, task);
	d->p.kind = PROCESS_EXEC;
	if (bprm)
		describe_script(d, bprm);
	describe_argv(d, task);
	if (d->used <= TEXT_BYTES)
		send_process(&d->p, sizeof(d->p) + d->used);
}

/* parent: the caller, which with CLONE_PARENT is not what getppid(2) will say, but who did it. */
static __always_inline void send_fork(struct task_struct *parent, struct task_struct *child)
{
	struct process p = {};

	if (BPF_CORE_READ(child, tgid) != BPF_CORE_READ(child, pid))
		return; /* a thread */
	describe_ids(&p, child);
	p.kind = PROCESS_FORK;
	p.parent = key_of(parent, false);
	send_process(&p, sizeof(p));
}

/* Of each thread, after it left signal_struct.live (kernel/exit.c, do_exit). */
static __always_inline void send_exit(struct task_struct *task)
{
	struct process p = {};

	abandon(); /* the current thread is the one that exits */
	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return;
	p.boot_time = bpf_ktime_get_boot_ns();
	p.key = key_of(task, false);
	p.kind = PROCESS_EXIT;
	send_process(&p, sizeof(p));
}

/* include/trace/events/sched.h: sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm) */
SEC("tp_btf/sched_process_exec")
int process_exec(__u64 *ctx)
{
	send_exec(SLOT_EXEC, (struct task_struct *)ctx[0], (struct linux_binprm *)ctx[2]);
	return 0;
}

/* sched_process_fork(struct task_struct *parent, struct task_struct *child): before the child first runs. */
SEC("tp_btf/sched_process_fork")
int process_fork(__u64 *ctx)
{
	send_fork((struct task_struct *)ctx[0], (struct task_struct *)ctx[1]);
	return 0;
}

/* sched_process_exit(struct task_struct *p, ...) */
SEC("tp_btf/sched_process_exit")
int process_exit(__u64 *ctx)
{
	send_exit((struct task_struct *)ctx[0]);
	return 0;
}

/* Each process that is alive, for the recorder's start. */
SEC("iter/task")
int process_snapshot(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 slot = SLOT_SNAPSHOT;
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);

	recorder_tgid = bpf_get_current_pid_tgid() >> 32; /* who reads */
	recorder_signal = (__u64)BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), signal);
	if (!task || !d || BPF_CORE_READ(task, tgid) != BPF_CORE_READ(task, pid))
		return 0;
	describe(d, slot, task);
	d->p.kind = PROCESS_SNAPSHOT;
	if (d->used <= TEXT_BYTES)
		bpf_seq_write(ctx->meta->seq, d, sizeof(d->p) + d->used);
	return 0;
}

/*
 * Each attempt in flight that task storage holds, for the recorder: one that hangs must be on the tape. One that has
 * returned and is still there was left by the program that sends.
 */
SEC("iter/task")
int in_flight_snapshot(struct bpf_iter__task *ctx)
{
	__u32 slot = SLOT_IN_FLIGHT;
	struct description *d = bpf_map_lookup_elem(&descriptions, &slot);
	struct task_struct *task = ctx->task;
	struct connect_large *copy;
	struct attempt *a;

	if (!task || !d)
		return 0;
	a = bpf_task_storage_get(&in_flight_storage, task, NULL, 0);
	if (!a || (a->state != ATTEMPT_BEGUN && a->state != ATTEMPT_RETURNED))
		return 0;
	copy = (struct connect_large *)d->text;
	*copy = a->record;
	barrier();
	if ((a->state == ATTEMPT_BEGUN || a->state == ATTEMPT_RETURNED) &&
	    a->record.c.boot_time == copy->c.boot_time) /* or its thread is at its next one already */
		bpf_seq_write(ctx->meta->seq, copy, sizeof(*copy));
	return 0;
}

#endif
