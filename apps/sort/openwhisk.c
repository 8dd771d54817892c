/* SPDX-License-Identifier: Apache-2.0 */
#include "openwhisk.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <isa-l/crc64.h>

#define ACTION_OF_OURS "wadi-sort"

/* Runs executables that speak ActionLoop. */
#define IMAGE_OF_THEIRS "openwhisk/actionloop-base"

/* An annotation of ours, so that an action that is up to date stays, and its instances warm. */
#define DIGEST_KEY "wadi-sort-digest"

/* What the platform's proxy takes of a container's memory, beside the function. */
#define PROXY_MB 32

static bool is_name(const char *s, const char *more)
{
	if (!*s || strlen(s) >= OPENWHISK_NAME_MAX)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr(more, *s))
			return false;
	return true;
}

static bool is_loopback(const char *host)
{
	return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 ||
	       strncmp(host, "[::1]", 5) == 0;
}

static int not_a_place(const char *url, struct problem *problem)
{
	return problem_set(problem, -EINVAL,
			   "'%s' is no place of OpenWhisk's; one is openwhisk://HOST[:PORT]"
			   "[/ACTION][?image=IMAGE]",
			   url);
}

/* Copies up to a delimiter; false: it is too long. */
static bool take(const char **s, const char *until, char *ret, size_t cap)
{
	size_t len = strcspn(*s, until);

	if (len >= cap)
		return false;
	memcpy(ret, *s, len);
	ret[len] = '\0';
	*s += len;
	return true;
}

int openwhisk_parse(const char *url, struct openwhisk *ret, struct problem *problem)
{
	struct openwhisk w = { .is_ours = true };
	const char *s = strstr(url, "://");
	char host[256];
	bool is_good = s && s - url < 32;

	if (is_good)
		s += 3;
	is_good = is_good && take(&s, "/?", host, sizeof(host)) && is_name(host, ".-:[]_");
	if (is_good && *s == '/' && s[1] && s[1] != '?') {
		s++;
		w.is_ours = false;
		is_good = take(&s, "?", w.action, sizeof(w.action)) && is_name(w.action, "._-/@");
	} else if (is_good && *s == '/') {
		s++;
	}
	if (is_good && strncmp(s, "?image=", 7) == 0 && w.is_ours) {
		s += 7;
		is_good = take(&s, "", w.image, sizeof(w.image)) && is_name(w.image, "._-/:@");
	}
	if (!is_good || *s)
		return not_a_place(url, problem);
	if (w.is_ours)
		strcpy(w.action, ACTION_OF_OURS);
	if (!w.image[0])
		strcpy(w.image, IMAGE_OF_THEIRS);
	is_good = strncmp(url, "openwhisk+http:", 15) == 0 ||
		  (strncmp(url, "openwhisk:", 10) == 0 && is_loopback(host));
	snprintf(w.base, sizeof(w.base), "%s://%s/api/v1/namespaces/_", is_good ? "http" : "https",
		 host);
	*ret = w;
	return 0;
}

static const char *string_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s ? s : "";
}

/* It becomes part of a URL. */
static void id_copy(const json_t *root, struct openwhisk_answer *ret)
{
	const char *id = string_of(root, "activationId");

	if (strlen(id) < sizeof(ret->id) && is_name(id, "-"))
		strcpy(ret->id, id);
}

/* The last lines that fit. */
static void log_copy(const json_t *root, struct openwhisk_answer *ret)
{
	const json_t *lines = json_object_get(root, "logs");
	size_t count = json_array_size(lines), first = count, len = 0;

	while (first > 0) {
		const char *line = json_string_value(json_array_get(lines, first - 1));

		len += line ? strlen(line) + 1 : 0;
		if (len >= sizeof(ret->log))
			break;
		first--;
	}
	len = 0;
	for (; first < count; first++) {
		const char *line = json_string_value(json_array_get(lines, first));

		if (line)
			len += (size_t)snprintf(ret->log + len, sizeof(ret->log) - len, "%s%s",
						len ? "\n" : "", line);
	}
}

static uint64_t init_ns_of(const json_t *root)
{
	const json_t *annotations = json_object_get(root, "annotations"), *a;
	size_t i;

	json_array_foreach(annotations, i, a)
	{
		json_int_t ms = json_integer_value(json_object_get(a, "value"));

		if (strcmp(string_of(a, "key"), "initTime") == 0 && ms > 0 && ms < INT32_MAX)
			return (uint64_t)ms * 1000000;
	}
	return 0;
}

