/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void u128_format(u128 v, char ret[U128_DIGITS])
{
	if (v >> 64)
		snprintf(ret, U128_DIGITS, "%llx%016llx", (unsigned long long)(v >> 64),
			 (unsigned long long)v);
	else
		snprintf(ret, U128_DIGITS, "%llx", (unsigned long long)v);
}

int u128_parse(const char *s, u128 *ret)
{
	static const char DIGITS[] = "0123456789abcdef";
	u128 v = 0;

	if (!*s || strlen(s) >= U128_DIGITS)
		return -EINVAL;
	for (; *s; s++) {
		const char *digit = strchr(DIGITS, *s);

		if (!digit)
			return -EINVAL;
		v = v << 4 | (u128)(digit - DIGITS);
	}
	*ret = v;
	return 0;
}

/* Fields are optional here; a function whose field is missing finds 0 or NULL. */
struct fields {
	const json_t *object;
	struct problem *problem;
	int r; /* of the first field that was wrong */
};

static void wrong(struct fields *f, const char *name, const char *want)
{
	if (f->r == 0)
		f->r = problem_set_final(f->problem, -EINVAL, "the request's \"%s\" must be %s",
					 name, want);
}

static uint64_t number(struct fields *f, const char *name, uint64_t max)
{
	const json_t *v = json_object_get(f->object, name);
	json_int_t n = json_integer_value(v);

	if (v && (!json_is_integer(v) || n < 0 || (uint64_t)n > max))
		wrong(f, name, "a number within its limits");
	return (uint64_t)n;
}

static const char *string(struct fields *f, const char *name)
{
	const json_t *v = json_object_get(f->object, name);

	if (v && !json_is_string(v))
		wrong(f, name, "a string");
	return json_string_value(v);
}

/* The index of a word in a list that ends with NULL; a missing field is the first. */
static int word(struct fields *f, const char *name, const char *const *words)
{
	const char *s = string(f, name);

	if (!s)
		return 0;
	for (int i = 0; words[i]; i++)
		if (strcmp(s, words[i]) == 0)
			return i;
	wrong(f, name, "a word that this program knows");
	return 0;
}

static const char *environment(const char *name, const char *filtered_name)
{
	const char *s = getenv(name);

	if (!s || !*s)
		s = getenv(filtered_name);
	return s && *s ? s : NULL;
}

static struct store_config store_parse(struct fields *request)
{
	struct fields f = *request;
	struct store_config c = { .timeout_ms = 30000 };

	f.object = json_object_get(request->object, "store");
	if (f.object && !json_is_object(f.object))
		wrong(&f, "store", "an object");
	c.url = string(&f, "url");
	c.token = string(&f, "token");
	c.job = string(&f, "job");
	if (!c.url)
		c.url = environment("WADI_ENDPOINT", "__OW_WADI_ENDPOINT");
	if (!c.token)
		c.token = environment("WADI_TOKEN", "__OW_WADI_TOKEN");
	request->r = f.r;
	return c;
}

static struct segment *input_parse(struct fields *f, size_t *ret_count)
{
	const json_t *list = json_object_get(f->object, "input");
	size_t count = json_array_size(list);
	struct segment *segments = calloc(count + 1, sizeof(*segments));

	*ret_count = 0;
	if (list && !json_is_array(list))
		wrong(f, "input", "a list");
	for (size_t i = 0; segments && i < count; i++) {
		const json_t *item = json_array_get(list, i);
		json_int_t offset = json_integer_value(json_array_get(item, 1));
		json_int_t len = json_integer_value(json_array_get(item, 2));

		segments[i] = (struct segment){
			.path = json_string_value(json_array_get(item, 0)),
			.offset = (uint64_t)offset,
			.len = (uint64_t)len,
		};
		if (!segments[i].path || offset < 0 || len < 0 || len > INT64_MAX - offset)
			wrong(f, "input", "a list of [path, offset, length]");
	}
	*ret_count = count;
	return segments;
}

int request_parse(const json_t *value, struct request *ret, struct problem *problem)
{
	static const char *const FORMATS[] = { "records", "lines", NULL };
	static const char *const SKEWS[] = { "uniform", "zipf", "equal", NULL };
	struct fields f = { .object = value, .problem = problem };
	struct request req = { 0 };
	const char *first;

	if (!json_is_object(value))
		return problem_set_final(problem, -EINVAL, "the line has no object \"value\"");
	req.op = string(&f, "op");
	req.index = (uint32_t)number(&f, "index", FUNCTIONS_MAX);
	req.attempt = (uint32_t)number(&f, "attempt", UINT32_MAX);
	req.format = (enum format)word(&f, "format", FORMATS);
	req.function_memory = number(&f, "function_memory", FUNCTION_MEMORY_MAX);
	req.timeout_ms = (uint32_t)number(&f, "timeout_ms", UINT32_MAX);
	req.store = store_parse(&f);
	req.output = string(&f, "output");
	req.maps = (uint32_t)number(&f, "maps", FUNCTIONS_MAX);
	req.reduces = (uint32_t)number(&f, "reduces", FUNCTIONS_MAX);
	req.samples = (uint32_t)number(&f, "samples", UINT32_MAX);
	req.skew = (enum skew)word(&f, "skew", SKEWS);
	req.count = number(&f, "count", INT64_MAX);
	first = string(&f, "first");
	if (first && u128_parse(first, &req.first) < 0)
		wrong(&f, "first", "hexadecimal");
	if (!req.op)
		wrong(&f, "op", "a string");
	if (req.function_memory < FUNCTION_MEMORY_MIN)
		wrong(&f, "function_memory", "32 MiB or more");
	req.input = input_parse(&f, &req.input_count);
	if (!req.input)
		f.r = problem_set(problem, -ENOMEM, "no memory for the request");
	if (f.r < 0) {
		request_fini(&req);
		return f.r;
	}
	*ret = req;
	return 0;
}

void request_fini(struct request *r)
{
	free(r->input);
	r->input = NULL;
}

int request_text_check(const char *text, struct problem *problem)
{
	json_t *string = json_string(text);
	bool is_text = string != NULL;

	json_decref(string);
	if (is_text)
		return 0;
	return problem_set_final(problem, -EILSEQ,
				 "%s: this is not UTF-8, and functions are asked in JSON; give it "
				 "another name",
				 text);
}
