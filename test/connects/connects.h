/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connects: makes connect attempts of every kind and says what it did.
 *
 * Each attempt is one JSON line on stdout: who made it (pid, tid, comm, uids, netns), on what (fd, socket family, type,
 * protocol, cookie, local address), the sockaddr bytes it passed, and the errno it got. The program makes no connect
 * that it does not report. It knows nothing of conntape: the capture tests compare its lines with a tape.
 */
#ifndef CONNECTS_H
#define CONNECTS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* One case: `connects NAME [ARG...]`; argv[0] is the name. */
struct command {
	const char *name;
	void (*run)(int argc, char **argv);
};

/* Tables of the commands, one for each subject; each ends with an empty row. */
extern const struct command inet_commands[], unix_commands[], odd_commands[], process_commands[], exec_commands[],
	uring_commands[], end_commands[], compat_commands[], wait_commands[], load_commands[], redirect_commands[], send_commands[],
	icmp_commands[];

/* report.c */
struct report {
	const char *step;
	int fd;              /* -1: none was passed */
	long addrlen;        /* as passed */
	unsigned char addr[128];
	int addr_known;      /* how many bytes of addr are filled */
	unsigned char local[128];
	socklen_t local_len;
	long pid, tid, ppid; /* in the pid namespace of /proc; tid 0: another thread of this process makes it */
	int family, type, protocol;
	uint64_t cookie, boot0, real0;
	char comm[16];
};
void set_case(const char *name);
void report_begin(struct report *r, const char *step, int fd, const void *sa, long len);
void report_end(struct report *r, long result); /* 0, or minus errno */
int attempt(const char *step, int fd, const void *sa, socklen_t len); /* connect(2); returns 0 or minus errno */
void info(const char *format, ...) __attribute__((format(printf, 1, 2))); /* an extra JSON object, format gives its members */
_Noreturn void not_here(const char *why);               /* this kernel or user cannot do the case: exit 77 */
_Noreturn void die(const char *what);                   /* the case went wrong: exit 1, with errno */
uint64_t boot_ns(void);

/* sockets.c */
union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
	unsigned char bytes[256];
};
int make_socket(int family, int type, int protocol);
union address inet4(const char *ip, int port);
union address inet6(const char *ip, int port, uint32_t scope);
int listener(int family, union address *a, int backlog); /* on loopback; fills a */
int closed_port(int family, union address *a);           /* bound, never listening: a connect to it is refused */
int full_listener(union address *a);                     /* TCP on 127.0.0.1; its one place is taken, with a reported connect */
void new_netns(void);                                    /* an own network namespace with only lo, up */
socklen_t unix_path(union address *a, const char *path); /* returns addrlen with the NUL */
socklen_t unix_bytes(union address *a, const void *name, size_t len); /* exactly these bytes */
const char *in_cwd(const char *name);                    /* absolute path of name, static buffer */

/* odd.c */
void allow_ping(void); /* who may open a ping socket is a setting of the network namespace; one of our own allows all */

/* process.c */
void plain(const char *step); /* one UDP connect to 127.0.0.1:4242 */

/* exec.c */
const char *self_exe(void);
void copy_self(int to_fd);

#endif
