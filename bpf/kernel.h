/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The kernel types that conntape reads, and of each only the fields in use.
 *
 * Every struct carries preserve_access_index: the loader (CO-RE) finds each field's real offset in the running kernel's
 * BTF, so order and gaps here mean nothing, only names and types do. A suffix after three underscores is not part of
 * the name: it keeps two shapes of one kernel type apart.
 */
#ifndef CONNTAPE_KERNEL_H
#define CONNTAPE_KERNEL_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u16 __sum16;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_F_NO_PREALLOC = 1,
	BPF_F_MMAPABLE = 1 << 10,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
};

enum {
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

/* Only the one that a program asks about with bpf_core_enum_value_exists. */
enum bpf_func_id {
	BPF_FUNC_task_pt_regs = 175,
};

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10

#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262

#define EBADF 9
#define EFAULT 14
#define EINVAL 22
#define EAGAIN 11
#define ENOTSOCK 88
#define EINPROGRESS 115

/* include/linux/sched.h. PF_IO_WORKER moved in 5.12 (3bfe6106693b), when io workers ceased to be kernel threads. */
#define PF_IO_WORKER 0x00000010
#define PF_KTHREAD 0x00200000

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFCHR 0020000

#define MNT_INTERNAL 0x4000     /* include/linux/mount.h */
#define TMPFS_MAGIC 0x01021994  /* include/uapi/linux/magic.h */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct ns_common {
	unsigned int inum;
};

struct uts_namespace {
	struct ns_common ns;
};

struct ipc_namespace {
	struct ns_common ns;
};

struct mnt_namespace {
	struct ns_common ns;
};

struct pid_namespace {
	struct ns_common ns;
	unsigned int level;
};

struct user_namespace {
	struct ns_common ns;
};

struct cgroup_namespace {
	struct ns_common ns;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
	struct cgroup_namespace *cgroup_ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

enum pid_type {
	PIDTYPE_PID = 0,
	PIDTYPE_TGID = 1,
	PIDTYPE_MAX = 4,
};

struct pid {
	unsigned int level;
	struct hlist_head tasks[PIDTYPE_MAX]; /* the leader of a process is the only one of PIDTYPE_TGID */
	struct upid numbers[1];
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	struct user_namespace *user_ns;
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct super_block {
	__u32 s_dev;
	unsigned long s_magic;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode {
	__u16 i_mode;
	__u32 i_rdev;
	unsigned int i_nlink;
	unsigned long i_ino;
	long long i_size;
	struct super_block *i_sb;
};

/* The time of its last change before 6.6, in 6.6 to 6.10 (fs: rename i_ctime), and since 6.11 (fs: turn the times into integers). */
struct inode___before {
	struct timespec64 i_ctime;
};

struct inode___renamed {
	struct timespec64 __i_ctime;
};

struct inode___split {
	__s64 i_ctime_sec;
	__u32 i_ctime_nsec;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
};

struct vfsmount {
	struct dentry *mnt_root;
	int mnt_flags;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path pwd;
};

struct task_struct;

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
	struct file *exe_file;
	struct task_struct *owner; /* CONFIG_MEMCG */
};

struct kernfs_node {
	const char *name;
	__u64 id;
};

/* kernfs_node.parent became __parent in 6.15 (741c10b096bc). */
struct kernfs_node___parent {
	struct kernfs_node *parent;
};

struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct list_head {
	struct list_head *next;
};

struct signal_struct {
	atomic_t live;
	struct list_head thread_head;
	struct pid *pids[2]; /* indexed by PIDTYPE_PID, PIDTYPE_TGID */
};

struct thread_info {
	unsigned long flags; /* arm64: TIF_32BIT */
	__u32 status;        /* x86: TS_COMPAT */
};

struct task_struct {
	struct thread_info thread_info;
	void *stack;
	unsigned int flags;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct list_head ptraced, ptrace_entry, thread_node;
	struct pid *thread_pid;
	struct hlist_node pid_links[PIDTYPE_MAX];
	__u64 start_boottime;
	__u64 self_exec_id;
	const struct cred *real_cred;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	struct mm_struct *mm;
	kuid_t loginuid;        /* CONFIG_AUDIT */
	unsigned int sessionid; /* CONFIG_AUDIT */
	struct css_set *cgroups;
};

struct linux_binprm {
	const char *filename;
	const char *interp;
};

struct in6_addr {
	__u64 in6_u[2];
};

struct possible_net {
	struct net *net;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num; /* host byte order */
	unsigned short skc_family;
	volatile unsigned char skc_state;
	struct possible_net skc_net;
	struct in6_addr skc_v6_daddr; /* CONFIG_IPV6 */
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
};

struct socket;

typedef struct {
	int owned;
} socket_lock_t;

struct sk_buff;

struct sk_buff_head {
	struct sk_buff *prev;
};

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	struct {
		int len;
	} sk_backlog;
	__u8 sk_kern_sock : 1, sk_userlocks : 4;
	__u16 sk_type;
	__u16 sk_protocol;
	struct pid *sk_peer_pid;
	int sk_err;
	struct socket *sk_socket;
	struct sk_buff_head sk_error_queue;
	__u32 sk_txhash;
};

struct inet_sock {
	__be16 inet_sport;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 write_seq;
	__u32 total_retrans;
	__u32 srtt_us; /* smoothed round trip time, an eighth of a us */
	struct tcp_fastopen_request *fastopen_req;
};

struct mptcp_sock {
	struct sock *first; /* subflow */
};

struct socket {
	short type;
	struct file *file;
	struct sock *sk;
};

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
};

