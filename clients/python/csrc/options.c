/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: keyword arguments, each a line of a table: its name, what it is, and where it goes.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "module.h"

enum kind { SECONDS_MS, SECONDS, COUNT_32, COUNT_64, FLAG, TRUTH, ATTEMPT, TIER, TEXT, BYTES };

struct option {
	const char *name;
	enum kind kind;
	size_t offset;
	uint32_t flag; /* of a FLAG; the least of a COUNT, for zero would be a default */
};

static const char *const TIERS[] = { "any", "dram", "nvmf", "block" };

/* Longer than any limit of the store is as good as for ever. */
static int seconds_from(PyObject *value, double unit, uint32_t *ret)
{
	double v = PyFloat_AsDouble(value);

	if (v == -1 && PyErr_Occurred())
		return -1;
	if (!(v >= 0)) {
		PyErr_SetString(PyExc_ValueError, "a time is a number of seconds from 0 on");
		return -1;
	}
	v = ceil(v * unit);
	/* Zero would be a default. */
	*ret = v < 1 ? 1 : v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
	return 0;
}

static int count_from(PyObject *value, uint64_t least, uint64_t most, uint64_t *ret)
{
	PyObject *number = PyNumber_Index(value);

	if (!number)
		return -1;
	*ret = PyLong_AsUnsignedLongLong(number);
	Py_DECREF(number);
	if (PyErr_Occurred())
		return -1;
	if (*ret < least || *ret > most) {
		PyErr_SetString(PyExc_ValueError, "the number is too small, or too large");
		return -1;
	}
	return 0;
}

/* An integer of 128 bits, as uuid.uuid4().int is one. */
static int attempt_from(PyObject *value, struct wadi_attempt *ret)
{
	PyObject *shift = PyLong_FromLong(64), *high = shift ? PyNumber_Rshift(value, shift) : NULL;

	Py_XDECREF(shift);
	if (!high)
		return -1;
	ret->hi = PyLong_AsUnsignedLongLong(high);
	Py_DECREF(high);
	if (PyErr_Occurred())
		return -1;
	ret->lo = PyLong_AsUnsignedLongLongMask(value);
	return PyErr_Occurred() ? -1 : 0;
}

static int tier_from(PyObject *value, enum wadi_tier *ret)
{
	for (size_t i = 0; i < sizeof(TIERS) / sizeof(TIERS[0]); i++) {
		if (PyUnicode_Check(value) &&
		    PyUnicode_CompareWithASCIIString(value, TIERS[i]) == 0) {
			*ret = (enum wadi_tier)i;
			return 0;
		}
	}
	PyErr_SetString(PyExc_ValueError, "a tier is any, dram, nvmf or block");
	return -1;
}

static int text_from(PyObject *value, const char **ret)
{
	Py_ssize_t len;

	*ret = PyUnicode_AsUTF8AndSize(value, &len);
	if (*ret && strlen(*ret) != (size_t)len) {
		PyErr_SetString(PyExc_ValueError, "embedded null character");
		*ret = NULL;
	}
	return *ret ? 0 : -1;
}

static int truth_from(PyObject *value, bool *ret)
{
	int r = PyObject_IsTrue(value);

	*ret = r > 0;
	return r < 0 ? -1 : 0;
}

static int option_from(const struct option *o, PyObject *value, void *ret)
{
	char *at = (char *)ret + o->offset;
	uint64_t n = 0;
	bool truth = false;
	int r;

	switch (o->kind) {
	case SECONDS_MS:
		return seconds_from(value, 1000, (uint32_t *)at);
	case SECONDS:
		return seconds_from(value, 1, (uint32_t *)at);
	case COUNT_32:
		r = count_from(value, o->flag, UINT32_MAX, &n);
		*(uint32_t *)at = (uint32_t)n;
		return r;
	case COUNT_64:
		return count_from(value, o->flag, UINT64_MAX, (uint64_t *)at);
	case FLAG:
		r = truth_from(value, &truth);
		*(uint32_t *)at |= truth ? o->flag : 0;
		return r;
	case TRUTH:
		return truth_from(value, (bool *)at);
	case ATTEMPT:
		return attempt_from(value, (struct wadi_attempt *)at);
	case TIER:
		return tier_from(value, (enum wadi_tier *)at);
	case TEXT:
		return text_from(value, (const char **)at);
	case BYTES:
		return PyObject_GetBuffer(value, (Py_buffer *)at, PyBUF_SIMPLE);
	}
	return 0;
}

