/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_request: the head of a request in HTTP/1.1 (RFC 9112). Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct http_request {
	char method[16], target[256];
	bool is_head;
	bool keeps; /* the connection goes on behind the answer */
};

/*
 * `head` is all of it, with the empty line that ends it. -EBADMSG: not a request of
 * HTTP/1.x, or one whose method or target is too long.
 */
int http_request_parse(const char *head, size_t len, struct http_request *ret);
