/* SPDX-License-Identifier: Apache-2.0 */
/* Many connects, to loopback only and bounded in number. They report sums, not each attempt. */
#include "connects.h"
#include <pthread.h>

struct load {
	pthread_t thread;
	int type, port;
	long count, expected; /* expected: attempts that ended as the command promises */
};

static void *load_body(void *arg)
{
	struct load *l = arg;
	union address a = inet4("127.0.0.1", l->port);
	int fd = make_socket(AF_INET, l->type, 0);
	for (long i = 0; i < l->count; i++) {
		long r = syscall(SYS_connect, fd, &a, sizeof(a.in));
		l->expected += l->type == SOCK_STREAM ? r < 0 && errno == ECONNREFUSED : r == 0;
	}
	close(fd);
	return NULL;
}

/* `refused N [THREADS]`: TCP to a port where nobody listens. `flood N [THREADS]`: UDP, as fast as it goes. */
static void load(int argc, char **argv)
{
	bool refused = !strcmp(argv[0], "refused");
	long n = argc > 1 ? atol(argv[1]) : 1000, done = 0;
	int threads = argc > 2 ? atoi(argv[2]) : 1;
	struct load *all = calloc((size_t)threads, sizeof(*all));
	union address a = inet4("127.0.0.1", 4242);

	if (refused)
		closed_port(AF_INET, &a);
	uint64_t start = boot_ns();
	for (int i = 0; i < threads; i++) {
		all[i] = (struct load){.type = refused ? SOCK_STREAM : SOCK_DGRAM, .port = ntohs(a.in.sin_port),
			.count = n / threads + (i < n % threads)};
		if (pthread_create(&all[i].thread, NULL, load_body, &all[i]))
			die("thread");
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(all[i].thread, NULL);
		done += all[i].expected;
	}
	info("\"pid\":%d,\"count\":%ld,\"as_expected\":%ld,\"port\":%d,\"ns\":%llu", getpid(), n, done, ntohs(a.in.sin_port),
		(unsigned long long)(boot_ns() - start));
}

/* Two addresses that differ in every byte that may differ; the other thread copies now one, now the other. */
static union address there[2];
static volatile bool stop;

static void *rewriter(void *arg)
{
	volatile uint64_t *target = arg;
	uint64_t image[2];
	memcpy(&image[0], &there[0], sizeof(uint64_t));
	memcpy(&image[1], &there[1], sizeof(uint64_t));
	for (unsigned i = 0; !stop; i++)
		*target = image[i & 1];
	return NULL;
}

/*
 * `rewrite N` connects one UDP socket N times while another thread rewrites the address. It prints, for each connect in
 * order, A or B: where getpeername says that the socket went. It rests now and then: a connect that the recorder had no room
 * for could not be compared with what the tape has.
 */
static void rewrite(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000;
	char *went = malloc((size_t)n + 2);
	union address racy __attribute__((aligned(8))), peer;
	pthread_t t;

	there[0] = inet4("127.0.0.1", 4242);
	there[1] = inet4("127.7.7.7", 2424);
	racy = there[0];
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);
	if (pthread_create(&t, NULL, rewriter, &racy))
		die("thread");
	info("\"pid\":%d,\"fd\":%d,\"a\":\"127.0.0.1:4242\",\"b\":\"127.7.7.7:2424\"", getpid(), fd);
	for (long i = 0; i < n; i++) {
		socklen_t len = sizeof(peer);
		if (i % 5000 == 4999)
			usleep(100000);
		if (syscall(SYS_connect, fd, &racy, sizeof(racy.in)) || getpeername(fd, &peer.sa, &len))
			die("connect");
		if (memcmp(&peer.in, &there[0].in, 8) && memcmp(&peer.in, &there[1].in, 8))
			die("the peer is neither");
		went[i] = memcmp(&peer.in, &there[0].in, 8) ? 'B' : 'A';
	}
	stop = true;
	pthread_join(t, NULL);
	went[n] = '\n';
	for (char *p = went, *end = went + n + 1; p < end;) {
		ssize_t w = write(STDOUT_FILENO, p, (size_t)(end - p));
		if (w < 0)
			die("write");
		p += w;
	}
}

