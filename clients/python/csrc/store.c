/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: a handle, what every call on it does, and the calls that leave nothing behind.
 */
#include "module.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* What is as long goes into a buffer that is there; of a longer object the length is known then. */
#define SCRATCH_BYTES ((size_t)64 << 10)
/* An object that is replaced by a longer one again and again is given up on. */
#define TRIES 8

PyObject *error_new(struct module *m, int r, const char *words, PyObject *path)
{
	/* What is long is cut, perhaps inside of a letter. */
	PyObject *text = PyUnicode_DecodeUTF8(words, (Py_ssize_t)strlen(words), "replace");

	return text ? PyObject_CallFunction(m->error_of, "isNO", -r, wadi_status_name(r), text,
					    path ? path : Py_None)
		    : NULL;
}

void error_raise(struct module *m, int r, const char *words, PyObject *path)
{
	PyObject *error = error_new(m, r, words, path);

	if (error)
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_XDECREF(error);
}

const char *path_text(PyObject *path)
{
	Py_ssize_t len;
	const char *text;

	if (!PyUnicode_Check(path)) {
		PyErr_SetString(PyExc_TypeError, "a path is a str");
		return NULL;
	}
	text = PyUnicode_AsUTF8AndSize(path, &len);
	if (!text || strlen(text) == (size_t)len)
		return text;
	PyErr_SetString(PyExc_ValueError, "a path has no null characters");
	return NULL;
}

struct wadi_attempt store_attempt(struct store *s)
{
	s->attempt.lo++;
	return s->attempt;
}

bool store_is_forked(const struct store *s)
{
	return s->pid != getpid();
}

int store_check_forked(struct store *s)
{
	if (!s->w || !store_is_forked(s))
		return 0;
	error_raise(s->m, -EOWNERDEAD,
		    "the store was opened before a fork; open another in this process", NULL);
	return -1;
}

/* A part goes on after its store was closed: the handle is still there. */
static int check(struct store *s, bool may_be_closed)
{
	if (store_check_forked(s) < 0)
		return -1;
	if ((s->is_closed && !may_be_closed) || !s->w)
		PyErr_SetString(PyExc_ValueError, "the store is closed");
	else if (s->is_busy)
		error_raise(s->m, -EBUSY, "the store is in a call; open one for each thread", NULL);
	else
		return 0;
	return -1;
}

int store_check(struct store *s)
{
	return check(s, false);
}

int store_check_part(struct store *s)
{
	return check(s, true);
}

void store_settle(struct store *s)
{
	while (s->late) {
		struct late *late = s->late;

		s->late = late->next;
		(void)store_end(s, late->end, late->p);
		PyMem_Free(late);
	}
}

static void take(struct store *s)
{
	s->is_busy = true;
	s->is_stopped = false;
	s->thread = PyEval_SaveThread();
}

static void give(struct store *s)
{
	PyEval_RestoreThread(s->thread);
	s->is_busy = false;
}

int store_enter(struct store *s)
{
	if (store_check(s) < 0)
		return -1;
	take(s);
	return 0;
}

int store_enter_part(struct store *s)
{
	if (store_check_part(s) < 0)
		return -1;
	take(s);
	return 0;
}

void store_leave(struct store *s)
{
	give(s);
}

int64_t store_result(struct store *s, int64_t r, PyObject *path)
{
	if (s->is_stopped) {
		r = -1;
	} else if (r < 0) {
		error_raise(s->m, (int)r, wadi_strerror(s->w), path);
		r = -1;
	}
	store_settle(s);
	return r;
}

int store_end(struct store *s, int (*end)(void *p), void *p)
{
	bool was_quiet = s->is_quiet;
	int r = 0;

	/* After a fork it is the parent's, and its memory is not looked at any more. */
	if (store_is_forked(s) || !p)
		return 0;
	if (s->is_busy) {
		struct late *late = PyMem_Malloc(sizeof(*late));

		/* Without memory it goes with the process. */
		if (late) {
			*late = (struct late){ .next = s->late, .end = end, .p = p };
			s->late = late;
		}
		return 0;
	}
	s->is_quiet = true;
	take(s);
	r = end(p);
	give(s);
	s->is_quiet = was_quiet;
	store_settle(s);
	return r;
}

