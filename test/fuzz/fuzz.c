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

/*
 * Comparisons, of which libFuzzer keeps the operands to put one into an input where the other one
 * was: only those of four and of eight bytes, and nothing else, since it is not asked for profiles
 * of values. Most are ours only by name: the sanitizer's own, of pointers with NULL and of their
 * low bits with 0. They were a quarter of the time of most targets, and drove what helps out of its
 * tables. Called instead of libFuzzer's (--wrap); what is of use goes on, as if it had been called
 * there.
 */
#define COMPARED(name, type)                                                  \
	void __real_##name(type a, type b);                                   \
	void __wrap_##name(type a, type b);                                   \
	UNWATCHED void __wrap_##name(type a, type b)                          \
	{                                                                     \
		if (a != 0 && a != b)                                         \
			__attribute__((musttail)) return __real_##name(a, b); \
	}
#define UNHEARD(name, type)                          \
	void __wrap_##name(type a, type b);          \
	UNWATCHED void __wrap_##name(type a, type b) \
	{                                            \
		(void)a, (void)b;                    \
	}

COMPARED(__sanitizer_cov_trace_const_cmp4, uint32_t)
COMPARED(__sanitizer_cov_trace_const_cmp8, uint64_t)
COMPARED(__sanitizer_cov_trace_cmp4, uint32_t)
COMPARED(__sanitizer_cov_trace_cmp8, uint64_t)
UNHEARD(__sanitizer_cov_trace_const_cmp1, uint8_t)
UNHEARD(__sanitizer_cov_trace_const_cmp2, uint16_t)
UNHEARD(__sanitizer_cov_trace_cmp1, uint8_t)
UNHEARD(__sanitizer_cov_trace_cmp2, uint16_t)
