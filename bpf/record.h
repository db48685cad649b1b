/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the programs hand to the recorder, byte for byte: record.go decodes it and layout_test.go holds both to the same
 * offsets through BTF. All integers are in host byte order; sockaddr bytes are as the kernel holds them.
 */
#ifndef CONNTAPE_RECORD_H
#define CONNTAPE_RECORD_H

#define COMM_LEN 16
#define SOCKADDR_SHORT 16  /* sizeof(struct sockaddr_in) */
#define SOCKADDR_SMALL 28  /* sizeof(struct sockaddr_in6): most addresses */
#define SOCKADDR_MAX 128   /* sizeof(struct sockaddr_storage), the most that connect(2) accepts */
#define LOCAL_MAX 112      /* sizeof(struct sockaddr_un), rounded up to 8 */
#define UNKNOWN_ERRNO (-1) /* no errno is negative here */

/* How the attempt was issued. */
enum via {
	VIA_CONNECT = 0,
	VIA_SOCKETCALL = 1, /* 32-bit compat socketcall(2), SYS_CONNECT */
	VIA_IO_URING = 2,
	VIA_KERNEL = 3,   /* the kernel's own socket, such as a network file system's */
	VIA_FASTOPEN = 4, /* sendto(2) and its kin with MSG_FASTOPEN */
	VIA_SNAPSHOT = 5, /* nobody saw it issued: the socket was connected when recording began */
	VIA_SENDTO = 6,   /* no connect at all: the address came with what was sent (send.h) */
	VIA_FRAME = 7,    /* likewise: a frame through a packet socket, whose destination is in the frame (frame.h) */

	/* No connect: what a socket did otherwise. These come through the ring of events. */
	VIA_ACCEPT = 16, /* it is a connection that was accepted */
	VIA_LISTEN = 17,

	/* Likewise: opened.h. */
	VIA_SOCKET = 18, /* made */
	VIA_BIND = 19,
	VIA_FILTER = 20, /* SO_ATTACH_FILTER */
	VIA_BPF = 21,    /* SO_ATTACH_BPF */
	VIA_FANOUT = 22,
	VIA_PROMISCUOUS = 23,
	VIA_HDRINCL = 24,
	VIA_TUN = 25, /* a device was made, or opened */
	VIA_TAP = 26,
	VIA_BYPASS = 27, /* PACKET_QDISC_BYPASS */
};

enum connect_flags {
	CONNECT_ADDRESS_FROM_USER = 1 << 0, /* the remote address was read from the caller's memory, not the kernel's copy */
	CONNECT_REISSUE = 1 << 1,           /* io_uring issued the same request again: not an attempt of its own */
	CONNECT_LARGE = 1 << 2,             /* the record is a connect_large */
	CONNECT_RETURN_LOST = 1 << 3,       /* it has returned, or may have, and nobody saw what */
	CONNECT_ADDRESS_FAULT = 1 << 4,     /* the caller's memory could not be read: remote is empty */
	CONNECT_KERNEL_WORKER = 1 << 5,     /* issued by a kernel thread for the process named here (io_uring before 5.12) */
	CONNECT_REDIRECTED = 1 << 6,        /* a program of a cgroup sent it elsewhere: remote is where to, requested was asked for */
	CONNECT_PEER = 1 << 7,              /* it reached a UNIX socket: the process_key of its peer is at the end of local */
};

struct process_key {
	__u64 start; /* group_leader->start_boottime, ns CLOCK_BOOTTIME */
	__u32 tgid;
	__u32 exec; /* low half of self_exec_id: one more at each execve, inherited at fork */
};

struct connect {
	__u64 boot_time; /* ns CLOCK_BOOTTIME at the hook */
	struct process_key process;
	__u64 cgroup_id; /* of the task, cgroup v2 */
	__u64 cookie;    /* SO_COOKIE; 0 when the kernel has not made one and the program may not */
	__u32 tid;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 loginuid;   /* (u32)-1: not set */
	__u32 session_id; /* (u32)-1: not set */
	__u32 netns;      /* inode, of the socket */
	__s32 fd;         /* as the caller passed it; -1: none */
	__s32 addrlen;    /* as the caller passed it; of VIA_ACCEPT on a UNIX socket the pid of the peer, 0 unknown */
	__s32 hook_errno; /* security_socket_connect's verdict: 0 or a positive errno, UNKNOWN_ERRNO */
	__s32 error;      /* what connect returned: 0 or a positive errno, UNKNOWN_ERRNO */
	__u16 socket_family;
	__u16 type;
	__u16 protocol;
	__u8 via;
	__u8 flags;
	__u16 remote_len; /* bytes of remote in use: the smaller of addrlen and its size */
	__u16 local_len;  /* 0: not bound */
	char comm[COMM_LEN];
};