/* `names` NULL: all of the table. */
static bool is_named(const char *names, const char *name)
{
	size_t len = strlen(name);

	if (!names)
		return true;
	for (const char *at = names; (at = strstr(at, name)); at += len)
		if ((at == names || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
			return true;
	return false;
}

static int options_from(PyObject *kwargs, const struct option *table, const char *names, void *ret)
{
	PyObject *key, *value;
	Py_ssize_t at = 0;

	while (kwargs && PyDict_Next(kwargs, &at, &key, &value)) {
		const struct option *o = table;

		while (o->name && (PyUnicode_CompareWithASCIIString(key, o->name) != 0 ||
				   !is_named(names, o->name)))
			o++;
		if (!o->name) {
			PyErr_Format(PyExc_TypeError, "there is no argument %R here", key);
			return -1;
		}
		if (value != Py_None && option_from(o, value, ret) < 0)
			return -1;
	}
	return 0;
}

/* A put's attributes are a buffer, to be given back by whoever called. */
struct put_options {
	struct wadi_put_options options;
	Py_buffer attributes;
};

#define AT(type, field) offsetof(struct type, field)

static const struct option PUT[] = {
	{ "create", FLAG, AT(put_options, options.flags), WADI_CREATE },
	{ "durable", FLAG, AT(put_options, options.flags), WADI_DURABLE },
	{ "ttl", SECONDS_MS, AT(put_options, options.ttl_ms), 0 },
	{ "reads", COUNT_32, AT(put_options, options.reads), 1 },
	{ "copies", COUNT_32, AT(put_options, options.copies), 1 },
	{ "if_version", COUNT_64, AT(put_options, options.if_version), 1 },
	{ "attempt", ATTEMPT, AT(put_options, options.attempt), 0 },
	{ "tier", TIER, AT(put_options, options.tier), 0 },
	{ "timeout", SECONDS_MS, AT(put_options, options.timeout_ms), 0 },
	{ "attributes", BYTES, AT(put_options, attributes), 0 },
	{ NULL, 0, 0, 0 },
};

int put_options_from(PyObject *kwargs, struct wadi_put_options *ret, Py_buffer *ret_attributes)
{
	struct put_options o = { .options = WADI_PUT_OPTIONS };

	*ret_attributes = (Py_buffer){ 0 };
	if (options_from(kwargs, PUT, NULL, &o) < 0) {
		PyBuffer_Release(&o.attributes);
		return -1;
	}
	*ret = o.options;
	*ret_attributes = o.attributes;
	ret->attributes = o.attributes.buf;
	ret->attributes_len = (size_t)o.attributes.len;
	return 0;
}

static const struct option GET[] = {
	{ "offset", COUNT_64, AT(wadi_get_options, offset), 0 },
	{ "length", COUNT_64, AT(wadi_get_options, len), 1 },
	{ "wait", SECONDS_MS, AT(wadi_get_options, wait_ms), 0 },
	{ "timeout", SECONDS_MS, AT(wadi_get_options, timeout_ms), 0 },
	{ "read_id", ATTEMPT, AT(wadi_get_options, read_id), 0 },
	{ NULL, 0, 0, 0 },
};

int get_options_from(PyObject *kwargs, struct wadi_get_options *ret)
{
	*ret = (struct wadi_get_options)WADI_GET_OPTIONS;
	return options_from(kwargs, GET, NULL, ret);
}

static const struct option LIST[] = {
	{ "recursive", TRUTH, AT(wadi_list_options, is_recursive), 0 },
	{ "after", TEXT, AT(wadi_list_options, after), 0 },
	{ "timeout", SECONDS_MS, AT(wadi_list_options, timeout_ms), 0 },
	{ NULL, 0, 0, 0 },
};

int list_options_from(PyObject *kwargs, struct wadi_list_options *ret)
{
	*ret = (struct wadi_list_options)WADI_LIST_OPTIONS;
	return options_from(kwargs, LIST, NULL, ret);
}

static const struct option JOB[] = {
	{ "lease", SECONDS_MS, AT(wadi_job_options, lease_ms), 0 },
	{ "functions", COUNT_32, AT(wadi_job_options, functions), 0 },
	{ "quota_dram", COUNT_64, AT(wadi_job_options, quota_dram), 0 },
	{ "capacity", COUNT_64, AT(wadi_job_options, capacity), 0 },
	{ "peak_mbps", COUNT_32, AT(wadi_job_options, peak_mbps), 0 },
	{ "latency_sensitive", TRUTH, AT(wadi_job_options, is_latency_sensitive), 0 },
	{ "durable", TRUTH, AT(wadi_job_options, is_durable), 0 },
	{ NULL, 0, 0, 0 },
};

int job_options_from(PyObject *kwargs, struct wadi_job_options *ret)
{
	*ret = (struct wadi_job_options)WADI_JOB_OPTIONS;
	return options_from(kwargs, JOB, NULL, ret);
}

static const struct option FEW[] = {
	{ "timeout", SECONDS_MS, AT(few_options, timeout_ms), 0 },
	{ "lease", SECONDS_MS, AT(few_options, timeout_ms), 0 },
	{ "valid", SECONDS, AT(few_options, valid_s), 0 },
	{ "rights", COUNT_32, AT(few_options, rights), 0 },
	{ "create", TRUTH, AT(few_options, must_create), 0 },
	{ "if_version", COUNT_64, AT(few_options, if_version), 1 },
	{ "size", COUNT_64, AT(few_options, len_hint), 0 },
	{ "prefix", TEXT, AT(few_options, prefix), 0 },
	{ NULL, 0, 0, 0 },
};

int few_options_from(PyObject *kwargs, const char *names, struct few_options *ret)
{
	return options_from(kwargs, FEW, names, ret);
}
