/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_uring with raw system calls. `uring-KIND [plain|async|sqpoll]`: plain runs in the task that submits, async in a
 * worker thread, sqpoll in the thread that polls the queue.
 */
#include "connects.h"
#include <linux/io_uring.h>
#include <sys/mman.h>

struct ring {
	int fd;
	bool fixed; /* before 5.11 a polled ring takes registered files only */
	unsigned char flags;
	unsigned msg_flags;
	unsigned *sq_tail, *sq_mask, *sq_array, *sq_flags, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static void *map(int fd, size_t len, off_t offset)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
	if (p == MAP_FAILED)
		die("map ring");
	return p;
}

static struct ring ring_setup(const char *mode)
{
	struct io_uring_params p = {0};
	struct ring r = {.flags = strcmp(mode, "async") ? 0 : IOSQE_ASYNC};
	if (!strcmp(mode, "sqpoll")) {
		p.flags = IORING_SETUP_SQPOLL;
		p.sq_thread_idle = 2000;
	}
	r.fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	if (r.fd < 0 && (errno == ENOSYS || errno == EPERM))
		not_here("no io_uring");
	if (r.fd < 0)
		die("io_uring_setup");
	r.fixed = (p.flags & IORING_SETUP_SQPOLL) && !(p.features & IORING_FEAT_SQPOLL_NONFIXED);
	char *sq = map(r.fd, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	char *cq = map(r.fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	r.sqes = map(r.fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	r.sq_tail = (void *)(sq + p.sq_off.tail);
	r.sq_mask = (void *)(sq + p.sq_off.ring_mask);
	r.sq_flags = (void *)(sq + p.sq_off.flags);
	r.sq_array = (void *)(sq + p.sq_off.array);
	r.cq_head = (void *)(cq + p.cq_off.head);
	r.cq_tail = (void *)(cq + p.cq_off.tail);
	r.cq_mask = (void *)(cq + p.cq_off.ring_mask);
	r.cqes = (void *)(cq + p.cq_off.cqes);
	return r;
}

static long submit(struct ring *r, int opcode, int fd, const void *address, unsigned off, unsigned len)
{
	unsigned tail = *r->sq_tail, slot = tail & *r->sq_mask, flags = IORING_ENTER_GETEVENTS;
	struct io_uring_sqe *sqe = &r->sqes[slot];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = opcode;
	sqe->flags = r->flags;
	sqe->fd = fd;
	sqe->addr = (uintptr_t)address;
	sqe->off = off;
	sqe->len = len;
	sqe->msg_flags = r->msg_flags;
	if (r->fixed) {
		if (syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_FILES, &fd, 1))
			die("register file");
		sqe->fd = 0;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	r->sq_array[slot] = slot;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(r->sq_flags, __ATOMIC_ACQUIRE) & IORING_SQ_NEED_WAKEUP)
		flags |= IORING_ENTER_SQ_WAKEUP;
	while (__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) == *r->cq_head)
		if (syscall(SYS_io_uring_enter, r->fd, 1, 1, flags, NULL, 0) < 0 && errno != EINTR)
			die("io_uring_enter");
	long result = r->cqes[*r->cq_head & *r->cq_mask].res;
	__atomic_store_n(r->cq_head, *r->cq_head + 1, __ATOMIC_RELEASE);
	return result;
}

static void uring_connect(int argc, char **argv, int family, int type, const union address *a, socklen_t len)
{
	const char *mode = argc > 1 ? argv[1] : "plain";
	struct ring ring = ring_setup(mode);
	struct report r;
	int fd = make_socket(family, type, 0);

	report_begin(&r, mode, fd, a, len);
	if (strcmp(mode, "plain")) {
		r.tid = 0; /* a thread of the kernel's making, in this process */
		memset(r.comm, 0, sizeof(r.comm));
	}
	r.fd = -1; /* no descriptor is passed to connect(2) */
	report_end(&r, submit(&ring, IORING_OP_CONNECT, fd, a, len, 0));
}

static void uring_tcp(int argc, char **argv)
{
	union address a;
	listener(AF_INET, &a, 8);
	uring_connect(argc, argv, AF_INET, SOCK_STREAM, &a, sizeof(a.in));
}

static void uring_refused(int argc, char **argv)
{
	union address a;
	closed_port(AF_INET, &a);
	uring_connect(argc, argv, AF_INET, SOCK_STREAM, &a, sizeof(a.in));
}

static void uring_udp(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	uring_connect(argc, argv, AF_INET, SOCK_DGRAM, &a, sizeof(a.in));
}

static void uring_unix(int argc, char **argv)
{
	union address a;
	socklen_t len = unix_path(&a, in_cwd("uring.sock"));
	uring_connect(argc, argv, AF_UNIX, SOCK_STREAM, &a, len);
}

static void uring_unspec(int argc, char **argv)
{
	union address none = {.sa.sa_family = AF_UNSPEC};
	uring_connect(argc, argv, AF_INET, SOCK_DGRAM, &none, sizeof(none.in));
}

static void uring_send(int argc, char **argv)
{
	union address a = inet4("127.0.0.1", 4242);
	struct iovec iov = {"conntape!", 10};
	struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof(a.in), .msg_iov = &iov, .msg_iovlen = 1};
	struct ring ring = ring_setup("plain");
	struct report r;
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);

	report_begin(&r, "sendmsg", fd, &a, sizeof(a.in));
	r.fd = -1; /* no system call of sockets passes it */
	long n = submit(&ring, IORING_OP_SENDMSG, fd, &m, 0, 1);
	report_end(&r, n < 0 ? n : 0);
}

