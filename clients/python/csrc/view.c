/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view: an object in place, as a buffer: bytes(view), memoryview(view), numpy.frombuffer(view).
 * Who has such a buffer keeps the view, so the bytes stay until the last of them is gone.
 * A reservation is the same, to be written.
 */
#include "module.h"

#include <errno.h>

static int end_view(void *p)
{
	struct wadi_view *view = p;

	return wadi_release(&view);
}

static int end_reservation(void *p)
{
	struct wadi_reservation *reservation = p;

	wadi_abandon(&reservation);
	return 0;
}

PyObject *store_view(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_get_options options;
	struct wadi_view *view = NULL;
	struct part *p = NULL;
	const char *text;
	PyObject *path;
	int64_t r;

	if (!PyArg_ParseTuple(args, "O:view", &path) || !(text = path_text(path)) ||
	    get_options_from(kwargs, &options) < 0 || store_check(s) < 0 ||
	    !(p = part_new(s->m->view, s, path, end_view)))
		return NULL;
	if (store_enter(s) == 0) {
		r = wadi_view(s->w, text, &options, &view);
		store_leave(s);
		p->p = view;
		if (store_result(s, r, path) == 0) {
			p->data = view ? (char *)(uintptr_t)wadi_view_data(view) : NULL;
			p->len = (Py_ssize_t)wadi_view_len(view);
			return (PyObject *)p;
		}
	}
	Py_DECREF(OBJECT(p));
	return NULL;
}

PyObject *store_reserve(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_reservation *reservation = NULL;
	struct wadi_put_options options;
	struct part *p = NULL;
	Py_buffer attributes;
	const char *text;
	PyObject *path;
	Py_ssize_t len;
	int64_t r = -1;

	if (!PyArg_ParseTuple(args, "On:reserve", &path, &len) || !(text = path_text(path)))
		return NULL;
	if (len < 0)
		return PyErr_Format(PyExc_ValueError, "a length is not negative");
	if (put_options_from(kwargs, &options, &attributes) < 0)
		return NULL;
	if (store_check(s) == 0 && (p = part_new(s->m->reservation, s, path, end_reservation)) &&
	    store_enter(s) == 0) {
		r = wadi_reserve(s->w, text, (size_t)len, &options, &reservation);
		store_leave(s);
		p->p = reservation;
		r = store_result(s, r, path);
	}
	PyBuffer_Release(&attributes);
	if (r < 0) {
		Py_XDECREF(OBJECT(p));
		return NULL;
	}
	p->data = wadi_reservation_data(reservation);
	p->len = len;
	return (PyObject *)p;
}

/* Buffers. */

static int get_buffer(PyObject *self, Py_buffer *ret, int flags, bool is_readonly)
{
	struct part *p = (struct part *)self;

	ret->obj = NULL;
	/* What is mapped is another's after a fork, if the parent gives it back. */
	if (part_check(p) < 0 || store_check_forked(p->store) < 0)
		return -1;
	if (p->must_end) {
		PyErr_SetString(PyExc_ValueError, "it is given back with the last of its buffers");
		return -1;
	}
	if (PyBuffer_FillInfo(ret, self, p->data ? p->data : "", p->len, is_readonly, flags) < 0)
		return -1;
	p->export_count++;
	return 0;
}

static int view_get_buffer(PyObject *self, Py_buffer *ret, int flags)
{
	return get_buffer(self, ret, flags, true);
}

static int reservation_get_buffer(PyObject *self, Py_buffer *ret, int flags)
{
	return get_buffer(self, ret, flags, false);
}

static void release_buffer(PyObject *self, Py_buffer *buffer)
{
	struct part *p = (struct part *)self;

	(void)buffer;
	if (--p->export_count == 0 && p->must_end)
		(void)part_end(p);
}

static int check_exports(const struct part *p)
{
	if (p->export_count == 0)
		return 0;
	PyErr_Format(PyExc_BufferError, "%zd buffers or arrays of it are still alive",
		     p->export_count);
	return -1;
}

static Py_ssize_t part_len(PyObject *self)
{
	struct part *p = (struct part *)self;

	return part_check(p) < 0 ? -1 : p->len;
}

static PyObject *part_released(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct part *)self)->p);
}

static PyObject *part_data(PyObject *self, void *unused)
{
	(void)unused;
	return PyMemoryView_FromObject(self);
}

/* Views. */

static PyObject *view_release(PyObject *self, PyObject *unused)
{
	struct part *p = (struct part *)self;
	int r;

	(void)unused;
	/* What is given back later tells nobody whether it was whole. */
	if (check_exports(p) < 0 || (p->p && store_check_part(p->store) < 0))
		return NULL;
	r = part_end(p);
	if (r < 0) {
		error_raise(p->store->m, r, "the view was revoked: what was read may be anything",
			    p->path);
		return NULL;
	}
	Py_RETURN_NONE;
}

/* With arrays still alive it goes with the last of them. */
static void end_soon(struct part *p)
{
	p->must_end = true;
	if (p->export_count == 0)
		(void)part_end(p);
}

