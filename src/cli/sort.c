/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sort: a program of its own, over include/ only: beside this one, in ../libexec/wadi, or,
 * in a build directory, where it was built.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int command_sort(int argc, char **argv)
{
	static const char *const PLACES[] = { "", "../libexec/wadi/", "../../apps/sort/" };
	char self[4096], program[sizeof(self) + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	(void)argc;
	if (n < 0) {
		fprintf(stderr, "wadi: sort: cannot read /proc/self/exe: %s\n", strerror(errno));
		return EXIT_REFUSED;
	}
	self[n] = '\0';
	slash = strrchr(self, '/');
	slash[1] = '\0';
	for (size_t i = 0; i < sizeof(PLACES) / sizeof(PLACES[0]); i++) {
		snprintf(program, sizeof(program), "%s%swadi-sort", self, PLACES[i]);
		if (access(program, X_OK) < 0)
			continue;
		argv[0] = program;
		execv(program, argv);
		fprintf(stderr, "wadi: sort: cannot run %s: %s\n", program, strerror(errno));
		return EXIT_REFUSED;
	}
	fprintf(stderr, "wadi: sort: there is no wadi-sort in %s or %s../libexec/wadi\n", self,
		self);
	return EXIT_REFUSED;
}
