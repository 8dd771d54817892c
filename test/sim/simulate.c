/* SPDX-License-Identifier: Apache-2.0 */
/*
 * simulate: runs seeds of the simulation, one after the other, and says of each that
 * fails what was wrong, and with which faults. tools/sim runs many of it, and shrinks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulation.h"

static int usage(void)
{
	fprintf(stderr,
		"usage: simulate [--seed N] [--count N] [--faults LIST] [--verbose | --list]\n");
	return 2;
}

static void tell(uint64_t seed, const struct outcome_of *o)
{
	printf("seed %llu: %s at %.3f s, %llu operations, %llu puts, %llu gets, fingerprint "
	       "%016llx\n"
	       "  %s\n  faults %s\n",
	       (unsigned long long)seed, o->failure[0] ? o->failure : "ok",
	       (double)o->end_ms / 1000, (unsigned long long)o->ops, (unsigned long long)o->puts,
	       (unsigned long long)o->gets, (unsigned long long)o->fingerprint, o->shape,
	       o->faults);
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 1, ops = 0;
	const char *faults = NULL;
	bool is_verbose = false, is_list = false;
	int result = 0;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--verbose") == 0) {
			is_verbose = true;
			continue;
		}
		if (strcmp(argv[i], "--list") == 0) {
			is_list = true;
			continue;
		}
		if (!value)
			return usage();
		if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--count") == 0)
			count = strtoull(value, NULL, 0);
		else if (strcmp(argv[i], "--faults") == 0)
			faults = value;
		else
			return usage();
		i++;
	}
	if (is_list) {
		static char list[4096];

		faults_of_seed(seed, list, sizeof(list));
		printf("%s\n", list);
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uint64_t i = 0; i < count; i++) {
		static struct outcome_of o;

		printf("begin %llu\n", (unsigned long long)(seed + i));
		simulate(seed + i, faults, &o);
		ops += o.ops;
		if (o.failure[0])
			result = 1;
		if (o.failure[0] || is_verbose)
			tell(seed + i, &o);
		printf("end %llu %llu\n", (unsigned long long)(seed + i),
		       (unsigned long long)o.ops);
	}
	printf("%llu operations\n", (unsigned long long)ops);
	return result;
}
