/* SPDX-License-Identifier: Apache-2.0 */
/*
 * part: what is made of a handle. It keeps the handle open, and may go in any order, on any
 * thread, while the handle is in a call, after the handle was closed, or after a fork.
 */
#include "module.h"

struct part *part_new(PyTypeObject *type, struct store *s, PyObject *path, int (*end)(void *p))
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct part *p = (struct part *)alloc(type, 0);

	if (!p)
		return NULL;
	p->store = (struct store *)Py_NewRef(OBJECT(s));
	p->path = Py_NewRef(path);
	p->end = end;
	s->part_count++;
	return p;
}

int part_end(struct part *p)
{
	void *taken = p->p;

	p->p = NULL;
	p->data = NULL;
	return store_end(p->store, p->end, taken);
}

void part_dealloc(PyObject *self)
{
	struct part *p = (struct part *)self;
	PyTypeObject *type = Py_TYPE(self);
	PyObject *kind, *value, *trace;

	/* It may be the end of what has raised. */
	PyErr_Fetch(&kind, &value, &trace);
	if (p->store) {
		(void)part_end(p);
		store_part_gone(p->store);
		Py_DECREF(OBJECT(p->store));
	}
	PyErr_Restore(kind, value, trace);
	Py_XDECREF(p->path);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
	Py_DECREF(OBJECT(type));
}

int part_check(const struct part *p)
{
	if (p->p)
		return 0;
	PyErr_SetString(PyExc_ValueError, "it has been given back");
	return -1;
}

void *part_enter(struct part *p)
{
	void *of = p->p;

	return part_check(p) < 0 || store_enter_part(p->store) < 0 ? NULL : of;
}

void *part_enter_taking(struct part *p)
{
	void *of = p->p;

	if (part_check(p) < 0)
		return NULL;
	p->p = NULL;
	if (store_enter_part(p->store) == 0)
		return of;
	p->p = of;
	return NULL;
}

struct part *part_drop(struct part *p)
{
	Py_XDECREF(OBJECT(p));
	return NULL;
}

PyObject *part_itself(PyObject *self, PyObject *unused)
{
	(void)unused;
	return Py_NewRef(self);
}