static void close_now(struct store *s)
{
	struct wadi *w = s->w;

	s->w = NULL;
	if (!w || store_is_forked(s))
		return;
	Py_BEGIN_ALLOW_THREADS;
	wadi_close(w);
	Py_END_ALLOW_THREADS;
}

void store_part_gone(struct store *s)
{
	s->part_count--;
	if (s->is_closed && s->part_count == 0 && !s->is_busy)
		close_now(s);
}

/* Asked by libwadi while it waits. */
static bool is_interrupted(void *arg)
{
	struct store *s = arg;

	if (s->is_quiet || s->is_stopped)
		return s->is_stopped;
	PyEval_RestoreThread(s->thread);
	s->is_stopped = PyErr_CheckSignals() < 0;
	s->thread = PyEval_SaveThread();
	return s->is_stopped;
}

/* The method that Store.__init__() calls: only methods are told which module they are of. */
static PyObject *store_open(PyObject *self, PyTypeObject *defining, PyObject *const *args,
			    Py_ssize_t count, PyObject *names)
{
	struct store *s = (struct store *)self;
	struct wadi_options options = WADI_OPTIONS;
	const char *text[2] = { NULL, NULL };
	double timeout = 0;
	int r;

	(void)names;
	if (s->module || count != 3)
		return PyErr_Format(PyExc_TypeError, "a store is opened once");
	for (int i = 0; i < 2; i++) {
		if (args[i] == Py_None)
			continue;
		text[i] = PyUnicode_AsUTF8AndSize(args[i], NULL);
		if (!text[i])
			return NULL;
	}
	timeout = args[2] == Py_None ? 0 : PyFloat_AsDouble(args[2]);
	if (timeout == -1 && PyErr_Occurred())
		return NULL;
	if (!(timeout >= 0 && timeout < UINT32_MAX / 1000))
		return PyErr_Format(PyExc_ValueError, "a timeout is a number of seconds");
	s->scratch = PyMem_Malloc(SCRATCH_BYTES);
	if (!s->scratch)
		return PyErr_NoMemory();
	s->module = Py_NewRef(PyType_GetModule(defining));
	s->m = PyType_GetModuleState(defining);
	options.endpoint = text[0];
	options.token = text[1];
	options.timeout_ms = (uint32_t)(timeout * 1000);
	options.is_interrupted = is_interrupted;
	options.interrupt_arg = s;
	s->pid = getpid();
	if (getrandom(&s->attempt, sizeof(s->attempt), GRND_NONBLOCK) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	s->attempt.hi |= 1; /* all zeros would be none */
	take(s);
	r = wadi_open(&options, &s->w);
	give(s);
	if (store_result(s, r, NULL) < 0) {
		close_now(s);
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *store_close(PyObject *self, PyObject *unused)
{
	struct store *s = (struct store *)self;

	(void)unused;
	if (s->is_closed || !s->w)
		Py_RETURN_NONE;
	if (!store_is_forked(s)) {
		if (store_check(s) < 0 || ops_end(s) < 0)
			return NULL;
	}
	s->is_closed = true;
	if (s->part_count == 0)
		close_now(s);
	Py_RETURN_NONE;
}

static void store_dealloc(PyObject *self)
{
	struct store *s = (struct store *)self;
	PyTypeObject *type = Py_TYPE(self);

	/* No part of it is left, or it would be here. */
	close_now(s);
	PyMem_Free(s->scratch);
	Py_XDECREF(s->module);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
	Py_DECREF(OBJECT(type));
}

static PyObject *store_put(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_put_options options;
	Py_buffer data, attributes;
	uint64_t version = 0;
	PyObject *path;
	const char *text;
	int64_t r = -1;

	if (!PyArg_ParseTuple(args, "Oy*:put", &path, &data))
		return NULL;
	if ((text = path_text(path)) && put_options_from(kwargs, &options, &attributes) == 0) {
		if (store_enter(s) == 0) {
			r = wadi_put(s->w, text, data.buf, (size_t)data.len, &options, &version);
			store_leave(s);
			r = store_result(s, r, path);
		}
		PyBuffer_Release(&attributes);
	}
	PyBuffer_Release(&data);
	return r < 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

/*
 * -EMSGSIZE is not raised: there is more, and *ret_stat has the length. It has none if the path is
 * what is too long.
 */
static int64_t get_once(struct store *s, PyObject *path, const struct wadi_get_options *options,
			void *buf, size_t cap, struct wadi_stat *ret_stat)
{
	const char *text = path_text(path);
	int64_t r;

	if (!text || store_enter(s) < 0)
		return -1;
	r = wadi_get(s->w, text, buf, cap, options, ret_stat);
	store_leave(s);
	if (r == -EMSGSIZE && !s->is_stopped && ret_stat->version)
		return r;
	return store_result(s, r, path);
}

/* Of the part that was asked for. */
static size_t length_of(const struct wadi_get_options *o, const struct wadi_stat *stat)
{
	uint64_t left = o->offset < stat->len ? stat->len - o->offset : 0;

	return (size_t)(o->len && o->len < left ? o->len : left);
}

static PyObject *get_large(struct store *s, PyObject *path, const struct wadi_get_options *options,
			   struct wadi_stat *stat)
{
	for (int i = 0; i < TRIES; i++) {
		size_t len = length_of(options, stat);
		PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
		int64_t r;

		if (!bytes)
			return NULL;
		r = get_once(s, path, options, PyBytes_AsString(bytes), len, stat);
		if (r == (int64_t)len)
			return bytes;
		/* It was replaced meanwhile: by a shorter one, or a longer one. */
		if (r >= 0) {
			PyObject *cut = PyBytes_FromStringAndSize(PyBytes_AsString(bytes), r);

			Py_DECREF(bytes);
			return cut;
		}
		Py_DECREF(bytes);
		if (r == -1)
			return NULL;
	}
	error_raise(s->m, -EMSGSIZE, "the object grows faster than it can be read", path);
	return NULL;
}

static PyObject *store_get(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_get_options options;
	struct wadi_stat stat = { 0 };
	PyObject *path;
	int64_t r;

	if (!PyArg_ParseTuple(args, "O:get", &path) || get_options_from(kwargs, &options) < 0 ||
	    store_check(s) < 0)
		return NULL;
	/* Both tries are one read of an object that can be read so many times. */
	if (!options.read_id.hi && !options.read_id.lo)
		options.read_id = store_attempt(s);
	r = get_once(s, path, &options, s->scratch, SCRATCH_BYTES, &stat);
	if (r >= 0)
		return PyBytes_FromStringAndSize(s->scratch, r);
	return r == -EMSGSIZE ? get_large(s, path, &options, &stat) : NULL;
}

static PyObject *store_get_into(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_get_options options;
	const char *text;
	PyObject *path;
	Py_buffer room;
	int64_t r = -1;

	if (!PyArg_ParseTuple(args, "Ow*:get_into", &path, &room))
		return NULL;
	if ((text = path_text(path)) && get_options_from(kwargs, &options) == 0 &&
	    store_enter(s) == 0) {
		r = wadi_get(s->w, text, room.buf, (size_t)room.len, &options, NULL);
		store_leave(s);
		r = store_result(s, r, path);
	}
	PyBuffer_Release(&room);
	return r < 0 ? NULL : PyLong_FromLongLong(r);
}

/* Names. */

static PyObject *store_stat(PyObject *self, PyObject *path)
{
	struct store *s = (struct store *)self;
	const char *text = path_text(path);
	struct wadi_stat stat;
	int64_t r;

	if (!text || store_enter(s) < 0)
		return NULL;
	r = wadi_stat(s->w, text, &stat);
	store_leave(s);
	return store_result(s, r, path) < 0 ? NULL : stat_record(s->m, &stat);
}

static PyObject *store_remove(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options o = { 0 };
	const char *text;
	PyObject *path;
	int64_t r;

	if (!PyArg_ParseTuple(args, "O:remove", &path) || !(text = path_text(path)) ||
	    few_options_from(kwargs, "if_version", &o) < 0 || store_enter(s) < 0)
		return NULL;
	r = wadi_remove(s->w, text, o.if_version);
	store_leave(s);
	if (store_result(s, r, path) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *store_remove_tree(PyObject *self, PyObject *path)
{
	struct store *s = (struct store *)self;
	const char *text = path_text(path);
	uint64_t count = 0;
	int64_t r;

	if (!text || store_enter(s) < 0)
		return NULL;
	r = wadi_remove_tree(s->w, text, &count);
	store_leave(s);
	return store_result(s, r, path) < 0 ? NULL : PyLong_FromUnsignedLongLong(count);
}

static PyObject *store_rename(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options o = { 0 };
	const char *from_text, *to_text;
	PyObject *from, *to;
	uint64_t version = 0;
	int64_t r;

	if (!PyArg_ParseTuple(args, "OO:rename", &from, &to) || !(from_text = path_text(from)) ||
	    !(to_text = path_text(to)) || few_options_from(kwargs, "create", &o) < 0 ||
	    store_enter(s) < 0)
		return NULL;
	r = wadi_rename(s->w, from_text, to_text, o.must_create ? WADI_CREATE : 0, &version);
	store_leave(s);
	return store_result(s, r, from) < 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

static PyObject *store_wait(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options o = { .timeout_ms = WAIT_MS_DEFAULT };
	struct wadi_stat stat;
	const char *text;
	PyObject *path;
	int64_t r;

	if (!PyArg_ParseTuple(args, "O:wait", &path) || !(text = path_text(path)) ||
	    few_options_from(kwargs, "timeout", &o) < 0 || store_enter(s) < 0)
		return NULL;
	r = wadi_wait(s->w, text, o.timeout_ms, &stat);
	store_leave(s);
	return store_result(s, r, path) < 0 ? NULL : stat_record(s->m, &stat);
}

static PyObject *store_wait_count(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options o = { .timeout_ms = WAIT_MS_DEFAULT };
	unsigned long long count;
	uint64_t there = 0;
	const char *text;
	PyObject *path;
	int64_t r;

	if (!PyArg_ParseTuple(args, "OK:wait_count", &path, &count) || !(text = path_text(path)) ||
	    few_options_from(kwargs, "timeout", &o) < 0 || store_enter(s) < 0)
		return NULL;
	r = wadi_wait_count(s->w, text, count, o.timeout_ms, &there);
	store_leave(s);
	return store_result(s, r, path) < 0 ? NULL : PyLong_FromUnsignedLongLong(there);
}

/* For event loops. */

static PyObject *store_fileno(PyObject *self, PyObject *unused)
{
	struct store *s = (struct store *)self;
	int64_t r;

	(void)unused;
	if (store_enter(s) < 0)
		return NULL;
	r = wadi_fd(s->w);
	store_leave(s);
	r = store_result(s, r, NULL);
	return r < 0 ? NULL : PyLong_FromLongLong(r);
}

static PyObject *store_turn(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options o = { 0 };
	int64_t r;

	if (!PyArg_ParseTuple(args, ":turn") || few_options_from(kwargs, "timeout", &o) < 0 ||
	    store_enter(s) < 0)
		return NULL;
	r = wadi_turn(s->w, o.timeout_ms);
	store_leave(s);
	r = store_result(s, r, NULL);
	return r < 0 ? NULL : PyLong_FromLongLong(r);
}

static PyObject *store_job(PyObject *self, void *unused)
{
	struct store *s = (struct store *)self;

	(void)unused;
	return store_check(s) < 0 ? NULL : PyUnicode_FromString(wadi_job_name(s->w));
}

static PyObject *store_closed(PyObject *self, void *unused)
{
	struct store *s = (struct store *)self;

	(void)unused;
	return PyBool_FromLong(s->is_closed || !s->w);
}

/* clang-format off */
#define CALL(f) (PyCFunction)(void (*)(void))(f)
static PyMethodDef METHODS[] = {
	{ "_open", CALL(store_open), METH_METHOD | METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "close", store_close, METH_NOARGS, "Ends the handle; views of it stay good to their own end." },
	{ "put", CALL(store_put), METH_VARARGS | METH_KEYWORDS, "Puts bytes at a path; the version." },
	{ "get", CALL(store_get), METH_VARARGS | METH_KEYWORDS, "The bytes at a path." },
	{ "get_into", CALL(store_get_into), METH_VARARGS | METH_KEYWORDS,
	  "Gets into a writable buffer; the number of bytes." },
	{ "get_each", CALL(store_get_each), METH_VARARGS | METH_KEYWORDS, NULL },
	{ "put_each", CALL(store_put_each), METH_VARARGS | METH_KEYWORDS, NULL },
	{ "view", CALL(store_view), METH_VARARGS | METH_KEYWORDS,
	  "The object where it is, without a copy if the attachment allows that." },
	{ "reserve", CALL(store_reserve), METH_VARARGS | METH_KEYWORDS,
	  "Room for an object, to be written in place and committed." },
	{ "reader", CALL(store_reader), METH_VARARGS | METH_KEYWORDS, "A stream of one version." },
	{ "writer", CALL(store_writer), METH_VARARGS | METH_KEYWORDS,
	  "A stream that becomes an object when it is committed." },
	{ "list", CALL(store_list), METH_VARARGS | METH_KEYWORDS,
	  "What lies in a directory, in byte order." },
	{ "stat", store_stat, METH_O, "What is known of an object, or with a / at the end of a directory." },
	{ "remove", CALL(store_remove), METH_VARARGS | METH_KEYWORDS, "Removes an object." },
	{ "remove_tree", store_remove_tree, METH_O, "Removes all below a directory; how many." },
	{ "rename", CALL(store_rename), METH_VARARGS | METH_KEYWORDS,
	  "Moves an object inside its job; the version." },
	{ "wait", CALL(store_wait), METH_VARARGS | METH_KEYWORDS, "Returns when there is an object." },
	{ "wait_count", CALL(store_wait_count), METH_VARARGS | METH_KEYWORDS,
	  "Returns when so many objects are directly in a directory." },
	{ "start_put", CALL(store_start_put), METH_VARARGS | METH_KEYWORDS, "A put in flight." },
	{ "start_get", CALL(store_start_get), METH_VARARGS | METH_KEYWORDS, "A get in flight." },
	{ "start_remove", CALL(store_start_remove), METH_VARARGS | METH_KEYWORDS, "A remove in flight." },
	{ "start_wait", CALL(store_start_wait), METH_VARARGS | METH_KEYWORDS, "A wait in flight." },
	{ "ended", store_ended, METH_NOARGS, "Those in flight that have ended and were not told of." },
	{ "fileno", store_fileno, METH_NOARGS, "Polls readable when turn() has work." },
	{ "turn", CALL(store_turn), METH_VARARGS | METH_KEYWORDS,
	  "Does the work, and says how many calls in flight ended." },
	{ "job_create", CALL(store_job_create), METH_VARARGS | METH_KEYWORDS, "Makes a job; its token." },
	{ "job_renew", CALL(store_job_renew), METH_VARARGS | METH_KEYWORDS, "Renews a job's lease." },
	{ "job_end", store_job_end, METH_VARARGS, "Ends a job; nothing of it can be read any more." },
	{ "job_show", store_job_show, METH_VARARGS, "A job, its bytes and its bill." },
	{ "job_list", store_job_list, METH_NOARGS, "All jobs." },
	{ "info", store_info, METH_NOARGS, "The store as a whole." },
	{ NULL, NULL, 0, NULL },
};
/* clang-format on */

static PyGetSetDef GETTERS[] = {
	{ "job", store_job, NULL, "The name of the handle's job.", NULL },
	{ "closed", store_closed, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot SLOTS[] = {
	{ Py_tp_dealloc, store_dealloc },
	{ Py_tp_methods, METHODS },
	{ Py_tp_getset, GETTERS },
	{ Py_tp_doc, "A handle to a store." },
	{ 0, NULL },
};

PyType_Spec store_spec = { .name = "wadi._wadi.Store",
			   .basicsize = sizeof(struct store),
			   .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
			   .slots = SLOTS };
