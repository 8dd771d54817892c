/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service: the functions of the sort behind HTTP, which is `wadi-sort-fn --http`. Each place
 * for runs is an instance of its own, with its own way to the store.
 *
 *	--http[=ADDR:PORT]   by default 127.0.0.1:$FUNCTIONS_CUSTOMHANDLER_PORT, else :$PORT,
 *	                     else :8080
 *	--openwhisk[=ADDR:PORT]   the same as an action of OpenWhisk's, with /init and /run
 *	--concurrency=N      runs at a time, 1 unless said otherwise: each may take as much
 *	                     memory as its request allows
 */
#pragma once

/* The exit status. */
int service_main(int argc, char **argv);
