/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: readers, writers, and the names in a directory. wadi/files.py makes files of them.
 */
#include "module.h"

static int end_reader(void *p)
{
	struct wadi_reader *reader = p;

	wadi_reader_close(&reader);
	return 0;
}

static int end_writer(void *p)
{
	struct wadi_writer *writer = p;

	wadi_writer_abandon(&writer);
	return 0;
}

static int end_list(void *p)
{
	struct wadi_list *list = p;

	wadi_list_close(&list);
	return 0;
}

/* The part, or NULL: what it is of is given back, then. */
static PyObject *opened(struct part *p, void *of, int64_t r)
{
	p->p = of;
	if (store_result(p->store, r, p->path) == 0)
		return (PyObject *)p;
	Py_DECREF(OBJECT(p));
	return NULL;
}

PyObject *store_reader(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_reader *reader = NULL;
	struct wadi_get_options options;
	struct part *p;
	const char *text;
	PyObject *path;
	int r;

	if (!PyArg_ParseTuple(args, "O:reader", &path) || !(text = path_text(path)) ||
	    get_options_from(kwargs, &options) < 0 || store_check(s) < 0 ||
	    !(p = part_new(s->m->reader, s, path, end_reader)))
		return NULL;
	if (store_enter(s) < 0) {
		Py_DECREF(OBJECT(p));
		return NULL;
	}
	r = wadi_reader_open(s->w, text, &options, &reader);
	store_leave(s);
	return opened(p, reader, r);
}

static PyObject *reader_readinto(PyObject *self, PyObject *buffer)
{
	struct part *p = (struct part *)self;
	struct wadi_reader *reader;
	Py_buffer room;
	int64_t r = -1;

	if (PyObject_GetBuffer(buffer, &room, PyBUF_WRITABLE) < 0)
		return NULL;
	reader = part_enter(p);
	if (reader) {
		r = wadi_reader_read(reader, room.buf, (size_t)room.len);
		store_leave(p->store);
		r = store_result(p->store, r, p->path);
	}
	PyBuffer_Release(&room);
	return r < 0 ? NULL : PyLong_FromLongLong(r);
}

static PyObject *reader_stat(PyObject *self, void *unused)
{
	struct part *p = (struct part *)self;
	struct wadi_stat stat;

	(void)unused;
	if (part_check(p) < 0)
		return NULL;
	wadi_reader_stat(p->p, &stat);
	return stat_record(p->store->m, &stat);
}

static PyObject *part_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	(void)part_end((struct part *)self);
	Py_RETURN_NONE;
}

static PyObject *part_exit(PyObject *self, PyObject *args)
{
	(void)args;
	return part_close(self, NULL);
}

#define CALL(f) (PyCFunction)(void (*)(void))(f)

