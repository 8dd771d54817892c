/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http: GET and HEAD of /healthz and /metrics, HTTP/1.1 (RFC 9112), for monitors. A
 * request has no body and at most WEB_REQUEST_BYTES.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/container.h"
#include "base/node.h"
#include "proxy/http_request.h"
#include "proxy/web.h"
#include "store/counters.h"

#define METRICS_BYTES (16384 + LOOPS_MAX * 256)

struct text {
	char *buf;
	size_t len, cap;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->buf + t->len, t->cap - t->len, format, args);
	va_end(args);
	if (n > 0)
		t->len += (size_t)n < t->cap - t->len ? (size_t)n : t->cap - t->len - 1;
}

static void metric(struct text *t, const char *kind, const char *name, const char *help,
		   uint64_t value)
{
	add(t, "# HELP wadi_%s %s\n# TYPE wadi_%s %s\nwadi_%s %" PRIu64 "\n", name, help, name,
	    kind, name, value);
}

static void add_tally(struct loop_tally *sum, const struct loop_tally *one)
{
	sum->net.conn_count += one->net.conn_count;
	sum->net.request_count += one->net.request_count;
	sum->net.call_count += one->net.call_count;
	sum->net.refused_count += one->net.refused_count;
	sum->net.received_bytes += one->net.received_bytes;
	sum->net.sent_bytes += one->net.sent_bytes;
	if (one->stall_ns_max > sum->stall_ns_max)
		sum->stall_ns_max = one->stall_ns_max;
}

/* Whether the loops share the work, and which of them has no more time. */
static void loop_metrics(struct text *t, const struct loop_tally *tallies, unsigned count)
{
	static const struct {
		const char *kind, *name, *help;
	} metrics[] = {
		{ "gauge", "connections", "Connections of a loop." },
		{ "counter", "requests_total", "Requests served by a loop." },
		{ "counter", "cpu_nanoseconds_total", "CPU time of a loop's thread." },
	};

	for (unsigned m = 0; m < sizeof(metrics) / sizeof(metrics[0]); m++) {
		add(t, "# HELP wadi_loop_%s %s\n# TYPE wadi_loop_%s %s\n", metrics[m].name,
		    metrics[m].help, metrics[m].name, metrics[m].kind);
		for (unsigned i = 0; i < count; i++) {
			const uint64_t values[] = { tallies[i].net.conn_count,
						    tallies[i].net.request_count,
						    tallies[i].cpu_ns };

			add(t, "wadi_loop_%s{loop=\"%u\"} %" PRIu64 "\n", metrics[m].name, i,
			    values[m]);
		}
	}
}

static void pool_metrics(struct text *t, const struct pool_counters *c)
{
#define C(name, help) metric(t, "counter", "pool_" #name, "Of the pool: " help ".", c->name);
	POOL_COUNTERS(C)
#undef C
#define C(name, help) metric(t, "gauge", "pool_" #name, "Of the pool: " help ".", c->name);
	POOL_GAUGES(C)
#undef C
}

/* Prometheus text format 0.0.4. */
static int metrics(struct web *w, struct text *t, uint64_t due_ns)
{
	const struct loop_tally *tallies;
	struct loop_tally sum = { 0 };
	const struct net_counters *n = &sum.net;
	struct info_rep i;
	unsigned loop_count;
	int r = proxy_info(w->proxy, due_ns, &i);

	if (r < 0)
		return r;
	tallies = proxy_tallies(w->proxy, due_ns, &loop_count);
	if (!tallies)
		return -ETIMEDOUT;
	for (unsigned k = 0; k < loop_count; k++)
		add_tally(&sum, &tallies[k]);
	metric(t, "gauge", "dram_limit_bytes", "Bytes that the dram tier may use.", i.dram_limit);
	metric(t, "gauge", "dram_used_bytes", "Bytes of the dram tier that belong to jobs.",
	       i.dram_used);
	metric(t, "gauge", "dram_clean_bytes", "Bytes of the dram tier reserved ahead.",
	       i.dram_clean);
	metric(t, "counter", "moved_bytes_total",
	       "Bytes copied elsewhere so that segments with dead bytes could be freed.",
	       i.moved_bytes);
	metric(t, "gauge", "value_bytes", "Bytes of the blocks of small values.", i.value_bytes);
	metric(t, "gauge", "segments", "Segments that belong to jobs.", i.segment_count);
	metric(t, "gauge", "objects", "Objects in all jobs.", i.object_count);
	metric(t, "gauge", "jobs", "Living jobs.", i.job_count);
	metric(t, "gauge", "sessions", "Sessions of readers and writers.", i.session_count);
	metric(t, "gauge", "parked_calls", "Requests that wait for an event.", i.parked_count);
	metric(t, "gauge", "connections", "Connections of this process.", n->conn_count);
	metric(t, "counter", "requests_total", "Requests served by this process.",
	       n->request_count);
	metric(t, "counter", "calls_total", "Requests made by this process.", n->call_count);
	metric(t, "counter", "refused_total", "Requests refused before a handler.",
	       n->refused_count);
	metric(t, "counter", "received_bytes_total", "Bytes received.", n->received_bytes);
	metric(t, "counter", "sent_bytes_total", "Bytes sent.", n->sent_bytes);
	metric(t, "counter", "uptime_seconds", "Since this process began.", i.uptime_ms / 1000);
	metric(t, "gauge", "loop_stall_max_nanoseconds",
	       "The longest time between two looks at the sockets.", sum.stall_ns_max);
	if (w->proxy->config.pool)
		pool_metrics(t, w->proxy->config.pool);
	loop_metrics(t, tallies, loop_count);
	return 0;
}

