/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

static const char *directory;

void fuzz_seed(const char *name, const void *bytes, size_t len)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "wb");
	if (!f || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) {
		perror(path);
		exit(1);
	}
}

/* `--seeds=DIRECTORY`: writes them, and that is all. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char OPTION[] = "--seeds=";

	if (*argc != 2 || strncmp((*argv)[1], OPTION, sizeof(OPTION) - 1) != 0)
		return 0;
	directory = (*argv)[1] + sizeof(OPTION) - 1;
	fuzz_seeds();
	exit(0);
}
