/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver: `wadi sort`. Plans the stages, has functions run, and says what came of it.
 */
#pragma once

/* The exit status, as all of Wadi's programs have it: see --help. */
int sort_main(int argc, char **argv);