struct connect_small {
	struct connect c;
	__u8 remote[SOCKADDR_SMALL];
	__u8 local[SOCKADDR_SMALL];
	__u8 requested[SOCKADDR_SMALL]; /* only with CONNECT_REDIRECTED: else the record ends before it */
};

/* An event whose addresses fit: to hand a record over costs more than to make it, and the more the longer it is. */
struct connect_short {
	struct connect c;
	__u8 remote[SOCKADDR_SHORT];
	__u8 local[SOCKADDR_SHORT];
};

struct connect_large {
	struct connect c;
	__u8 remote[SOCKADDR_MAX];
	__u8 local[LOCAL_MAX]; /* with CONNECT_REDIRECTED requested is in it, behind SOCKADDR_SMALL bytes: no UNIX name is redirected */
};

enum process_kind {
	PROCESS_EXEC = 0,
	PROCESS_FORK = 1,
	PROCESS_EXIT = 2,
	PROCESS_SNAPSHOT = 3,
};

enum process_flags {
	PROCESS_EXE_DELETED = 1 << 0,
	PROCESS_EXE_MEMFD = 1 << 1,
	PROCESS_EXE_TRUNCATED = 1 << 2,
	PROCESS_CWD_TRUNCATED = 1 << 3,
	PROCESS_CGROUP_TRUNCATED = 1 << 4,
	PROCESS_ARGV_FAULT = 1 << 5, /* argv could not be read */
	PROCESS_KERNEL_THREAD = 1 << 6,
	PROCESS_SCRIPT = 1 << 7, /* exe is the interpreter of filename */
};

/*
 * A process, followed by its texts one after another, each of the length named here: exe, cwd, cgroup, filename, argv.
 * exe, cwd and cgroup are path components from the leaf up, a NUL behind each; filename is as execve got it, without a
 * NUL; argv is as in the new program's memory, a NUL behind each argument.
 */
struct process {
	__u64 boot_time; /* of the exec, fork, exit or snapshot, ns CLOCK_BOOTTIME */
	struct process_key key;
	struct process_key parent; /* who forked it; for exec and snapshot real_parent, which a reaper may have replaced */
	__u64 cgroup_id;
	__u64 exe_inode;
	__u64 exe_ctime; /* of the inode, ns since the epoch */
	__u64 exe_size;  /* bytes */
	__u32 exe_device; /* kernel dev_t: major << 20 | minor */
	__u32 pid_in_ns;  /* tgid in its innermost pid namespace */
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 loginuid;
	__u32 session_id;
	__u32 mntns;
	__u32 pidns;
	__u32 netns;
	__u32 userns;
	__u32 utsns;
	__u32 ipcns;
	__u32 cgroupns;
	__u16 kind;
	__u16 flags;
	__u16 exe_len;
	__u16 cwd_len;
	__u16 cgroup_len;
	__u16 filename_len;
	__u16 argv_len;   /* bytes that follow */
	__u16 reserved;
	__u32 argv_total; /* bytes there were */
	__u32 exe_fs;     /* s_magic of its file system */
	char comm[COMM_LEN];
};

enum outcome_kind {
	OUTCOME_ESTABLISHED = 1, /* the handshake is done */
	OUTCOME_CLOSED = 2,      /* the connection is over, or never came about */
	OUTCOME_OPEN = 3,        /* the connection is open: what came of it so far */
	OUTCOME_CONNECTING = 4,  /* likewise, and there is no answer yet */
	OUTCOME_ERROR = 5,       /* an ICMP error came back to a UDP socket; of its attempt only the cookie is known */
};

/* Who sent the first FIN. */
enum closed_by {
	CLOSED_BY_NONE = 0,
	CLOSED_BY_LOCAL = 1,
	CLOSED_BY_REMOTE = 2,
};

/* What became of a TCP connection. connect_time, cookie and tid are those of the record of its attempt. */
struct outcome {
	__u64 boot_time; /* of the change, ns CLOCK_BOOTTIME */
	__u64 connect_time;
	__u64 cookie;
	__u64 established; /* ns CLOCK_BOOTTIME; 0: never */
	__u64 bytes_sent;  /* that the peer has acknowledged */
	__u64 bytes_received;
	__u32 tid;
	__u32 retransmits; /* segments */
	__u32 rtt;         /* us, when it was established; 0: not measured */
	__u16 local_port;
	__u16 error; /* the socket's pending errno at the change */
	__u8 kind;
	__u8 from; /* state before, TCP_SYN_SENT and its kin */
	__u8 closed_by;
	__u8 accepted; /* 1: connect_time and tid are those of its VIA_ACCEPT */
	__u16 family; /* of local */
	__u16 reserved2;
	__u8 local[16]; /* IPv4: the first four bytes */
};

