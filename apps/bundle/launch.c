/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch: what a platform starts in a bundle. Its image has some C library or none, so the program
 * comes with its own and their loader, which this starts. It is linked statically, needs nothing
 * of an environment, and lies beside
 *
 *	lib/ld.so     the loader
 *	lib/program   what is to run
 *	lib/...       the libraries
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void)
{
	char self[PATH_MAX - 16], loader[PATH_MAX], lib[PATH_MAX], program[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *argv[] = { program, "--library-path", lib, "--argv0", program, program, NULL };
	extern char **environ;
	char *slash;

	self[len > 0 ? len : 0] = '\0';
	slash = strrchr(self, '/');
	if (!slash) {
		fprintf(stderr, "launch: cannot find itself: %s\n", strerror(errno));
		return 126;
	}
	*slash = '\0';
	snprintf(lib, sizeof(lib), "%s/lib", self);
	snprintf(loader, sizeof(loader), "%s/lib/ld.so", self);
	snprintf(program, sizeof(program), "%s/lib/program", self);
	execve(loader, (char *const *)argv, environ);
	if (errno == EACCES && chmod(loader, 0755) == 0) /* some platforms unpack without modes */
		execve(loader, (char *const *)argv, environ);
	fprintf(stderr, "launch: cannot run %s: %s\n", loader, strerror(errno));
	return 127;
}
