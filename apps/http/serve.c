/* SPDX-License-Identifier: Apache-2.0 */
#include "serve.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "action.h"
#include "clock.h"
#include "http_listen.h"
#include "web.h"

/* How long a turn waits at most, to look round. */
#define LOOK_NS (60 * NS_PER_S)

/* Loop and worker take turns: all of it is the worker's from `todo` to `has_ended`. */
struct worker {
	struct serve *serve;
	struct serve_function *function;
	pthread_t thread;
	sem_t todo;
	atomic_bool has_ended;
	struct web *web; /* for whom it runs; NULL: it is free, and is to end when told */
	char *reply;
};

struct serve {
	int listen_fd; /* -1: it is stopping */
	int ended_fd;  /* a worker has ended a run */
	bool is_azure, is_action;
	struct action action; /* if it is one */
	struct web webs[SERVE_CONNS_MAX];
	struct worker workers[SERVE_RUNS_MAX];
	size_t worker_count;
};

static volatile sig_atomic_t stop_signal; /* the one variable that a handler may touch */

static void on_signal(int number)
{
	stop_signal = number;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	for (;;) {
		while (sem_wait(&w->todo) < 0)
			;
		if (!w->web)
			return NULL;
		w->reply = w->function->run(w->function, w->web->event.line,
					    strlen(w->web->event.line));
		/* Pairs with the exchange in workers_look(): the reply is there. */
		atomic_store(&w->has_ended, true);
		(void)eventfd_write(w->serve->ended_fd, 1);
	}
}

static void run_begin(struct serve *s, struct web *w)
{
	struct worker *worker = s->workers;
	const char *why = "";
	int status;

	while (worker < s->workers + s->worker_count && worker->web)
		worker++;
	if (worker == s->workers + s->worker_count) {
		web_tell(w, 429, "all places for runs are taken; come again");
		return;
	}
	status = event_read(&w->in.head, w->in.body, s->is_azure, &w->event, &why);
	if (status) {
		web_tell(w, status, why);
		return;
	}
	if (s->is_action)
		w->event.kind = EVENT_ACTION;
	web_run(w);
	worker->web = w;
	sem_post(&worker->todo);
}

static void run_end(struct serve *s, struct worker *worker)
{
	struct web *w = worker->web;
	struct event_answer answer;
	const char *reply = worker->reply ? worker->reply : "{\"error\":\"no memory\"}";

	if (s->listen_fd < 0)
		web_leave(w);
	if (s->is_action)
		action_log_end();
	if (event_answer(&w->event, reply, &answer) == 0) {
		web_answer(w, &answer);
		free(answer.body);
	} else {
		web_tell(w, 503, "no memory for the answer");
	}
	event_fini(&w->event);
	free(worker->reply);
	worker->reply = NULL;
	worker->web = NULL;
}

static void workers_look(struct serve *s)
{
	eventfd_t ignored;

	(void)eventfd_read(s->ended_fd, &ignored);
	for (size_t i = 0; i < s->worker_count; i++)
		if (s->workers[i].web && atomic_exchange(&s->workers[i].has_ended, false))
			run_end(s, &s->workers[i]);
}

static void action_serve(struct serve *s, struct web *w)
{
	const char *why = "";
	int status;

	if (strcmp(w->in.head.target, "/init") == 0) {
		status = action_init(&s->action, w->in.body, &why);
		web_tell(w, status, why);
	} else if (strcmp(w->in.head.target, "/run") != 0) {
		web_tell(w, 404, "an action has /init and /run");
	} else if (!s->action.is_ready) {
		web_tell(w, 403, "the action is not initialized");
	} else {
		run_begin(s, w);
	}
}

static void request_serve(struct serve *s, struct web *w)
{
	const struct http_head *h = &w->in.head;
	bool is_get = strcmp(h->method, "GET") == 0 || strcmp(h->method, "HEAD") == 0;

	if (is_get &&
	    (strcmp(h->target, "/robots.txt") == 0 || strcmp(h->target, "/favicon.ico") == 0))
		web_tell(w, 404, "there is no such page");
	else if (is_get)
		web_tell(w, 200, "");
	else if (strcmp(h->method, "POST") == 0 && s->is_action)
		action_serve(s, w);
	else if (strcmp(h->method, "POST") == 0)
		run_begin(s, w);
	else
		web_tell(w, 405, "a function is run by POST");
}

/* A free place, if need be that of whoever asks for nothing for longest. */
static struct web *web_place(struct serve *s)
{
	struct web *idle = NULL;

	for (struct web *w = s->webs; w < s->webs + SERVE_CONNS_MAX; w++) {
		if (w->state == WEB_FREE)
			return w;
		if ((w->state == WEB_READING || w->state == WEB_LEAVING) && w->idle_ns &&
		    (!idle || w->idle_ns < idle->idle_ns))
			idle = w;
	}
	if (idle)
		web_close(idle);
	return idle;
}

