/* SPDX-License-Identifier: Apache-2.0 */
/* wadi-sort: the program that `wadi sort` runs. */
#include "driver.h"

int main(int argc, char **argv)
{
	return sort_main(argc, argv);
}