static PyMethodDef READER_METHODS[] = {
	{ "readinto", reader_readinto, METH_O, "The next bytes into a buffer; 0 at the end." },
	{ "close", part_close, METH_NOARGS, NULL },
	{ "__enter__", part_itself, METH_NOARGS, NULL },
	{ "__exit__", part_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef READER_GETTERS[] = {
	{ "stat", reader_stat, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot READER_SLOTS[] = {
	{ Py_tp_dealloc, part_dealloc },
	{ Py_tp_methods, READER_METHODS },
	{ Py_tp_getset, READER_GETTERS },
	{ Py_tp_doc, "A stream of one version of an object." },
	{ 0, NULL },
};

PyType_Spec reader_spec = { .name = "wadi.Reader",
			    .basicsize = sizeof(struct part),
			    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
			    .slots = READER_SLOTS };

/* Writers. */

PyObject *store_writer(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_put_options options;
	struct wadi_writer *writer = NULL;
	unsigned long long size = 0;
	struct part *p = NULL;
	Py_buffer attributes;
	const char *text;
	PyObject *path;
	int r = -1;

	if (!PyArg_ParseTuple(args, "O|K:writer", &path, &size) || !(text = path_text(path)) ||
	    put_options_from(kwargs, &options, &attributes) < 0)
		return NULL;
	if (store_check(s) == 0 && (p = part_new(s->m->writer, s, path, end_writer)) &&
	    store_enter(s) == 0) {
		r = wadi_writer_open(s->w, text, size, &options, &writer);
		store_leave(s);
	} else {
		p = part_drop(p);
	}
	PyBuffer_Release(&attributes);
	return p ? opened(p, writer, r) : NULL;
}

static PyObject *writer_write(PyObject *self, PyObject *buffer)
{
	struct part *p = (struct part *)self;
	struct wadi_writer *writer;
	Py_buffer data;
	int64_t r = -1;

	if (PyObject_GetBuffer(buffer, &data, PyBUF_SIMPLE) < 0)
		return NULL;
	writer = part_enter(p);
	if (writer) {
		r = wadi_writer_write(writer, data.buf, (size_t)data.len);
		store_leave(p->store);
		r = store_result(p->store, r, p->path) < 0 ? -1 : data.len;
	}
	PyBuffer_Release(&data);
	return r < 0 ? NULL : PyLong_FromLongLong(r);
}

static PyObject *writer_part(PyObject *self, PyObject *args)
{
	struct part *p = (struct part *)self;
	struct wadi_writer *writer;
	unsigned number;
	int64_t r;

	if (!PyArg_ParseTuple(args, "I:part", &number) || !(writer = part_enter(p)))
		return NULL;
	r = wadi_writer_part(writer, number);
	store_leave(p->store);
	if (store_result(p->store, r, p->path) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *writer_commit(PyObject *self, PyObject *unused)
{
	struct part *p = (struct part *)self;
	struct wadi_writer *taken = part_enter_taking(p);
	uint64_t version = 0;
	int64_t r;

	(void)unused;
	if (!taken)
		return NULL;
	r = wadi_writer_commit(&taken, &version);
	store_leave(p->store);
	return store_result(p->store, r, p->path) < 0 ? NULL : PyLong_FromUnsignedLongLong(version);
}

static PyObject *writer_exit(PyObject *self, PyObject *args)
{
	struct part *p = (struct part *)self;
	PyObject *kind, *error, *trace, *version;

	if (!PyArg_ParseTuple(args, "OOO", &kind, &error, &trace))
		return NULL;
	if (!p->p || error != Py_None)
		return part_close(self, NULL);
	version = writer_commit(self, NULL);
	if (!version)
		return NULL;
	Py_DECREF(version);
	Py_RETURN_NONE;
}

static PyMethodDef WRITER_METHODS[] = {
	{ "write", writer_write, METH_O, "Appends all of a buffer; its length." },
	{ "part", writer_part, METH_VARARGS, "What is written next belongs to this part." },
	{ "commit", writer_commit, METH_NOARGS, "Makes the object visible; its version." },
	{ "abandon", part_close, METH_NOARGS, "Drops what was written." },
	{ "__enter__", part_itself, METH_NOARGS, NULL },
	{ "__exit__", writer_exit, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot WRITER_SLOTS[] = {
	{ Py_tp_dealloc, part_dealloc },
	{ Py_tp_methods, WRITER_METHODS },
	{ Py_tp_doc, "A stream that becomes an object when it is committed." },
	{ 0, NULL },
};

PyType_Spec writer_spec = { .name = "wadi.Writer",
			    .basicsize = sizeof(struct part),
			    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
			    .slots = WRITER_SLOTS };

/* Directories. */

PyObject *store_list(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_list_options options;
	PyObject *path = NULL, *all = NULL;
	struct wadi_list *list = NULL;
	const char *text = "";
	struct part *p;
	int r = -1;

	if (!PyArg_ParseTuple(args, "|O:list", &path) || (path && !(text = path_text(path))) ||
	    list_options_from(kwargs, &options) < 0 || store_check(s) < 0 ||
	    !(all = PyUnicode_FromString("")))
		return NULL;
	p = part_new(s->m->list, s, path ? path : all, end_list);
	if (p && store_enter(s) == 0) {
		r = wadi_list_open(s->w, text, &options, &list);
		store_leave(s);
	} else {
		p = part_drop(p);
	}
	Py_DECREF(all);
	return p ? opened(p, list, r) : NULL;
}

static PyObject *list_next(PyObject *self)
{
	struct part *p = (struct part *)self;
	PyObject *name = NULL, *stat = NULL, *ret = NULL;
	struct wadi_list_entry entry;
	struct wadi_list *list;
	int64_t r;

	/* After its end it is at its end. */
	if (!p->p || !(list = part_enter(p)))
		return NULL;
	r = wadi_list_next(list, &entry);
	store_leave(p->store);
	/* It lies in the list, which may have been closed meanwhile, and go now. */
	if (r > 0 && !p->store->is_stopped)
		name = PyUnicode_FromStringAndSize(entry.name, (Py_ssize_t)entry.name_len);
	if (store_result(p->store, r, p->path) < 0) {
		Py_XDECREF(name);
		return NULL;
	}
	if (r == 0) {
		(void)part_end(p);
		return NULL;
	}
	if (name)
		stat = stat_record(p->store->m, &entry.stat);
	if (stat)
		ret = PyObject_CallFunction(p->store->m->entry, "OO", name, stat);
	Py_XDECREF(name);
	Py_XDECREF(stat);
	return ret;
}

static PyMethodDef LIST_METHODS[] = {
	{ "close", part_close, METH_NOARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot LIST_SLOTS[] = {
	{ Py_tp_dealloc, part_dealloc },
	{ Py_tp_methods, LIST_METHODS },
	{ Py_tp_iter, PyObject_SelfIter },
	{ Py_tp_iternext, list_next },
	{ Py_tp_doc, "The names in a directory." },
	{ 0, NULL },
};

PyType_Spec list_spec = { .name = "wadi.List",
			  .basicsize = sizeof(struct part),
			  .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
			  .slots = LIST_SLOTS };
