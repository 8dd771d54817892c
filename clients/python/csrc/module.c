/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

static const char *const TIERS[] = { "any", "dram", "nvmf", "block" };

/* Times in seconds, None for what there is no limit of. */
PyObject *stat_record(struct module *m, const struct wadi_stat *stat)
{
	PyObject *ttl = Py_NewRef(Py_None), *reads = Py_NewRef(Py_None);
	unsigned tier = (unsigned)stat->tier;

	if (stat->ttl_left_ms != UINT64_MAX)
		ttl = PyFloat_FromDouble((double)stat->ttl_left_ms / 1000);
	if (stat->reads_left != UINT32_MAX)
		reads = PyLong_FromUnsignedLong(stat->reads_left);
	if (!ttl || !reads) {
		Py_XDECREF(ttl);
		Py_XDECREF(reads);
		return NULL;
	}
	return PyObject_CallFunction(m->stat, "KKKdNNIsOy#", stat->object, stat->version, stat->len,
				     (double)stat->age_ms / 1000, ttl, reads, stat->extent_count,
				     TIERS[tier < 4 ? tier : 0],
				     stat->is_directory ? Py_True : Py_False, stat->attributes,
				     (Py_ssize_t)stat->attributes_len);
}

static PyObject *version(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	return PyUnicode_FromString(wadi_version());
}

static PyMethodDef FUNCTIONS[] = {
	{ "version", version, METH_NOARGS, "The version of libwadi." },
	{ "token_narrow", (PyCFunction)(void (*)(void))token_narrow, METH_VARARGS | METH_KEYWORDS,
	  "A narrower token made from one, without asking anybody." },
	{ NULL, NULL, 0, NULL },
};

static int type_add(PyObject *module, PyType_Spec *spec, PyTypeObject **ret)
{
	PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);

	if (!type)
		return -1;
	*ret = (PyTypeObject *)type;
	return PyModule_AddType(module, *ret);
}

static int class_get(PyObject *from, const char *name, PyObject **ret)
{
	*ret = PyObject_GetAttrString(from, name);
	return *ret ? 0 : -1;
}

static int classes_get(struct module *m)
{
	PyObject *errors = PyImport_ImportModule("wadi.errors"), *records = NULL;
	int r = -1;

	if (errors)
		records = PyImport_ImportModule("wadi.records");
	if (records && class_get(errors, "error_of", &m->error_of) == 0 &&
	    class_get(records, "Stat", &m->stat) == 0 &&
	    class_get(records, "Entry", &m->entry) == 0 &&
	    class_get(records, "job_info_of", &m->job_info) == 0)
		r = class_get(records, "store_info_of", &m->store_info);
	Py_XDECREF(errors);
	Py_XDECREF(records);
	return r;
}

static int module_exec(PyObject *module)
{
	struct module *m = PyModule_GetState(module);
	PyTypeObject *store = NULL;
	const struct {
		PyType_Spec *spec;
		PyTypeObject **type;
	} types[] = { { &view_spec, &m->view },     { &reservation_spec, &m->reservation },
		      { &reader_spec, &m->reader }, { &writer_spec, &m->writer },
		      { &list_spec, &m->list },     { &op_spec, &m->op },
		      { &store_spec, &store } };
	int r = classes_get(m);

	for (size_t i = 0; r == 0 && i < sizeof(types) / sizeof(types[0]); i++)
		r = type_add(module, types[i].spec, types[i].type);
	Py_XDECREF(OBJECT(store));
	return r;
}

static void module_free(void *module)
{
	struct module *m = PyModule_GetState(module);

	if (!m)
		return;
	Py_CLEAR(m->error_of);
	Py_CLEAR(m->stat);
	Py_CLEAR(m->entry);
	Py_CLEAR(m->job_info);
	Py_CLEAR(m->store_info);
	Py_CLEAR(m->view);
	Py_CLEAR(m->reservation);
	Py_CLEAR(m->reader);
	Py_CLEAR(m->writer);
	Py_CLEAR(m->list);
	Py_CLEAR(m->op);
}

static PyModuleDef_Slot SLOTS[] = {
	{ Py_mod_exec, module_exec },
	{ 0, NULL },
};

static PyModuleDef MODULE = {
	PyModuleDef_HEAD_INIT,
	.m_name = "wadi._wadi",
	.m_doc = "libwadi. The package wadi is what to import.",
	.m_size = sizeof(struct module),
	.m_methods = FUNCTIONS,
	.m_slots = SLOTS,
	.m_free = module_free,
};

PyMODINIT_FUNC PyInit__wadi(void)
{
	return PyModuleDef_Init(&MODULE);
}