static void accept_one(struct serve *s)
{
	static const char BUSY[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
				   "Connection: close\r\n\r\n";
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), on = 1;
	struct web *w = fd >= 0 ? web_place(s) : NULL;

	if (fd < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (w) {
		web_open(w, fd);
		return;
	}
	(void)send(fd, BUSY, strlen(BUSY), MSG_NOSIGNAL);
	close(fd);
}

/* Waits, and fills `polls`: the listener, the workers' end, and each connection. */
static void events_wait(struct serve *s, struct pollfd *polls)
{
	uint64_t now_ns = clock_ns(), due_ns = now_ns + LOOK_NS;
	struct timespec timeout;
	sigset_t none;

	polls[0] = (struct pollfd){ s->listen_fd, POLLIN, 0 };
	polls[1] = (struct pollfd){ s->ended_fd, POLLIN, 0 };
	for (size_t i = 0; i < SERVE_CONNS_MAX; i++) {
		const struct web *w = &s->webs[i];
		bool is_ours = w->state != WEB_FREE && w->state != WEB_RUNNING;

		polls[2 + i] = (struct pollfd){ is_ours ? w->fd : -1,
						w->state == WEB_WRITING ? POLLOUT : POLLIN, 0 };
		if (is_ours && w->due_ns < due_ns)
			due_ns = w->due_ns;
	}
	due_ns = due_ns > now_ns ? due_ns - now_ns : 0;
	timeout = (struct timespec){ (time_t)(due_ns / NS_PER_S), (long)(due_ns % NS_PER_S) };
	sigemptyset(&none);
	if (ppoll(polls, 2 + SERVE_CONNS_MAX, &timeout, &none) < 0)
		for (size_t i = 0; i < 2 + SERVE_CONNS_MAX; i++)
			polls[i].revents = 0;
}

static void serve_turn(struct serve *s)
{
	struct pollfd polls[2 + SERVE_CONNS_MAX];
	uint64_t now_ns;

	events_wait(s, polls);
	now_ns = clock_ns();
	if (polls[1].revents)
		workers_look(s);
	for (size_t i = 0; i < SERVE_CONNS_MAX; i++) {
		struct web *w = &s->webs[i];

		if (polls[2 + i].revents && web_ready(w))
			request_serve(s, w);
		else if (w->state != WEB_FREE && now_ns >= w->due_ns)
			web_late(w);
	}
	if (polls[0].revents)
		accept_one(s);
}

/* Who asks for nothing goes, who is served after the answer. True: nobody is left. */
static bool serve_stop(struct serve *s)
{
	bool is_over = true;

	if (s->listen_fd >= 0)
		close(s->listen_fd);
	s->listen_fd = -1;
	for (size_t i = 0; i < SERVE_CONNS_MAX; i++) {
		if (s->webs[i].state == WEB_READING)
			web_close(&s->webs[i]);
		is_over &= s->webs[i].state == WEB_FREE;
	}
	return is_over;
}

/* A custom handler is called by its host alone, everybody else through a platform's door. */
static const char *address_choose(const char *address, bool is_azure, char buf[64])
{
	const char *port = getenv(is_azure ? "FUNCTIONS_CUSTOMHANDLER_PORT" : "PORT");

	if (address)
		return address;
	snprintf(buf, 64, "%s:%.40s", is_azure ? "127.0.0.1" : "", port && *port ? port : "8080");
	return buf;
}

static void signals_init(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL); /* but for the wait, and in no worker */
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int workers_start(struct serve *s, const struct serve_config *config)
{
	for (size_t i = 0; i < config->function_count && i < SERVE_RUNS_MAX; i++) {
		struct worker *w = &s->workers[i];
		int r;

		*w = (struct worker){ .serve = s, .function = config->functions[i] };
		if (sem_init(&w->todo, 0, 0) < 0)
			return -errno;
		r = pthread_create(&w->thread, NULL, worker_main, w);
		if (r != 0)
			return -r;
		s->worker_count++;
	}
	return 0;
}

/* None of them has a run. */
static void workers_stop(struct serve *s)
{
	for (size_t i = 0; i < s->worker_count; i++) {
		sem_post(&s->workers[i].todo);
		pthread_join(s->workers[i].thread, NULL);
		sem_destroy(&s->workers[i].todo);
	}
}

static int serve_init(struct serve *s, const struct serve_config *config)
{
	const char *address;
	char buf[64];
	int r = 0;

	s->is_action = config->is_action;
	s->is_azure = getenv("FUNCTIONS_CUSTOMHANDLER_PORT") != NULL;
	address = address_choose(config->address, s->is_azure, buf);
	s->listen_fd = http_listen(address);
	if (s->listen_fd < 0) {
		fprintf(stderr, "cannot listen at %s: %s\n", address, strerror(-s->listen_fd));
		return -1;
	}
	s->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = s->ended_fd < 0 ? -errno : workers_start(s, config);
	if (r < 0)
		fprintf(stderr, "cannot start: %s\n", strerror(-r));
	return r;
}

int serve(const struct serve_config *config)
{
	struct serve *s = calloc(1, sizeof(*s));

	signals_init();
	if (!s || serve_init(s, config) < 0)
		return 1; /* the process ends, and what was begun with it */
	printf("listening on port %d\n", http_listen_port(s->listen_fd));
	fflush(stdout);
	while (!stop_signal || !serve_stop(s))
		serve_turn(s);
	workers_stop(s);
	close(s->ended_fd);
	free(s);
	return 0;
}
