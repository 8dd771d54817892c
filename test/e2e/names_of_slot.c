/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of jobs that lie in one slot, for the test that fills it.
 *
 * usage: names_of_slot COUNT SLOT      prints so many, one in a line
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/extent.h"

int main(int argc, char **argv)
{
	unsigned count = argc > 2 ? (unsigned)atoi(argv[1]) : 0;
	unsigned slot = argc > 2 ? (unsigned)atoi(argv[2]) : 0;

	for (unsigned i = 0; count > 0; i++) {
		char name[16];
		int len = snprintf(name, sizeof(name), "n%x", i);

		if (slot_of_name((struct slice){ (const uint8_t *)name, (size_t)len }) != slot)
			continue;
		puts(name);
		count--;
	}
	return 0;
}
