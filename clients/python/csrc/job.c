/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: jobs, tokens, and what is in the store as a whole.
 */
#include "module.h"

#include <stdlib.h>

PyObject *store_job_create(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct wadi_job_options options;
	char token[WADI_TOKEN_MAX];
	const char *name;
	int r;

	if (!PyArg_ParseTuple(args, "s:job_create", &name) ||
	    job_options_from(kwargs, &options) < 0 || store_enter(s) < 0)
		return NULL;
	r = wadi_job_create(s->w, name, &options, token);
	store_leave(s);
	return store_result(s, r, NULL) < 0 ? NULL : PyUnicode_FromString(token);
}

PyObject *store_job_renew(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct store *s = (struct store *)self;
	struct few_options few = { 0 };
	const char *name;
	int r;

	if (!PyArg_ParseTuple(args, "s:job_renew", &name) ||
	    few_options_from(kwargs, "lease", &few) < 0 || store_enter(s) < 0)
		return NULL;
	r = wadi_job_renew(s->w, name, few.timeout_ms);
	store_leave(s);
	if (store_result(s, r, NULL) < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *store_job_end(PyObject *self, PyObject *args)
{
	struct store *s = (struct store *)self;
	const char *name;
	int r;

	if (!PyArg_ParseTuple(args, "s:job_end", &name) || store_enter(s) < 0)
		return NULL;
	r = wadi_job_end(s->w, name);
	store_leave(s);
	if (store_result(s, r, NULL) < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* Integers of 128 bits are made of two halves in records.py. */
static PyObject *job_record(struct module *m, const struct wadi_job_info *job)
{
	return PyObject_CallFunction(m->job_info, "KsOOKKKKKKK", job->id, job->name,
				     job->has_ended ? Py_True : Py_False,
				     job->has_expired ? Py_True : Py_False, job->lease_left_ms,
				     job->object_count, job->object_bytes, job->dram_bytes,
				     job->quota_dram, job->dram_byte_ms_hi, job->dram_byte_ms_lo);
}

PyObject *store_job_show(PyObject *self, PyObject *args)
{
	struct store *s = (struct store *)self;
	struct wadi_job_info job;
	const char *name;
	int r;

	if (!PyArg_ParseTuple(args, "s:job_show", &name) || store_enter(s) < 0)
		return NULL;
	r = wadi_job_show(s->w, name, &job);
	store_leave(s);
	return store_result(s, r, NULL) < 0 ? NULL : job_record(s->m, &job);
}

static PyObject *job_records(struct module *m, const struct wadi_job_info *jobs, int count)
{
	PyObject *list = PyList_New(count);

	for (int i = 0; list && i < count; i++) {
		PyObject *job = job_record(m, &jobs[i]);

		if (!job || PyList_SetItem(list, i, job) < 0)
			Py_CLEAR(list);
	}
	return list;
}

PyObject *store_job_list(PyObject *self, PyObject *unused)
{
	struct store *s = (struct store *)self;
	struct wadi_job_info *jobs = NULL;
	int cap = 64, count = cap;

	(void)unused;
	/* Jobs may come while they are counted. */
	do {
		cap = count + 16;
		PyMem_Free(jobs);
		jobs = PyMem_Malloc((size_t)cap * sizeof(*jobs));
		if (!jobs)
			return PyErr_NoMemory();
		count = store_enter(s);
		if (count == 0) {
			count = wadi_job_list(s->w, jobs, (size_t)cap);
			store_leave(s);
			count = (int)store_result(s, count, NULL);
		}
	} while (count > cap);
	if (count >= 0) {
		PyObject *list = job_records(s->m, jobs, count);

		PyMem_Free(jobs);
		return list;
	}
	PyMem_Free(jobs);
	return NULL;
}

PyObject *store_info(PyObject *self, PyObject *unused)
{
	struct store *s = (struct store *)self;
	struct wadi_store_info i;
	int r;

	(void)unused;
	if (store_enter(s) < 0)
		return NULL;
	r = wadi_store_info(s->w, &i);
	store_leave(s);
	if (store_result(s, r, NULL) < 0)
		return NULL;
	return PyObject_CallFunction(s->m->store_info, "KKKKKKKKKKKKKKiK", i.dram_limit,
				     i.dram_used, i.dram_clean, i.value_bytes, i.segment_count,
				     i.object_count, i.job_count, i.session_count, i.parked_count,
				     i.uptime_ms, i.dram_byte_ms_hi, i.dram_byte_ms_lo,
				     i.forgotten_byte_ms_hi, i.forgotten_byte_ms_lo,
				     (int)i.is_partial, i.lingering_bytes);
}

PyObject *token_narrow(PyObject *module, PyObject *args, PyObject *kwargs)
{
	struct few_options few = { .rights = WADI_RIGHT_ALL };
	char narrower[WADI_TOKEN_MAX];
	const char *token;
	int r;

	if (!PyArg_ParseTuple(args, "s:token_narrow", &token) ||
	    few_options_from(kwargs, "prefix rights valid", &few) < 0)
		return NULL;
	r = wadi_token_narrow(token, few.prefix, few.rights, few.valid_s, narrower);
	if (r == 0)
		return PyUnicode_FromString(narrower);
	error_raise(PyModule_GetState(module), r, "the token cannot be narrowed like that", NULL);
	return NULL;
}