struct sockaddr {
	unsigned short sa_family;
};

struct msghdr {
	void *msg_name;
	int msg_namelen;
};

struct sockaddr_un {
	unsigned short sun_family;
};

struct unix_address {
	int len;                    /* of the whole sockaddr_un, bytes */
	struct sockaddr_un name[1]; /* a flexible array in the kernel */
};

struct unix_sock {
	struct unix_address *addr;
};

/* What a cgroup/connect program's context is to the kernel (bpf_cast_to_kern_ctx, 6.2). */
struct bpf_sock_addr_kern {
	struct sock *sk;
	struct sockaddr *uaddr;
	__u32 uaddrlen; /* 6.7 */
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long ax;
	unsigned long orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#else
#error "conntape records on x86-64 and arm64"
#endif

/* What a classic tracepoint program of sched_process_fork is given. */
struct trace_event_raw_sched_process_fork {
	int child_pid; /* in the initial pid namespace */
};

#pragma clang attribute pop

/*
 * The context of a kprobe: struct pt_regs as the user ABI fixes it (arch/x86/include/uapi/asm/ptrace.h, arm64's struct
 * user_pt_regs). Plain, since a relocated access may make the compiler add to the context pointer, which the verifier
 * forbids.
 */
#if defined(__TARGET_ARCH_x86)
struct kprobe_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
};
#elif defined(__TARGET_ARCH_arm64)
struct kprobe_regs {
	__u64 regs[31];
};
#endif

/* User ABI (include/uapi/linux/bpf.h): its layout is fixed and a program's accesses to it are rewritten by the verifier. */
struct bpf_sock;

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;    /* network byte order */
	__u32 user_ip6[4]; /* network byte order */
	__u32 user_port;   /* network byte order */
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	__u64 sk __attribute__((aligned(8)));
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port; /* host byte order */
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol; /* network byte order */
	__u32 vlan[3];
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port; /* of the socket, network byte order in the upper half; 0: it is not connected */
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys __attribute__((aligned(8)));
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	__u64 sk __attribute__((aligned(8)));
};

struct bpf_sock_ops {
	__u32 op;
	__u32 args[4];
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;
	__u32 snd_ssthresh;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u64 sk __attribute__((aligned(8)));
	__u64 skb_data __attribute__((aligned(8)));
	__u64 skb_data_end __attribute__((aligned(8)));
	__u32 skb_len;
	__u32 skb_tcp_flags;
};

/* /sys/kernel/tracing/events/syscalls/sys_exit_connect/format */
struct sys_exit_args {
	__u64 common;
	__s64 nr;
	__s64 ret;
};

#endif
