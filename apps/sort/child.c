/* SPDX-License-Identifier: Apache-2.0 */
#include "child.h"

#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

void child_begin(pid_t parent, int end)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, end);
	if (getppid() != parent)
		_exit(1);
	setpgid(0, 0); /* Ctrl-C is the driver's to handle */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}