/* `uring-fastopen [plain|async|sqpoll]`: the SYN goes out from a send that io_uring makes. */
static void uring_fastopen(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "plain";
	union address a;
	struct iovec iov = {"x", 1};
	struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof(a.in), .msg_iov = &iov, .msg_iovlen = 1};
	struct ring ring = ring_setup(mode);
	struct report r;
	listener(AF_INET, &a, 8);
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);

	ring.msg_flags = MSG_FASTOPEN;
	report_begin(&r, mode, fd, &a, sizeof(a.in));
	if (strcmp(mode, "plain")) {
		r.tid = 0;
		memset(r.comm, 0, sizeof(r.comm));
	}
	r.fd = -1;
	long n = submit(&ring, IORING_OP_SENDMSG, fd, &m, 0, 1);
	if (n == -EOPNOTSUPP || n == -EINVAL)
		not_here("no TCP fast open by io_uring");
	report_end(&r, n < 0 ? n : 0);
}

/* `uring-to tcp|udp IP PORT` */
static void uring_to(int argc, char **argv)
{
	if (argc < 4)
		die("usage: uring-to tcp|udp IP PORT");
	union address a = inet4(argv[2], atoi(argv[3]));
	uring_connect(1, argv, AF_INET, strcmp(argv[1], "tcp") ? SOCK_DGRAM : SOCK_STREAM, &a, sizeof(a.in));
}

/* `uring-flow up|down PORT`: connects, then sends 4096 bytes, or receives to the end, by io_uring. */
static void uring_flow(int argc, char **argv)
{
	static char data[4096];
	if (argc < 3)
		die("usage: uring-flow up|down PORT");
	union address a = inet4("127.0.0.1", atoi(argv[2]));
	struct ring ring = ring_setup("plain");
	bool up = !strcmp(argv[1], "up");
	int fd = make_socket(AF_INET, SOCK_STREAM, 0);
	long n;

	if (attempt("connect", fd, &a, sizeof(a.in)))
		die("connect");
	do
		n = submit(&ring, up ? IORING_OP_SEND : IORING_OP_RECV, fd, data, 0, sizeof(data));
	while (!up && n > 0);
	if (n < 0 || (up && n != sizeof(data)))
		die("io_uring");
}

const struct command uring_commands[] = {
	{"uring-tcp", uring_tcp}, {"uring-refused", uring_refused}, {"uring-udp", uring_udp},
	{"uring-unix", uring_unix}, {"uring-unspec", uring_unspec}, {"uring-send", uring_send}, {"uring-fastopen", uring_fastopen}, {"uring-to", uring_to}, {"uring-flow", uring_flow}, {0},
};