static PyObject *view_exit(PyObject *self, PyObject *args)
{
	struct part *p = (struct part *)self;
	PyObject *kind, *error, *trace, *ret;

	if (!PyArg_ParseTuple(args, "OOO", &kind, &error, &trace))
		return NULL;
	if (p->export_count > 0 || error != Py_None) {
		end_soon(p);
		Py_RETURN_NONE;
	}
	ret = view_release(self, NULL);
	if (!ret)
		end_soon(p); /* also if nobody can tell how it was */
	return ret;
}

static PyObject *view_stat(PyObject *self, void *unused)
{
	struct part *p = (struct part *)self;
	struct wadi_stat stat;

	(void)unused;
	if (part_check(p) < 0)
		return NULL;
	wadi_view_stat(p->p, &stat);
	return stat_record(p->store->m, &stat);
}

#define CALL(f) (PyCFunction)(void (*)(void))(f)

static PyMethodDef VIEW_METHODS[] = {
	{ "release", view_release, METH_NOARGS,
	  "Gives the bytes back; raises StaleError if they were not whole until now." },
	{ "__enter__", part_itself, METH_NOARGS, NULL },
	{ "__exit__", view_exit, METH_VARARGS, NULL },
	{ "__dlpack__", CALL(view_dlpack), METH_VARARGS | METH_KEYWORDS, NULL },
	{ "__dlpack_device__", view_dlpack_device, METH_NOARGS, NULL },
	{ "__arrow_c_schema__", view_arrow_schema, METH_NOARGS, NULL },
	{ "__arrow_c_array__", CALL(view_arrow_array), METH_VARARGS | METH_KEYWORDS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef VIEW_GETTERS[] = {
	{ "stat", view_stat, NULL, NULL, NULL },
	{ "data", part_data, NULL, "A memoryview, which is to be released before the view is.",
	  NULL },
	{ "released", part_released, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot VIEW_SLOTS[] = {
	{ Py_tp_dealloc, part_dealloc },
	{ Py_tp_methods, VIEW_METHODS },
	{ Py_tp_getset, VIEW_GETTERS },
	{ Py_sq_length, part_len },
	{ Py_bf_getbuffer, view_get_buffer },
	{ Py_bf_releasebuffer, release_buffer },
	{ Py_tp_doc, "The bytes of an object, read only, where they are." },
	{ 0, NULL },
};

PyType_Spec view_spec = { .name = "wadi.View",
			  .basicsize = sizeof(struct part),
			  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
			  .slots = VIEW_SLOTS };

/* Reservations. */

static PyObject *reservation_commit(PyObject *self, PyObject *unused)
{
	struct part *p = (struct part *)self;
	struct wadi_reservation *taken;
	uint64_t version = 0;
	int64_t r;

	(void)unused;
	if (check_exports(p) < 0 || !(taken = part_enter_taking(p)))
		return NULL;
	r = wadi_commit(&taken, &version);
	store_leave(p->store);
	return store_result(p->store, r, p->path) < 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

static PyObject *reservation_abandon(PyObject *self, PyObject *unused)
{
	struct part *p = (struct part *)self;

	(void)unused;
	if (check_exports(p) < 0)
		return NULL;
	(void)part_end(p);
	Py_RETURN_NONE;
}

static PyObject *reservation_exit(PyObject *self, PyObject *args)
{
	struct part *p = (struct part *)self;
	PyObject *kind, *error, *trace, *version;

	if (!PyArg_ParseTuple(args, "OOO", &kind, &error, &trace))
		return NULL;
	/* Committed or abandoned before. */
	if (!p->p)
		Py_RETURN_NONE;
	if (error != Py_None) {
		end_soon(p);
		Py_RETURN_NONE;
	}
	version = reservation_commit(self, NULL);
	if (!version)
		return NULL;
	Py_DECREF(version);
	Py_RETURN_NONE;
}

static PyMethodDef RESERVATION_METHODS[] = {
	{ "commit", reservation_commit, METH_NOARGS, "Makes the object visible; its version." },
	{ "abandon", reservation_abandon, METH_NOARGS, "Gives the room back." },
	{ "__enter__", part_itself, METH_NOARGS, NULL },
	{ "__exit__", reservation_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef RESERVATION_GETTERS[] = {
	{ "data", part_data, NULL, "A memoryview, which is to be released before the commit.",
	  NULL },
	{ "released", part_released, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot RESERVATION_SLOTS[] = {
	{ Py_tp_dealloc, part_dealloc },
	{ Py_tp_methods, RESERVATION_METHODS },
	{ Py_tp_getset, RESERVATION_GETTERS },
	{ Py_sq_length, part_len },
	{ Py_bf_getbuffer, reservation_get_buffer },
	{ Py_bf_releasebuffer, release_buffer },
	{ Py_tp_doc, "Room for an object, to be written and committed." },
	{ 0, NULL },
};

PyType_Spec reservation_spec = { .name = "wadi.Reservation",
				 .basicsize = sizeof(struct part),
				 .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
				 .slots = RESERVATION_SLOTS };