/* One line, whatever the platform puts in it. */
static void said_set(struct openwhisk_answer *ret, const char *status, const char *error)
{
	snprintf(ret->said, sizeof(ret->said), "%s%s%s", status, *status && *error ? ": " : "",
		 error);
	for (char *c = ret->said; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
}

/* The reply is the function's own if the platform has not put an error of its own there. */
static void response_take(const json_t *response, struct openwhisk_answer *ret)
{
	const json_t *result = json_object_get(response, "result");
	const char *status = string_of(response, "status");
	const char *error = string_of(result, "error");

	said_set(ret, status, error);
	if (strcmp(status, "success") == 0 || strcmp(status, "application error") == 0) {
		ret->output = json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY);
		if (ret->output)
			return;
	}
	ret->r = strstr(error, "exceeded its time limits") ? -ETIMEDOUT : -ECHILD;
}

void openwhisk_answer_parse(const char *body, size_t len, struct openwhisk_answer *ret)
{
	json_t *root = body ? json_loadb(body, len, 0, NULL) : NULL;
	const json_t *response = json_object_get(root, "response");

	*ret = (struct openwhisk_answer){ 0 };
	id_copy(root, ret);
	log_copy(root, ret);
	ret->init_ns = init_ns_of(root);
	if (json_is_object(response))
		response_take(response, ret);
	else
		said_set(ret, "", string_of(root, "error"));
	json_decref(root);
}

void openwhisk_answer_fini(struct openwhisk_answer *a)
{
	free(a->output);
	a->output = NULL;
}

char *openwhisk_parameters(const char *line)
{
	json_t *root = json_loads(line, 0, NULL);
	const json_t *value = json_object_get(root, "value");
	char *text = json_is_object(value) ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(root);
	return text;
}

static char *base64_make(const uint8_t *data, size_t len)
{
	static const char DIGITS[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((len + 2) / 3 * 4 + 1), *to = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)data[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t)data[i + 1] << 8;
		if (i + 2 < len)
			v |= data[i + 2];
		*to++ = DIGITS[v >> 18];
		*to++ = DIGITS[v >> 12 & 63];
		*to++ = i + 1 < len ? DIGITS[v >> 6 & 63] : '=';
		*to++ = i + 2 < len ? DIGITS[v & 63] : '=';
	}
	*to = '\0';
	return text;
}

static json_int_t timeout_ms_of(const struct openwhisk_code *code)
{
	return (json_int_t)(code->timeout_ms < OPENWHISK_TIMEOUT_MAX_MS ? code->timeout_ms
									: OPENWHISK_TIMEOUT_MAX_MS);
}

static json_int_t memory_mb_of(const struct openwhisk_code *code)
{
	json_int_t mb = (json_int_t)(code->memory >> 20) + PROXY_MB;

	return mb > OPENWHISK_MEMORY_MIN_MB ? mb : OPENWHISK_MEMORY_MIN_MB;
}

/* Of all that makes the action what it is. */
static void digest_make(const struct openwhisk *w, const struct openwhisk_code *code, char ret[80])
{
	uint64_t crc = crc64_ecma_refl(0, code->zip, code->len);

	crc = crc64_ecma_refl(crc, (const uint8_t *)w->image, strlen(w->image));
	snprintf(ret, 80, "%016llx-%lld-%lld", (unsigned long long)crc,
		 (long long)timeout_ms_of(code), (long long)memory_mb_of(code));
}

char *openwhisk_action_make(const struct openwhisk *w, const struct openwhisk_code *code)
{
	char *text = base64_make(code->zip, code->len);
	char digest[80];
	json_t *root;

	if (!text)
		return NULL;
	digest_make(w, code, digest);
	root = json_pack("{s{ss ss ss sb} s{sI sI} s[{ss ss}]}", "exec", "kind", "blackbox",
			 "image", w->image, "code", text, "binary", 1, "limits", "timeout",
			 timeout_ms_of(code), "memory", memory_mb_of(code), "annotations", "key",
			 DIGEST_KEY, "value", digest);
	free(text);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

bool openwhisk_action_is(const char *body, size_t len, const struct openwhisk *w,
			 const struct openwhisk_code *code)
{
	json_t *root = json_loadb(body, len, 0, NULL), *a;
	char digest[80];
	bool is_same = false;
	size_t i;

	digest_make(w, code, digest);
	json_array_foreach(json_object_get(root, "annotations"), i, a) is_same |=
		strcmp(string_of(a, "key"), DIGEST_KEY) == 0 &&
		strcmp(string_of(a, "value"), digest) == 0;
	json_decref(root);
	return is_same;
}
