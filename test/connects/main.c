/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the case by its name. `connects list` prints the names. */
#include "connects.h"

static const struct command *const subjects[] = {inet_commands, unix_commands, odd_commands, process_commands,
	exec_commands, uring_commands, end_commands, compat_commands, wait_commands, load_commands, redirect_commands, send_commands,
	icmp_commands};

int main(int argc, char **argv)
{
	bool list = argc == 2 && !strcmp(argv[1], "list");
	for (size_t i = 0; i < sizeof(subjects) / sizeof(*subjects); i++) {
		for (const struct command *c = subjects[i]; c->name; c++) {
			if (list) {
				puts(c->name);
			} else if (argc >= 2 && !strcmp(argv[1], c->name)) {
				set_case(c->name);
				c->run(argc - 1, argv + 1);
				return 0;
			}
		}
	}
	if (list)
		return 0;
	fprintf(stderr, "usage: connects list | CASE [ARG...]\n");
	return 2;
}