static bool is_ready(struct web *w, uint64_t due_ns)
{
	unsigned count;
	const struct loop_tally *tallies = proxy_tallies(w->proxy, due_ns, &count);

	for (unsigned i = 0; tallies && i < count; i++)
		if (!tallies[i].is_ready)
			return false;
	return tallies != NULL;
}

static int respond(struct web *w, int status, const char *reason, const char *type,
		   const char *body, size_t len, bool is_head, bool keep, uint64_t due_ns)
{
	char head[256];
	int n = snprintf(head, sizeof(head),
			 "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s"
			 "Connection: %s\r\n\r\n",
			 status, reason, type, len, status == 405 ? "Allow: GET, HEAD\r\n" : "",
			 keep ? "keep-alive" : "close");
	int r = web_write(w, head, (size_t)n, due_ns);

	return r < 0 || is_head ? r : web_write(w, body, len, due_ns);
}

struct answer {
	int status;
	const char *reason, *type, *body;
	size_t len;
};

static struct answer route(struct web *w, const struct http_request *request, char *buf,
			   uint64_t due_ns)
{
	struct text t = { .buf = buf, .cap = METRICS_BYTES };
	int r;

	if (strcmp(request->method, "GET") != 0 && !request->is_head)
		return (struct answer){ 405, "Method Not Allowed", "text/plain", "GET or HEAD\n",
					12 };
	if (strcmp(request->target, "/metrics") == 0) {
		r = metrics(w, &t, due_ns);
		if (r == 0)
			return (struct answer){ 200, "OK", "text/plain; version=0.0.4", buf,
						t.len };
	} else if (strcmp(request->target, "/healthz") == 0) {
		if (is_ready(w, due_ns))
			return (struct answer){ 200, "OK", "text/plain", "ok\n", 3 };
	} else {
		return (struct answer){ 404, "Not Found", "text/plain",
					"there are /healthz and /metrics\n", 32 };
	}
	return (struct answer){ 503, "Service Unavailable", "text/plain",
				"the metadata server does not answer\n", 36 };
}

/* One request of `len` bytes, head and all. False: the connection ends. */
static bool serve(struct web *w, size_t len, char *buf, uint64_t due_ns)
{
	struct http_request request;
	struct answer a;

	if (http_request_parse(w->in, len, &request) < 0) {
		(void)respond(w, 400, "Bad Request", "text/plain", "not HTTP/1.1\n", 13, false,
			      false, due_ns);
		return false;
	}
	a = route(w, &request, buf, due_ns);
	return respond(w, a.status, a.reason, a.type, a.body, a.len, request.is_head, request.keeps,
		       due_ns) == 0 &&
	       request.keeps;
}

static void http_run(struct fiber *self)
{
	struct web *w = container_of(self, struct web, fiber);
	char *buf = node_alloc(METRICS_BYTES);
	bool goes_on = buf != NULL;

	while (goes_on) {
		uint64_t due_ns = w->proxy->loop->now_ns + WEB_IDLE_MS * 1000000ull;
		char *end;
		size_t len;
		ssize_t n = 1;

		while (!(end = memmem(w->in, w->len, "\r\n\r\n", 4)) && n > 0)
			n = web_read(w, due_ns);
		if (!end) {
			if (n == -EMSGSIZE)
				(void)respond(w, 431, "Request Header Fields Too Large",
					      "text/plain", "too long\n", 9, false, false, due_ns);
			break;
		}
		len = (size_t)(end + 4 - w->in);
		w->is_serving = true;
		goes_on = serve(w, len, buf, due_ns);
		w->is_serving = false;
		memmove(w->in, w->in + len, w->len - len);
		w->len -= len;
	}
	node_free(buf);
}

void proxy_accept_http(struct proxy *p, struct stream *s)
{
	web_accept(p, s, http_run);
}
