/* SPDX-License-Identifier: Apache-2.0 */
/* http_listen: a socket that listens at an address: ADDR:PORT, [ADDR]:PORT, or :PORT for all. */
#pragma once

/* The descriptor, which does not block, or a negative errno; of all addresses, IPv4 too. */
int http_listen(const char *address);

/* The port, which the kernel chose if it was 0. */
int http_listen_port(int fd);