/*
 * `spawn N PROGRAM...` runs N short lives, each `PROGRAM quick udp 127.0.0.1 PORT life-I`, the programs in turn, at most
 * 32 at once. PORT is 1024 + I modulo 60000, so that program, argument and port all tell the same I.
 */
static void start_life(char *program, long i)
{
	char port[16], word[32];
	snprintf(port, sizeof(port), "%ld", 1024 + i % 60000);
	snprintf(word, sizeof(word), "life-%ld", i);
	char *args[] = {program, "quick", "udp", "127.0.0.1", port, word, NULL};
	pid_t child = vfork();
	if (child < 0)
		die("vfork");
	if (!child) {
		execv(program, args);
		_exit(1);
	}
}

static void spawn(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 0, failed = 0;
	int alive = 0, status;
	if (argc < 3)
		die("usage: spawn N PROGRAM...");
	for (long i = 0; i < n; i++) {
		start_life(argv[2 + i % (argc - 2)], i);
		for (alive++; alive && waitpid(-1, &status, alive < 32 ? WNOHANG : 0) > 0; alive--)
			failed += status != 0;
	}
	for (; alive && waitpid(-1, &status, 0) > 0; alive--)
		failed += status != 0;
	info("\"pid\":%d,\"count\":%ld,\"failed\":%ld", getpid(), n, failed);
}

/* `names N` connects one UNIX socket to N abstract names of full length that nobody has. */
static void names(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 1000, refused = 0;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = make_socket(AF_UNIX, SOCK_STREAM, 0);

	memset(a.sun_path + 1, 'n', sizeof(a.sun_path) - 1);
	uint64_t start = boot_ns();
	for (long i = 0; i < n; i++) {
		char name[32];
		memcpy(a.sun_path + 1, name, (size_t)snprintf(name, sizeof(name), "%d-%ld", getpid(), i));
		refused += syscall(SYS_connect, fd, &a, sizeof(a)) < 0 && errno == ECONNREFUSED;
	}
	info("\"pid\":%d,\"count\":%ld,\"as_expected\":%ld,\"ns\":%llu", getpid(), n, refused, (unsigned long long)(boot_ns() - start));
}

/* `fresh N PAUSE` connects a UDP socket to N addresses of the loopback, with a pause of so many ms after each. */
static void fresh(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 200, pause = argc > 2 ? atol(argv[2]) : 0, done = 0;
	int fd = make_socket(AF_INET, SOCK_DGRAM, 0);

	for (long i = 0; i < n; i++) {
		union address a = inet4("127.0.0.1", 4242);
		a.in.sin_addr.s_addr = htonl(0x7f100000 + (uint32_t)i);
		done += !syscall(SYS_connect, fd, &a, sizeof(a.in));
		if (pause)
			usleep((useconds_t)pause * 1000);
	}
	info("\"pid\":%d,\"count\":%ld,\"as_expected\":%ld", getpid(), n, done);
}

static int live(char **args)
{
	int status = 1;
	pid_t child = vfork();

	if (child < 0)
		die("vfork");
	if (!child) {
		execv("/proc/self/exe", args);
		_exit(1);
	}
	return waitpid(child, &status, 0) == child ? status : 1;
}

/* `arguments N BYTES` runs N short lives one after another, each `quick udp 127.0.0.1 4242` and a word of so many bytes. */
static void arguments(int argc, char **argv)
{
	long n = argc > 1 ? atol(argv[1]) : 100, bytes = argc > 2 ? atol(argv[2]) : 4096, failed = 0;
	char *word = malloc((size_t)bytes + 32);

	memset(word, 'x', (size_t)bytes);
	word[bytes] = 0;
	for (long i = 0; i < n; i++) {
		char number[32], *args[] = {"connects", "quick", "udp", "127.0.0.1", "4242", word, NULL};
		memcpy(word, number, (size_t)snprintf(number, sizeof(number), "%ld-", i));
		failed += live(args) != 0;
	}
	info("\"pid\":%d,\"count\":%ld,\"failed\":%ld", getpid(), n, failed);
}

const struct command load_commands[] = {
	{"refused", load}, {"flood", load}, {"rewrite", rewrite}, {"spawn", spawn},
	{"names", names}, {"fresh", fresh}, {"arguments", arguments}, {0},
};
