/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module: what the parts of `wadi._wadi` share. The extension is thin: a method takes its
 * arguments apart, makes one call of wadi.h without the interpreter's lock, and gives back an
 * object or raises. What can be written in Python is in wadi/.
 *
 *	store.c    the handle, and calls that leave nothing behind
 *	part.c     what is made of a handle and keeps it: views, readers, ...
 *	view.c     objects in place, read and written; export.c  DLPack and Arrow of them
 *	stream.c   readers, writers, directories     op.c  calls in flight
 *	many.c     many calls at once                job.c jobs, tokens, totals
 *	options.c  keyword arguments, by table
 *
 * Only the stable ABI of Python 3.11 is used, so one wheel serves that and what comes after.
 */
#pragma once

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <wadi/wadi.h>

/* Of the module; it stays as long as a store does. */
struct module {
	PyObject *error_of;                             /* errors.py */
	PyObject *stat, *entry, *job_info, *store_info; /* classes of records.py */
	PyTypeObject *view, *reservation, *reader, *writer, *list, *op;
};

/* What was given back while its store was in a call: ended when that is over. */
struct late {
	struct late *next;
	int (*end)(void *p);
	void *p;
};

struct op;

/*
 * A handle. It belongs to one thread at a time, and calls are made without the interpreter's
 * lock, so `is_busy` says that one is being made. All fields but `w` are read and written with
 * the lock held.
 */
struct store {
	PyObject_HEAD PyObject *module;
	struct module *m;
	struct wadi *w; /* NULL: not opened, or closed */
	int pid;
	bool is_closed; /* no new calls; `w` stays while parts do */
	bool is_busy;
	bool is_quiet;         /* whoever calls can raise nothing: signals wait */
	bool is_stopped;       /* by a signal whose handler has raised */
	PyThreadState *thread; /* of the call that is being made */
	Py_ssize_t part_count;
	struct late *late;
	struct op *ops;              /* in flight, or ended and not yet told: strong references */
	char *scratch;               /* for small objects */
	struct wadi_attempt attempt; /* the last that we made up */
};

/*
 * Around each call: enter takes the handle and gives the lock away, leave the reverse. Then
 * store_result() raises if `r` is negative or a signal's handler has raised, and returns -1 for
 * both. Between leave and store_result() there is no other call on the handle.
 */
int store_enter(struct store *s);
int store_enter_part(struct store *s);
void store_leave(struct store *s);
int64_t store_result(struct store *s, int64_t r, PyObject *path);
/* The last part of it: what was given back meanwhile goes. */
void store_settle(struct store *s);
/* Not after a fork, not closed, not in a call; raises. */
int store_check(struct store *s);
int store_check_part(struct store *s); /* closed it may be */
int store_check_forked(struct store *s);
/* UTF-8 of a str, without NUL; raises. */
const char *path_text(PyObject *path);
/* Of this handle and of no other. */
struct wadi_attempt store_attempt(struct store *s);
bool store_is_forked(const struct store *s);
/* Of whatever struct an object is. */
#define OBJECT(p) ((PyObject *)(p))

/* What is raised for a result; NULL: something else has been, as by a signal's handler. */
PyObject *error_new(struct module *m, int r, const char *words, PyObject *path);
void error_raise(struct module *m, int r, const char *words, PyObject *path);
/* `end(p)` now or, if the store is in a call, after it. Raises nothing; its result, or 0. */
int store_end(struct store *s, int (*end)(void *p), void *p);
/* A part has gone. */
void store_part_gone(struct store *s);

/* What keeps a store's handle open, and ends by itself when nobody has it any more. */
struct part {
	PyObject_HEAD struct store *store;
	PyObject *path;
	int (*end)(void *p);
	void *p; /* NULL: it has ended */
	/* Views and reservations. */
	char *data;
	Py_ssize_t len, export_count;
	bool must_end; /* with its last export */
};
struct part *part_new(PyTypeObject *type, struct store *s, PyObject *path, int (*end)(void *p));
void part_dealloc(PyObject *self);
/* Nobody has it yet; NULL. */
struct part *part_drop(struct part *p);
/*
 * As store_enter(), of a part that has not ended: what it is of, for another thread may end it
 * when the lock is given away. NULL: it has raised. Taking: it has ended with this call.
 */
void *part_enter(struct part *p);
void *part_enter_taking(struct part *p);
int part_check(const struct part *p);
/* Gives it back; the result of its end. */
int part_end(struct part *p);
PyObject *part_itself(PyObject *self, PyObject *unused);

/* A file's part of the module: types are made once, methods of Store are its own. */
extern PyType_Spec store_spec, view_spec, reservation_spec, reader_spec, writer_spec, list_spec,
	op_spec;

PyObject *store_view(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_reserve(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_reader(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_writer(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_list(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_start_put(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_start_get(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_start_remove(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_start_wait(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_ended(PyObject *self, PyObject *unused);
PyObject *store_get_each(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_put_each(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_job_create(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_job_renew(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *store_job_end(PyObject *self, PyObject *args);
PyObject *store_job_show(PyObject *self, PyObject *args);
PyObject *store_job_list(PyObject *self, PyObject *unused);
PyObject *store_info(PyObject *self, PyObject *unused);
PyObject *token_narrow(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *view_dlpack(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *view_dlpack_device(PyObject *self, PyObject *unused);
PyObject *view_arrow_schema(PyObject *self, PyObject *unused);
PyObject *view_arrow_array(PyObject *self, PyObject *args, PyObject *kwargs);

/* Ends all that is in flight; when a store closes. Raises if another thread came in between. */
int ops_end(struct store *s);

PyObject *stat_record(struct module *m, const struct wadi_stat *stat);

/* Keyword arguments into options of wadi.h; None is a default. They raise. */
int put_options_from(PyObject *kwargs, struct wadi_put_options *ret, Py_buffer *ret_attributes);
int get_options_from(PyObject *kwargs, struct wadi_get_options *ret);
int list_options_from(PyObject *kwargs, struct wadi_list_options *ret);
int job_options_from(PyObject *kwargs, struct wadi_job_options *ret);
struct few_options {
	uint32_t timeout_ms, valid_s, rights;
	bool must_create;
	uint64_t if_version, len_hint;
	const char *prefix;
};
/* Those of `names`, separated by blanks; of calls that have no struct in wadi.h. */
int few_options_from(PyObject *kwargs, const char *names, struct few_options *ret);
/* The wait of a call that waits unless said otherwise: as long as one call may take. */
#define WAIT_MS_DEFAULT 10000
