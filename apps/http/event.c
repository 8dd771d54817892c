/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REPLY_SOURCE "/wadi/functions"
#define REPLY_TYPE   "wadi.function.replied"

static bool is_type(const char *type, const char *want)
{
	size_t len = strcspn(type, "; \t");

	return len == strlen(want) && strncasecmp(type, want, len) == 0;
}

static int refuse(int status, const char *why, const char **ret_why)
{
	*ret_why = why;
	return status;
}

static int line_set(struct event *e, const char *line, const char **ret_why)
{
	e->line = strdup(line);
	return e->line ? 0 : refuse(503, "no memory for the request", ret_why);
}

/* A text is JSON in itself, as queues carry it. */
static int line_set_json(struct event *e, const json_t *value, const char **ret_why)
{
	char *text;
	int r;

	if (json_is_string(value))
		return line_set(e, json_string_value(value), ret_why);
	text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!text)
		return refuse(400, "the event has no data", ret_why);
	r = line_set(e, text, ret_why);
	free(text);
	return r;
}

static int id_set(struct event *e, const char *version, const char *id, const char *source,
		  const char *type, const char **ret_why)
{
	if (!version || strcmp(version, "1.0") != 0)
		return refuse(400, "a CloudEvent whose specversion is not 1.0", ret_why);
	if (!id || !*id || !source || !*source || !type || !*type)
		return refuse(400, "a CloudEvent wants id, source and type", ret_why);
	if (strlen(id) >= sizeof(e->id))
		return refuse(400, "a CloudEvent whose id has more than 255 bytes", ret_why);
	strcpy(e->id, id);
	return 0;
}

static int binary_read(struct event *e, const struct http_head *head, const char *body,
		       const char **ret_why)
{
	int r = id_set(e, http_head_value(head, "ce-specversion"), http_head_value(head, "ce-id"),
		       http_head_value(head, "ce-source"), http_head_value(head, "ce-type"),
		       ret_why);

	e->kind = EVENT_BINARY;
	return r ? r : line_set(e, body, ret_why);
}

static const char *text_of(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static int structured_read(struct event *e, const char *body, const char **ret_why)
{
	json_t *root = json_loads(body, 0, NULL);
	int r;

	e->kind = EVENT_STRUCTURED;
	if (!json_is_object(root)) {
		json_decref(root);
		return refuse(400, "not an object of JSON", ret_why);
	}
	r = id_set(e, text_of(root, "specversion"), text_of(root, "id"), text_of(root, "source"),
		   text_of(root, "type"), ret_why);
	if (r == 0 && json_object_get(root, "data_base64"))
		r = refuse(415, "a CloudEvent with data_base64; the data is to be JSON", ret_why);
	if (r == 0)
		r = line_set_json(e, json_object_get(root, "data"), ret_why);
	json_decref(root);
	return r;
}

/* 0: it is no envelope, and e->line is not set. */
static int azure_read(struct event *e, const char *body, const char **ret_why)
{
	json_t *root = json_loads(body, 0, NULL), *data = json_object_get(root, "Data");
	json_t *binding = NULL, *inner;
	int r = 0;

	if (json_is_object(data) && json_object_get(root, "Metadata")) {
		e->kind = EVENT_AZURE;
		binding = json_object_iter_value(json_object_iter(data));
		inner = json_object_get(binding, "Body");
		e->is_http = inner != NULL;
		r = line_set_json(e, inner ? inner : binding, ret_why);
	}
	json_decref(root);
	return r;
}

int event_read(const struct http_head *head, const char *body, bool is_azure, struct event *ret,
	       const char **ret_why)
{
	const char *type = http_head_value(head, "content-type");
	int r = 0;

	*ret = (struct event){ 0 };
	if (!type)
		type = "application/json";
	if (is_type(type, "application/cloudevents+json"))
		r = structured_read(ret, body, ret_why);
	else if (!is_type(type, "application/json"))
		r = refuse(415,
			   "the body is to be application/json or application/cloudevents+json",
			   ret_why);
	else if (http_head_value(head, "ce-specversion"))
		r = binary_read(ret, head, body, ret_why);
	else if (is_azure)
		r = azure_read(ret, body, ret_why);
	if (r == 0 && !ret->line)
		r = line_set(ret, body, ret_why);
	if (r)
		event_fini(ret);
	return r;
}

void event_fini(struct event *e)
{
	free(e->line);
	e->line = NULL;
}

static int status_of(const char *reply)
{
	json_t *root = json_loads(reply, 0, NULL);
	int status = 200;

	if (!json_is_object(root))
		status = 500;
	else if (json_object_get(root, "error"))
		status = json_is_true(json_object_get(root, "is_final")) ? 422 : 500;
	json_decref(root);
	return status;
}

/* Takes `root`. */
static char *text_take(json_t *root)
{
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	return text;
}

static char *structured_make(const struct event *e, const char *reply)
{
	json_t *data = json_loads(reply, 0, NULL);

	return text_take(json_pack("{ss ss ss ss ss so}", "specversion", "1.0", "id", e->id,
				   "source", REPLY_SOURCE, "type", REPLY_TYPE, "datacontenttype",
				   "application/json", "data", data ? data : json_null()));
}

/* Without an HTTP trigger nobody reads a status inside: the host is to know of a failure. */
static char *azure_make(const struct event *e, const char *reply, int *status)
{
	json_t *outputs = json_object();

	if (e->is_http) {
		json_object_set_new(outputs, "res",
				    json_pack("{si s{ss} ss}", "statusCode", *status, "headers",
					      "Content-Type", "application/json", "body", reply));
		*status = 200;
	}
	return text_take(
		json_pack("{so s[] ss}", "Outputs", outputs, "Logs", "ReturnValue", reply));
}

int event_answer(const struct event *e, const char *reply, struct event_answer *ret)
{
	*ret = (struct event_answer){ .status = status_of(reply), .type = "application/json" };
	if (e->kind == EVENT_ACTION)
		ret->status = 200;
	if (e->kind == EVENT_AZURE) {
		ret->body = azure_make(e, reply, &ret->status);
	} else if (e->kind == EVENT_STRUCTURED && ret->status == 200) {
		ret->type = "application/cloudevents+json";
		ret->body = structured_make(e, reply);
	} else {
		ret->body = strdup(reply);
	}
	if (e->kind == EVENT_BINARY && ret->status == 200)
		snprintf(ret->headers, sizeof(ret->headers),
			 "ce-specversion: 1.0\r\nce-id: %s\r\nce-source: " REPLY_SOURCE
			 "\r\nce-type: " REPLY_TYPE "\r\n",
			 e->id);
	return ret->body ? 0 : -ENOMEM;
}