/* A socket that is followed, for whoever lists them. */
struct open_socket {
	struct connect_small holder; /* a process that has it, fd and cookie; as if it connected at the time of the outcome's attempt */
	struct outcome so_far;
};

/* Where the programs count. One slot a CPU, summed by the recorder. */
enum counter {
	COUNT_SEEN,          /* attempts that a hook saw begin, reissues included */
	COUNT_SENT,          /* records put into the ring, one an attempt */
	COUNT_LOST,          /* attempts whose record found the ring full */
	COUNT_REISSUED,      /* io_uring issued the same request again */
	COUNT_IN_FLIGHT_FULL, /* sent at the hook, without a return value: the in_flight map was full */
	COUNT_NOT_ATTEMPTED, /* connect(2) that failed before any hook: bad fd, not a socket, bad address pointer or length */
	COUNT_PROCESS_SEEN,  /* exec, fork and exit */
	COUNT_PROCESS_SENT,
	COUNT_PROCESS_LOST, /* the process ring was full */
	COUNT_ABANDONED,    /* begun, and its return was seen by no program */
	COUNT_NO_VERDICT,   /* returned, and its verdict was seen by no program of a hook that tells it */
	COUNT_RESCUED,      /* returns that the first program in a row did not see, and a later one did */
	COUNT_UNSEEN_LOST,  /* connect(2) that no hook saw, and that no program was left to record */
	COUNT_OUTCOME_SEEN, /* outcomes of attempts that were recorded */
	COUNT_OUTCOME_SENT,
	COUNT_OUTCOME_LOST, /* their ring was full, or there was no memory to tell whose they would be */
	COUNT_EVENT_SEEN, /* accepts and the like that are recorded */
	COUNT_EVENT_SENT,
	COUNT_EVENT_LOST, /* their ring was full */
	COUNT_SEND_COUNTED, /* sends that have no record, and are counted in an entry of sends */
	COUNT_ANSWER_SEEN, /* answers to DNS questions, of TCP their segments */
	COUNT_ANSWER_SENT,
	COUNT_ANSWER_LOST, /* their ring was full */
	COUNTERS,
};

#define COUNTER_SLOTS 24

/* A process whose connects found no room in the ring, or all children of one that did. */
struct loser {
	__u64 n;     /* connects; 0: the place is free */
	__u64 first; /* of them, ns CLOCK_BOOTTIME at the hook */
	__u64 last;
	__u64 start; /* of the process, as in process_key */
	__u64 parent_start;
	__u32 tgid;
	__u32 parent_tgid;
	__u32 uid;      /* of the first */
	__u32 children; /* 1: start and tgid are those of a parent, and its children lost these */
	char comm[COMM_LEN]; /* of the first */
};

#define LOSERS 64 /* a CPU */

enum touch_kind {
	TOUCH_SIGNAL, /* a signal that ends or stops was sent to the recorder */
	TOUCH_MEMORY, /* somebody wanted to trace it, or to open its memory */
	TOUCHES,
};

/* What was done to the recorder. */
struct touch {
	__u64 n;
	__u64 last; /* ns CLOCK_BOOTTIME */
	__u32 tgid; /* who did it then, in the initial pid namespace */
	__u32 uid;
	__u32 what; /* the signal; of memory what the check returned */
	__u32 kernel; /* 1: the kernel itself sent it, whoever ran then */
	char comm[COMM_LEN];
};

/* Brings the types that no map and no program's signature names into the object's BTF. Nothing is loaded of it. */
#define KEEP_TYPE(type, name) type keep_##name SEC(".types")
KEEP_TYPE(struct connect_small, connect_small);
KEEP_TYPE(struct connect_short, connect_short);
KEEP_TYPE(struct loser, loser);
KEEP_TYPE(struct outcome, outcome);
KEEP_TYPE(struct open_socket, open_socket);
KEEP_TYPE(enum outcome_kind, outcome_kind);
KEEP_TYPE(enum closed_by, closed_by);
KEEP_TYPE(enum via, via);
KEEP_TYPE(enum connect_flags, connect_flags);
KEEP_TYPE(enum process_kind, process_kind);
KEEP_TYPE(enum process_flags, process_flags);
KEEP_TYPE(enum counter, counter);
KEEP_TYPE(enum touch_kind, touch_kind);

#endif
