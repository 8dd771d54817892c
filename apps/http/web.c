/* SPDX-License-Identifier: Apache-2.0 */
#include "web.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

static const char *reason_of(int status)
{
	static const struct {
		int status;
		const char *reason;
	} REASONS[] = {
		{ 200, "OK" },
		{ 400, "Bad Request" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 422, "Unprocessable Content" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 501, "Not Implemented" },
		{ 503, "Service Unavailable" },
	};

	for (size_t i = 0; i < sizeof(REASONS) / sizeof(REASONS[0]); i++)
		if (REASONS[i].status == status)
			return REASONS[i].reason;
	return "Error";
}

static void web_enter(struct web *w, enum web_state state, uint64_t seconds)
{
	w->state = state;
	w->due_ns = seconds ? clock_ns() + seconds * NS_PER_S : UINT64_MAX;
}

void web_close(struct web *w)
{
	close(w->fd);
	http_intake_fini(&w->in);
	event_fini(&w->event);
	free(w->out);
	w->out = NULL;
	w->state = WEB_FREE;
}

void web_leave(struct web *w)
{
	w->closes = true;
}

void web_run(struct web *w)
{
	http_intake_next(&w->in); /* its body is not held for as long as the run lasts */
	web_enter(w, WEB_RUNNING, 0);
}

void web_answer(struct web *w, const struct event_answer *a)
{
	bool is_head = w->in.head.method && strcmp(w->in.head.method, "HEAD") == 0;
	int len = asprintf(
		&w->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n%s",
		a->status, reason_of(a->status), a->type, strlen(a->body), a->headers,
		w->closes ? "Connection: close\r\n" : "", is_head ? "" : a->body);

	if (len < 0) {
		web_close(w);
		return;
	}
	w->out_len = (size_t)len;
	w->out_sent = 0;
	web_enter(w, WEB_WRITING, WEB_MESSAGE_S);
}

static const char *headers_of(int status)
{
	if (status == 405)
		return "Allow: GET, HEAD, POST\r\n";
	return status == 429 ? "Retry-After: 1\r\n" : "";
}

void web_tell(struct web *w, int status, const char *why)
{
	bool is_final = status < 500 && status != 408 && status != 429;
	char body[512];
	struct event_answer a = { .status = status, .type = "application/json", .body = body };

	if (status == 200)
		snprintf(body, sizeof(body), "{\"ok\":true}\n");
	else
		snprintf(body, sizeof(body), "{\"error\":\"%s\",\"is_final\":%s}\n", why,
			 is_final ? "true" : "false");
	snprintf(a.headers, sizeof(a.headers), "%s", headers_of(status));
	web_answer(w, &a);
}

/* Nothing that comes behind this can be understood. */
static void web_refuse(struct web *w, int r)
{
	web_leave(w);
	switch (r) {
	case -E2BIG:
		web_tell(w, 431, "the head of the request is longer than 16 KiB or 100 lines");
		break;
	case -EMSGSIZE:
		web_tell(w, 413, "the body is longer than 6 MiB; pass references, not data");
		break;
	case -EOPNOTSUPP:
		web_tell(w, 501, "a transfer encoding other than chunked");
		break;
	case -ENOMEM:
		web_tell(w, 503, "no memory for the request");
		break;
	default:
		web_tell(w, 400, "not a request of HTTP/1.1");
	}
}

static void web_continue(struct web *w)
{
	static const char CONTINUE[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (w->in.state == HTTP_AT_HEAD || !w->in.head.expects_continue || w->was_told_to_continue)
		return;
	w->was_told_to_continue = true;
	(void)send(w->fd, CONTINUE, strlen(CONTINUE), MSG_NOSIGNAL); /* it need not wait for that */
}

/* Of what has come, as much as one request takes. */
static bool web_take(struct web *w)
{
	int64_t n = http_intake_take(&w->in, w->buf, w->buf_len);

	if (n < 0) {
		web_refuse(w, (int)n);
		return false;
	}
	w->buf_len -= (size_t)n;
	memmove(w->buf, w->buf + n, w->buf_len);
	if (http_intake_is_whole(&w->in)) {
		if (!w->in.head.keeps)
			web_leave(w);
		return true;
	}
	if (w->idle_ns && !http_intake_is_idle(&w->in)) {
		w->idle_ns = 0;
		web_enter(w, WEB_READING, WEB_MESSAGE_S);
	}
	web_continue(w);
	return false;
}

/* The next request begins; perhaps it is there already. */
static bool web_next(struct web *w)
{
	free(w->out);
	w->out = NULL;
	http_intake_next(&w->in);
	w->was_told_to_continue = false;
	w->idle_ns = clock_ns();
	web_enter(w, WEB_READING, WEB_IDLE_S);
	return w->buf_len > 0 && web_take(w);
}

static bool web_read(struct web *w)
{
	ssize_t n = recv(w->fd, w->buf + w->buf_len, sizeof(w->buf) - w->buf_len, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		web_close(w);
		return false;
	}
	w->buf_len += (size_t)n;
	return web_take(w);
}

static bool web_write(struct web *w)
{
	ssize_t n = send(w->fd, w->out + w->out_sent, w->out_len - w->out_sent, MSG_NOSIGNAL);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		web_close(w);
		return false;
	}
	w->out_sent += (size_t)n;
	if (w->out_sent < w->out_len)
		return false;
	if (!w->closes)
		return web_next(w);
	shutdown(w->fd, SHUT_WR);
	w->idle_ns = clock_ns();
	web_enter(w, WEB_LEAVING, WEB_LEAVE_S);
	return false;
}

bool web_ready(struct web *w)
{
	ssize_t n;

	switch (w->state) {
	case WEB_READING:
		return web_read(w);
	case WEB_WRITING:
		return web_write(w);
	case WEB_LEAVING:
		n = recv(w->fd, w->buf, sizeof(w->buf), 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			web_close(w);
		return false;
	case WEB_FREE:
	case WEB_RUNNING:
		break;
	}
	return false;
}

void web_late(struct web *w)
{
	if (w->state == WEB_READING && !w->idle_ns) {
		web_leave(w);
		web_tell(w, 408, "the request was not whole in time");
	} else {
		web_close(w);
	}
}

void web_open(struct web *w, int fd)
{
	memset(w, 0, sizeof(*w));
	w->fd = fd;
	w->in.kind = HTTP_REQUEST;
	w->in.body_max = WEB_BODY_MAX;
	(void)web_next(w);
}
