/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op: calls in flight. They make progress in any call on their store; turn() is one that does
 * nothing else, and wadi/aio.py makes awaitables of them.
 *
 * What an operation writes to, and reads from, is in its struct, which the store keeps until it
 * has ended: so nobody needs to keep the Python object.
 */
#include "module.h"

#include <errno.h>

enum op_kind { OP_PUT, OP_GET, OP_REMOVE, OP_WAIT };

struct op {
	PyObject_HEAD struct store *store; /* strong while it is in flight; NULL after that */
	struct op *next;
	struct wadi_op *op; /* NULL: somebody is about to end it, or has */
	enum op_kind kind;
	PyObject *path;
	Py_buffer data;
	void *got;
	uint64_t version;
	struct wadi_stat stat;
	PyObject *result, *error; /* one of them, when it has ended */
};

static struct op *op_new(struct store *s, enum op_kind kind, PyObject *path)
{
	allocfunc alloc;
	struct op *o;

	if (store_check(s) < 0)
		return NULL;
	alloc = (allocfunc)PyType_GetSlot(s->m->op, Py_tp_alloc);
	o = (struct op *)alloc(s->m->op, 0);
	if (!o)
		return NULL;
	o->kind = kind;
	o->path = Py_NewRef(path);
	return o;
}

static struct op *op_drop(struct op *o)
{
	Py_DECREF(OBJECT(o));
	return NULL;
}

/* It is in flight now, or `r` says why not. */
static PyObject *started(struct store *s, struct op *o, int64_t r)
{
	/* It may be in flight although a signal's handler has raised; then it goes on. */
	if (o->op) {
		o->store = (struct store *)Py_NewRef(OBJECT(s));
		o->next = s->ops;
		s->ops = (struct op *)Py_NewRef(OBJECT(o));
	}
	if (store_result(s, r, o->path) == 0)
		return (PyObject *)o;
	Py_DECREF(OBJECT(o));
	return NULL;
}

static PyObject *value_of(struct op *o, int64_t r)
{
	switch (o->kind) {
	case OP_PUT:
		return PyLong_FromUnsignedLongLong(o->version);
	case OP_GET:
		return PyBytes_FromStringAndSize(o->got, r);
	case OP_WAIT:
		return stat_record(o->store->m, &o->stat);
	case OP_REMOVE:
		break;
	}
	Py_RETURN_NONE;
}

/* What was raised is kept, for whoever asks for its result. */
static void keep_error(struct op *o)
{
	PyObject *kind, *value, *trace;

	PyErr_Fetch(&kind, &value, &trace);
	PyErr_NormalizeException(&kind, &value, &trace);
	o->error = value ? Py_NewRef(value) : NULL;
	Py_XDECREF(kind);
	Py_XDECREF(value);
	Py_XDECREF(trace);
}

static void unlist(struct store *s, const struct op *o)
{
	struct op **at = &s->ops;

	while (*at && *at != o)
		at = &(*at)->next;
	if (*at)
		*at = o->next;
}

/* Waits for it. Raises nothing of its own, but what a signal's handler raises. */
static int op_end(struct op *o)
{
	PyObject *kind, *value, *trace;
	struct store *s = o->store;
	struct wadi_op *taken = o->op;
	bool is_stopped;
	int64_t r;

	/* It is freed without the lock, so from here on nobody looks at it. */
	o->op = NULL;
	if (store_enter_part(s) < 0) {
		o->op = taken;
		return -1;
	}
	r = wadi_op_end(&taken);
	store_leave(s);
	is_stopped = s->is_stopped; /* what is done below may be another call's */
	PyErr_Fetch(&kind, &value, &trace);
	unlist(s, o);
	if (r < 0)
		error_raise(s->m, (int)r, wadi_strerror(s->w), o->path);
	else
		o->result = value_of(o, r);
	if (!o->result)
		keep_error(o);
	if (o->kind == OP_GET && r >= 0)
		wadi_free(o->got);
	PyBuffer_Release(&o->data);
	o->store = NULL;
	PyErr_Restore(kind, value, trace);
	store_settle(s);
	Py_DECREF(OBJECT(s));
	Py_DECREF(OBJECT(o)); /* the store's */
	return is_stopped ? -1 : 0;
}

static bool op_has_ended(const struct op *o)
{
	return o->op ? wadi_op_has_ended(o->op) : !o->store;
}

static PyObject *op_is_busy(const struct op *o)
{
	error_raise(o->store->m, -EBUSY, "another thread waits for it", o->path);
	return NULL;
}

static PyObject *op_result(PyObject *self, PyObject *unused)
{
	struct op *o = (struct op *)self;

	(void)unused;
	if (o->op && op_end(o) < 0)
		return NULL;
	if (o->store)
		return op_is_busy(o);
	if (o->result)
		return Py_NewRef(o->result);
	PyErr_SetObject((PyObject *)Py_TYPE(o->error), o->error);
	return NULL;
}

static PyObject *op_done(PyObject *self, PyObject *unused)
{
	(void)unused;
	return PyBool_FromLong(op_has_ended((struct op *)self));
}

