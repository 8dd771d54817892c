/* SPDX-License-Identifier: Apache-2.0 */
/*
 * many: a list of gets or puts, so many of them in flight that the way there and back is paid
 * for once. Each is a call of its own: they are not one change.
 */
#include "module.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* In flight at once: more would keep nobody busier, and each has a stack in the handle. */
#define WINDOW 512

/* Of large ones: enough to keep a connection busy. */
#define WINDOW_LARGE 16

/*
 * Objects of up to so many bytes come into room that is used again and again; longer ones are
 * asked for once more, when their length is known.
 */
#define SLOT_BYTES ((size_t)16 << 10)

/* One of them: what it is about is kept by the lists that the caller has. */
struct each {
	const char *path;
	Py_buffer data;
	struct wadi_op *op;
	void *got; /* a copy out of its slot, or libwadi's */
	bool is_large;
	struct wadi_attempt read; /* of both tries */
	uint64_t version;
	int64_t result; /* when it has ended */
	char *words;    /* of its failure */
};

struct many {
	struct store *s;
	PyObject *paths; /* tuples of our own: what is in them stays */
	struct each *each;
	size_t count;
	char *slots; /* of gets */
	struct wadi_get_options get;
	struct wadi_put_options put;
	bool is_put;
};

static char *slot_of(struct many *m, const struct each *e)
{
	return m->slots + (size_t)(e - m->each) % WINDOW * SLOT_BYTES;
}

static int start(struct many *m, struct each *e)
{
	struct wadi *w = m->s->w;

	if (m->is_put)
		return wadi_start_put(w, e->path, e->data.buf, (size_t)e->data.len, &m->put,
				      &e->version, &e->op);
	if (!e->is_large)
		e->read = store_attempt(m->s);
	m->get.read_id = e->read;
	if (e->is_large)
		return wadi_start_get_alloc(w, e->path, &m->get, &e->got, NULL, &e->op);
	return wadi_start_get(w, e->path, slot_of(m, e), SLOT_BYTES, &m->get, NULL, &e->op);
}

/* The words of a failure last until the next call on the handle. */
static void note(struct many *m, struct each *e, int64_t r)
{
	e->result = r;
	if (r < 0)
		e->words = strdup(wadi_strerror(m->s->w));
}

static void end(struct many *m, struct each *e)
{
	int64_t r;

	if (m->s->is_stopped)
		wadi_op_cancel(e->op);
	r = wadi_op_end(&e->op);
	if (r == -EMSGSIZE && !m->is_put && !e->is_large) {
		e->is_large = true;
		return;
	}
	if (r >= 0 && !m->is_put && !e->is_large) {
		e->got = malloc(r ? (size_t)r : 1);
		if (e->got)
			memcpy(e->got, slot_of(m, e), (size_t)r);
		else
			r = -ENOMEM;
	}
	note(m, e, r);
}

/*
 * Without the interpreter's lock. In order: whatever ends before its turn waits for it. The large
 * ones are for a run of their own, after that of all.
 */
static void run(struct many *m, bool is_of_large, size_t window)
{
	size_t first = 0, next = 0;

	while (first < m->count) {
		struct each *e = &m->each[first];

		if (next < m->count && next - first < window) {
			struct each *n = &m->each[next++];
			int r = 0;

			if (n->is_large == is_of_large)
				r = m->s->is_stopped ? -ECANCELED : start(m, n);
			if (r < 0)
				note(m, n, r);
			continue;
		}
		if (e->op)
			end(m, e);
		first++;
	}
}

static PyObject *value_of(struct many *m, struct each *e, PyObject *path)
{
	if (e->result >= 0 && m->is_put)
		return PyLong_FromUnsignedLongLong(e->version);
	if (e->result >= 0)
		return PyBytes_FromStringAndSize(e->got, e->result);
	/* A failure is a value here; wadi/store.py raises it, or not. */
	return error_new(m->s->m, (int)e->result, e->words ? e->words : "no memory for words",
			 path);
}

static PyObject *values_of(struct many *m)
{
	PyObject *list = PyList_New((Py_ssize_t)m->count);

	for (size_t i = 0; list && i < m->count; i++) {
		PyObject *path = PyTuple_GetItem(m->paths, (Py_ssize_t)i);
		PyObject *value = value_of(m, &m->each[i], path);

		if (!value || PyList_SetItem(list, (Py_ssize_t)i, value) < 0)
			Py_CLEAR(list);
	}
	return list;
}

static int paths_from(struct many *m, PyObject *paths)
{
	m->paths = PySequence_Tuple(paths);
	if (!m->paths)
		return -1;
	m->count = (size_t)PyTuple_Size(m->paths);
	m->each = PyMem_Calloc(m->count ? m->count : 1, sizeof(*m->each));
	if (!m->each) {
		PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < m->count; i++) {
		m->each[i].path = path_text(PyTuple_GetItem(m->paths, (Py_ssize_t)i));
		if (!m->each[i].path)
			return -1;
	}
	return 0;
}

static int data_from(struct many *m, PyObject *data)
{
	PyObject *items = PySequence_Tuple(data);
	int r = items && (size_t)PyTuple_Size(items) == m->count ? 0 : -1;

	if (items && r < 0)
		PyErr_SetString(PyExc_ValueError, "as many paths as objects are needed");
	for (size_t i = 0; r == 0 && i < m->count; i++)
		r = PyObject_GetBuffer(PyTuple_GetItem(items, (Py_ssize_t)i), &m->each[i].data,
				       PyBUF_SIMPLE);
	/* The buffers keep what they are of. */
	Py_XDECREF(items);
	return r;
}

static PyObject *run_all(struct many *m)
{
	if (store_enter(m->s) < 0)
		return NULL;
	run(m, false, WINDOW);
	run(m, true, WINDOW_LARGE);
	store_leave(m->s);
	return store_result(m->s, 0, NULL) < 0 ? NULL : values_of(m);
}

static void many_free(struct many *m)
{
	for (size_t i = 0; m->each && i < m->count; i++) {
		if (m->each[i].is_large)
			wadi_free(m->each[i].got);
		else
			free(m->each[i].got);
		free(m->each[i].words);
		PyBuffer_Release(&m->each[i].data);
	}
	PyMem_Free(m->each);
	free(m->slots);
	Py_XDECREF(m->paths);
}

PyObject *store_get_each(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct many m = { .s = (struct store *)self };
	PyObject *paths, *ret = NULL;

	if (!PyArg_ParseTuple(args, "O:get_each", &paths) || get_options_from(kwargs, &m.get) < 0)
		return NULL;
	m.slots = malloc(WINDOW * SLOT_BYTES);
	if (!m.slots)
		return PyErr_NoMemory();
	if (paths_from(&m, paths) == 0)
		ret = run_all(&m);
	many_free(&m);
	return ret;
}

PyObject *store_put_each(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct many m = { .s = (struct store *)self, .is_put = true };
	PyObject *paths, *data, *ret = NULL;
	Py_buffer attributes;

	if (!PyArg_ParseTuple(args, "OO:put_each", &paths, &data) ||
	    put_options_from(kwargs, &m.put, &attributes) < 0)
		return NULL;
	if (paths_from(&m, paths) == 0 && data_from(&m, data) == 0)
		ret = run_all(&m);
	many_free(&m);
	PyBuffer_Release(&attributes);
	return ret;
}
