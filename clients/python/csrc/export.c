/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export: a view for those who speak DLPack or Arrow's C data interface. Both are structs that
 * anybody may define; ours have one row of bytes, and keep a buffer of the view until whoever took
 * them gives them back.
 */
#include <stdlib.h>

#include "module.h"

static void with_lock_release(Py_buffer *buffer)
{
	PyGILState_STATE lock = PyGILState_Ensure();

	PyBuffer_Release(buffer);
	PyGILState_Release(lock);
}

/* DLPack 1.0. What came before it cannot say that bytes are to be left alone. */

#define DLPACK_CPU       1
#define DLPACK_UINT      1
#define DLPACK_READ_ONLY 1u
#define DLPACK_NAME      "dltensor_versioned"

struct dlpack {
	uint32_t major, minor;
	void *context;
	void (*deleter)(struct dlpack *self);
	uint64_t flags;
	void *data;
	int32_t device_type, device_id, dimension_count;
	uint8_t code, bits;
	uint16_t lanes;
	int64_t *shape, *strides;
	uint64_t byte_offset;
};

struct dlpack_export {
	struct dlpack dlpack; /* first: what is handed out is this */
	int64_t shape, stride;
	Py_buffer buffer;
};

static void dlpack_delete(struct dlpack *self)
{
	struct dlpack_export *e = (struct dlpack_export *)self;

	with_lock_release(&e->buffer);
	free(e);
}

/* Nobody has taken it. */
static void dlpack_destroy(PyObject *capsule)
{
	if (PyCapsule_IsValid(capsule, DLPACK_NAME))
		dlpack_delete(PyCapsule_GetPointer(capsule, DLPACK_NAME));
}

PyObject *view_dlpack(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *const NAMES[] = { "stream", "max_version", "dl_device", "copy", NULL };
	PyObject *stream = Py_None, *max = Py_None, *device = Py_None, *copy = Py_None, *ret;
	struct dlpack_export *e;
	int major = 0, minor = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO:__dlpack__", (char **)NAMES, &stream,
					 &max, &device, &copy) ||
	    (max != Py_None && !PyArg_ParseTuple(max, "ii", &major, &minor)))
		return NULL;
	if (major < 1 || copy == Py_True)
		return PyErr_Format(PyExc_BufferError,
				    "the bytes are read only, which only DLPack 1.0 without a copy "
				    "can say; memoryview(view) and numpy.frombuffer(view) work");
	e = calloc(1, sizeof(*e));
	if (!e)
		return PyErr_NoMemory();
	if (PyObject_GetBuffer(self, &e->buffer, PyBUF_SIMPLE) < 0) {
		free(e);
		return NULL;
	}
	e->shape = e->buffer.len;
	e->stride = 1;
	e->dlpack = (struct dlpack){ .major = 1,
				     .deleter = dlpack_delete,
				     .flags = DLPACK_READ_ONLY,
				     .data = e->buffer.buf,
				     .device_type = DLPACK_CPU,
				     .dimension_count = 1,
				     .code = DLPACK_UINT,
				     .bits = 8,
				     .lanes = 1,
				     .shape = &e->shape,
				     .strides = &e->stride };
	ret = PyCapsule_New(&e->dlpack, DLPACK_NAME, dlpack_destroy);
	if (!ret)
		dlpack_delete(&e->dlpack);
	return ret;
}

PyObject *view_dlpack_device(PyObject *self, PyObject *unused)
{
	(void)self, (void)unused;
	return Py_BuildValue("ii", DLPACK_CPU, 0);
}

/* Arrow's C data interface: an array of uint8. */

struct arrow_schema {
	const char *format, *name, *metadata;
	int64_t flags, child_count;
	struct arrow_schema **children, *dictionary;
	void (*release)(struct arrow_schema *self);
	void *context;
};

struct arrow_array {
	int64_t length, null_count, offset, buffer_count, child_count;
	const void **buffers;
	struct arrow_array **children, *dictionary;
	void (*release)(struct arrow_array *self);
	void *context;
};

struct arrow_export {
	const void *buffers[2]; /* which are null: none; the bytes */
	Py_buffer buffer;
};

static void schema_release(struct arrow_schema *self)
{
	self->release = NULL;
}

static void array_release(struct arrow_array *self)
{
	struct arrow_export *e = self->context;

	with_lock_release(&e->buffer);
	free(e);
	self->release = NULL;
}

static void schema_destroy(PyObject *capsule)
{
	struct arrow_schema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");

	if (schema->release)
		schema->release(schema);
	free(schema);
}

/* Whoever took it has copied the struct and set ours to released. */
static void array_destroy(PyObject *capsule)
{
	struct arrow_array *array = PyCapsule_GetPointer(capsule, "arrow_array");

	if (array->release)
		array->release(array);
	free(array);
}

PyObject *view_arrow_schema(PyObject *self, PyObject *unused)
{
	struct arrow_schema *schema = calloc(1, sizeof(*schema));
	PyObject *ret;

	(void)self, (void)unused;
	if (!schema)
		return PyErr_NoMemory();
	*schema = (struct arrow_schema){ .format = "C", .name = "", .release = schema_release };
	ret = PyCapsule_New(schema, "arrow_schema", schema_destroy);
	if (!ret)
		free(schema);
	return ret;
}

static PyObject *array_capsule(PyObject *self)
{
	struct arrow_array *array = calloc(1, sizeof(*array));
	struct arrow_export *e = calloc(1, sizeof(*e));
	PyObject *ret = NULL;

	if (!array || !e) {
		PyErr_NoMemory();
	} else if (PyObject_GetBuffer(self, &e->buffer, PyBUF_SIMPLE) == 0) {
		e->buffers[1] = e->buffer.buf;
		*array = (struct arrow_array){ .length = e->buffer.len,
					       .buffer_count = 2,
					       .buffers = e->buffers,
					       .release = array_release,
					       .context = e };
		ret = PyCapsule_New(array, "arrow_array", array_destroy);
		if (!ret)
			PyBuffer_Release(&e->buffer);
	}
	if (!ret) {
		free(array);
		free(e);
	}
	return ret;
}

PyObject *view_arrow_array(PyObject *self, PyObject *args, PyObject *kwargs)
{
	static char *const NAMES[] = { "requested_schema", NULL };
	PyObject *requested = Py_None, *schema, *array;

	/* A wish, which may be left unfulfilled. */
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:__arrow_c_array__", (char **)NAMES,
					 &requested))
		return NULL;
	schema = view_arrow_schema(self, NULL);
	array = schema ? array_capsule(self) : NULL;
	if (!array) {
		Py_XDECREF(schema);
		return NULL;
	}
	return Py_BuildValue("NN", schema, array);
}