static PyObject *op_cancel(PyObject *self, PyObject *unused)
{
	struct op *o = (struct op *)self;

	(void)unused;
	if (!op_has_ended(o)) {
		if (!o->op)
			return op_is_busy(o);
		if (store_enter_part(o->store) < 0)
			return NULL;
		wadi_op_cancel(o->op);
		store_leave(o->store);
		if (store_result(o->store, 0, NULL) < 0)
			return NULL;
	}
	Py_RETURN_NONE;
}

static void op_dealloc(PyObject *self)
{
	struct op *o = (struct op *)self;
	PyTypeObject *type = Py_TYPE(self);

	Py_XDECREF(o->path);
	Py_XDECREF(o->result);
	Py_XDECREF(o->error);
	PyBuffer_Release(&o->data);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
	Py_DECREF(OBJECT(type));
}

int ops_end(struct store *s)
{
	int r = 0;

	for (struct op *o = s->ops; o; o = o->next)
		if (!op_has_ended(o))
			wadi_op_cancel(o->op);
	s->is_quiet = true;
	while (s->ops && r == 0)
		r = op_end(s->ops);
	s->is_quiet = false;
	return r;
}

PyObject *store_ended(PyObject *self, PyObject *unused)
{
	struct store *s = (struct store *)self;
	PyObject *ended = PyList_New(0);
	int r = ended ? store_check(s) : -1;

	(void)unused;
	for (struct op *o = s->ops; r == 0 && o; o = o->next)
		if (op_has_ended(o))
			r = PyList_Append(ended, (PyObject *)o);
	/* Others may come in between, and end some of them. */
	for (Py_ssize_t i = 0; r == 0 && i < PyList_Size(ended); i++) {
		struct op *o = (struct op *)PyList_GetItem(ended, i);

		r = o->op ? op_end(o) : 0;
	}
	/* They are listed with the latest first. */
	if (r < 0 || PyList_Reverse(ended) < 0)
		Py_CLEAR(ended);
	return ended;
}

PyObject *store_start_put(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_put_options options;
	Py_buffer data, attributes;
	struct op *o = NULL;
	const char *text;
	PyObject *path;
	int r = -1;

	if (!PyArg_ParseTuple(args, "Oy*:start_put", &path, &data))
		return NULL;
	if (!(text = path_text(path)) || put_options_from(kwargs, &options, &attributes) < 0) {
		PyBuffer_Release(&data);
		return NULL;
	}
	o = op_new(s, OP_PUT, path);
	if (o) {
		o->data = data;
		if (store_enter(s) < 0) {
			o = op_drop(o);
		} else {
			r = wadi_start_put(s->w, text, data.buf, (size_t)data.len, &options,
					   &o->version, &o->op);
			store_leave(s);
		}
	} else {
		PyBuffer_Release(&data);
	}
	PyBuffer_Release(&attributes);
	return o ? started(s, o, r) : NULL;
}

PyObject *store_start_get(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_get_options options;
	const char *text;
	PyObject *path;
	struct op *o;
	int r;

	if (!PyArg_ParseTuple(args, "O:start_get", &path) || !(text = path_text(path)) ||
	    get_options_from(kwargs, &options) < 0 || !(o = op_new(s, OP_GET, path)))
		return NULL;
	if (store_enter(s) < 0) {
		Py_DECREF(OBJECT(o));
		return NULL;
	}
	r = wadi_start_get_alloc(s->w, text, &options, &o->got, NULL, &o->op);
	store_leave(s);
	return started(s, o, r);
}

PyObject *store_start_remove(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options few = { 0 };
	const char *text;
	PyObject *path;
	struct op *o;
	int r;

	if (!PyArg_ParseTuple(args, "O:start_remove", &path) || !(text = path_text(path)) ||
	    few_options_from(kwargs, "if_version", &few) < 0 || !(o = op_new(s, OP_REMOVE, path)))
		return NULL;
	if (store_enter(s) < 0) {
		Py_DECREF(OBJECT(o));
		return NULL;
	}
	r = wadi_start_remove(s->w, text, few.if_version, &o->op);
	store_leave(s);
	return started(s, o, r);
}

PyObject *store_start_wait(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options few = { .timeout_ms = WAIT_MS_DEFAULT };
	const char *text;
	PyObject *path;
	struct op *o;
	int r;

	if (!PyArg_ParseTuple(args, "O:start_wait", &path) || !(text = path_text(path)) ||
	    few_options_from(kwargs, "timeout", &few) < 0 || !(o = op_new(s, OP_WAIT, path)))
		return NULL;
	if (store_enter(s) < 0) {
		Py_DECREF(OBJECT(o));
		return NULL;
	}
	r = wadi_start_wait(s->w, text, few.timeout_ms, &o->stat, &o->op);
	store_leave(s);
	return started(s, o, r);
}

static PyMethodDef METHODS[] = {
	{ "done", op_done, METH_NOARGS, "Has it ended?" },
	{ "result", op_result, METH_NOARGS,
	  "Waits for it: what the call of the same name returns." },
	{ "cancel", op_cancel, METH_NOARGS,
	  "It is to end soon; its result is still to be asked for." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot SLOTS[] = {
	{ Py_tp_dealloc, op_dealloc },
	{ Py_tp_methods, METHODS },
	{ Py_tp_doc, "A call in flight." },
	{ 0, NULL },
};

PyType_Spec op_spec = { .name = "wadi.Op",
			.basicsize = sizeof(struct op),
			.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
			.slots = SLOTS };
