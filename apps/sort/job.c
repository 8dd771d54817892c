/* SPDX-License-Identifier: Apache-2.0 */
#include "job.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "request.h"

#define RENEW_NS (10 * NS_PER_S)

/* 90,000 objects of 100 bytes were too many for 256 MiB, and well in 512. */
#define OBJECT_BYTES ((uint64_t)4096)

/* What a store needs at least, or metadata alone. */
#define LEAST_BYTES (128ull << 20)

/* Where programs of ours are, from the directory of this one: installed, or in a build. */
static const char *const PLACES[] = { "",           "../cli/", "../../src/cli/",
				      "../../bin/", "../bin/", "../../dist/" };

char *job_path(const char *directory, const char *kind, uint32_t index)
{
	char *path;

	return asprintf(&path, "%s/%s-%05u", directory, kind, index) < 0 ? NULL : path;
}

/* The path of another file of ours; its bare name if it is not where we look. */
static char *file_find(const char *name, int mode)
{
	char self[PATH_MAX], path[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[len > 0 ? len : 0] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return strdup(name);
	slash[1] = '\0';
	for (size_t i = 0; i < sizeof(PLACES) / sizeof(PLACES[0]); i++) {
		snprintf(path, sizeof(path), "%s%s%s", self, PLACES[i], name);
		if (access(path, mode) == 0)
			return strdup(path);
	}
	return strdup(name);
}

/* One that mkdtemp() names, and that goes when we do. */
static int directory_make(struct job *j, char **path)
{
	int r = 0;

	if (!mkdtemp(*path))
		r = problem_set(j->problem, -errno, "%s: cannot create: %s", *path,
				strerror(errno));
	else if (!j->options->is_kept && sweeper_add(&j->sweeper, *path) < 0) {
		rmdir(*path);
		r = problem_set(j->problem, -EIO, "%s: nobody is there to remove it", *path);
	}
	if (r < 0) {
		free(*path);
		*path = NULL;
	}
	return r;
}

static int work_make(struct job *j)
{
	const char *tmp = getenv("TMPDIR");
	struct stat st;
	char cwd[PATH_MAX];
	int r;

	if (stat("build", &st) == 0 && S_ISDIR(st.st_mode) && access("build", W_OK) == 0 &&
	    getcwd(cwd, sizeof(cwd)))
		r = asprintf(&j->work, "%s/build/sort-XXXXXX", cwd);
	else
		r = asprintf(&j->work, "%s/wadi-sort-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
	if (r < 0) {
		j->work = NULL;
		return problem_set(j->problem, -ENOMEM, "no memory");
	}
	r = request_text_check(j->work, j->problem);
	return r < 0 ? r : directory_make(j, &j->work);
}

/* Parts of another sort would be taken for ours by whoever reads all of them. */
static int output_check(struct job *j)
{
	DIR *dir = opendir(j->output);
	struct dirent *e;
	bool has_parts = false;

	if (!dir)
		return problem_set(j->problem, -errno, "%s: cannot open: %s", j->output,
				   strerror(errno));
	while ((e = readdir(dir)))
		has_parts |= strncmp(e->d_name, "part-", 5) == 0;
	closedir(dir);
	if (has_parts)
		return problem_set(j->problem, -ENOTEMPTY,
				   "%s: has parts of another sort in it; "
				   "remove them, or name another --output",
				   j->output);
	return 0;
}

/* The directory that the user named, made if it is not there. */
static int output_make(struct job *j)
{
	char *path = strdup(j->options->output);
	int r;

	if (!path)
		return problem_set(j->problem, -ENOMEM, "no memory");
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(path, 0777); /* the last one tells */
		*slash = '/';
	}
	if (mkdir(path, 0777) < 0 && errno != EEXIST) {
		problem_set(j->problem, -errno, "%s: cannot create: %s", path, strerror(errno));
		free(path);
		return -EIO;
	}
	j->output = realpath(path, NULL);
	free(path);
	if (!j->output)
		return problem_set(j->problem, -ENOMEM, "no memory");
	r = request_text_check(j->output, j->problem);
	return r < 0 ? r : output_check(j);
}

/* On the same file system as the output, for that is where they are to be moved. */
static int parts_make(struct job *j)
{
	const char *where = j->options->output ? j->output : j->work;

	if (asprintf(&j->parts, "%s/.wadi-sort-XXXXXX", where) < 0) {
		j->parts = NULL;
		return problem_set(j->problem, -ENOMEM, "no memory");
	}
	return directory_make(j, &j->parts);
}

static int part_move(struct job *j, uint32_t index)
{
	char *from = job_path(j->parts, "part", index), *to = job_path(j->output, "part", index);
	int r = from && to ? 0 : -ENOMEM;

	if (r == 0 && rename(from, to) < 0)
		r = -errno;
	if (r < 0)
		problem_set(j->problem, r, "%s: cannot move the parts here: %s", j->output,
			    strerror(-r));
	free(from);
	free(to);
	return r;
}

int job_publish(struct job *j, uint32_t count)
{
	int r = j->output ? output_check(j) : 0;

	if (!j->output)
		return 0;
	for (uint32_t i = count; r == 0 && i > 0; i--)
		r = part_move(j, i - 1);
	return r;
}

/*
 * The data once, a quarter for what attempts leave and segments round up, what a store
 * needs at least, and what it needs to know of each object, however small: its value, its
 * record, and the log, which is a share of all memory. Where a bucket of all keys has
 * more runs than a function has room for windows of 256 KiB, rounds of merging take the
 * data once more.
 */
static uint64_t embedded_memory(const struct options *o, struct job_size size)
{
	uint64_t runs = size.bytes / (o->function_memory / 2) + o->maps;
	uint64_t windows = o->function_memory / 2 >> 18;
	uint64_t memory = size.bytes + size.bytes / 4 + LEAST_BYTES + OBJECT_BYTES * size.objects;

	return runs > windows ? memory + size.bytes : memory;
}

static int embedded_start(struct job *j, struct job_size size)
{
	char *program = file_find("wadi", X_OK);
	struct embedded_config config = {
		.program = program,
		.directory = j->work,
		.attach = (enum attach)j->options->attach,
		.memory = embedded_memory(j->options, size),
		.meta_memory = LEAST_BYTES + OBJECT_BYTES * size.objects,
	};
	int r;

	if (!program)
		return problem_set(j->problem, -ENOMEM, "no memory");
	r = embedded_open(&j->embedded, &config, j->problem);
	free(program);
	j->store_memory = j->embedded.memory;
	j->function_store.url = j->embedded.url;
	return r;
}

/* The endpoints of each way to attach, in the order of WORDS_ATTACH. */
static const char *const SCHEMES[] = { "unix://", "tcp://", "direct://", "unix://" };

static bool is_at(const char *url, uint64_t attach)
{
	return strncmp(url, SCHEMES[attach], strlen(SCHEMES[attach])) == 0;
}

/* What was asked for; else what the endpoint tells, which does not know a sidecar from a host. */
static void attach_name(struct job *j)
{
	uint64_t attach = j->options->attach;

	if (attach == ATTACH_ANY)
		for (attach = 0; attach < ATTACH_ANY && !is_at(j->function_url, attach);)
			attach++;
	word_of(WORDS_ATTACH, attach, j->attach, sizeof(j->attach));
}

/* Which store, and for Wadi at which endpoint: functions know nothing else of how they attach. */
static int store_choose(struct job *j, struct job_size size)
{
	const char *store = j->options->store, *endpoint = getenv("WADI_ENDPOINT");
	uint64_t attach = j->options->attach;
	int r = 0;

	if (store && strcmp(store, "wadi") != 0) {
		j->function_store.url = j->function_url = store;
		return 0;
	}
	if (endpoint && *endpoint)
		j->function_store.url = endpoint;
	else
		r = embedded_start(j, size);
	if (r < 0)
		return r;
	j->function_url = j->options->function_endpoint ? j->options->function_endpoint
							: j->function_store.url;
	attach_name(j);
	if (attach == ATTACH_ANY || is_at(j->function_url, attach))
		return 0;
	return problem_set(j->problem, -EINVAL, "--attach %s wants a %s endpoint, and %s is %s",
			   j->attach, SCHEMES[attach],
			   j->options->function_endpoint ? "--function-endpoint" : "WADI_ENDPOINT",
			   j->function_url);
}

/* A job in a directory has no lease, so that is the sweeper's as well. */
static int directory_leave(struct job *j)
{
	const char *url = j->function_store.url;
	char *path;
	int r;

	if (strncmp(url, "dir:", 4) != 0 || j->options->is_kept)
		return 0;
	if (asprintf(&path, "%s/%s", url + 4, j->name) < 0)
		return problem_set(j->problem, -ENOMEM, "no memory");
	r = sweeper_add(&j->sweeper, path);
	free(path);
	return r < 0 ? problem_set(j->problem, r, "%s: nobody is there to clean up", url) : 0;
}

static int store_begin(struct job *j)
{
	struct store_config admin = j->function_store;
	int r;

	admin.token = getenv("WADI_TOKEN");
	r = store_open(&admin, j->problem, &j->admin);
	if (r < 0)
		return r;
	r = store_job_begin(j->admin, j->name, JOB_LEASE_MS, j->token);
	if (r < 0)
		return r;
	j->has_begun = true;
	j->renewed_ns = clock_ns();
	j->function_store.job = j->name;
	j->function_store.token = j->token[0] ? j->token : NULL;
	r = directory_leave(j);
	return r < 0 ? r : store_open(&j->function_store, j->problem, &j->store);
}

int job_begin(struct job *j, const struct options *o, struct job_size size, struct problem *problem)
{
	uint64_t unique;
	int r;

	*j = (struct job){ .options = o, .problem = problem };
	if (getrandom(&unique, sizeof(unique), 0) < 0)
		return problem_set(problem, -errno, "no random number: %s", strerror(errno));
	snprintf(j->name, sizeof(j->name), "sort-%016llx", (unsigned long long)unique);
	j->function_store.timeout_ms = 30000;
	j->function_program = file_find("wadi-sort-fn", X_OK);
	j->function_bundle = file_find("wadi-sort-fn.zip", R_OK);
	r = j->function_program && j->function_bundle ? sweeper_start(&j->sweeper) : -ENOMEM;
	if (r < 0)
		problem_set(problem, r, "cannot start: %s", strerror(-r));
	if (r == 0)
		r = work_make(j);
	if (r == 0 && o->output)
		r = output_make(j);
	if (r == 0)
		r = parts_make(j);
	if (r == 0)
		r = store_choose(j, size);
	if (r == 0)
		r = request_text_check(j->function_url, problem);
	if (r == 0)
		r = store_begin(j);
	return r;
}

int job_tick(struct job *j)
{
	uint64_t now_ns = clock_ns();

	if (now_ns - j->renewed_ns < RENEW_NS)
		return 0;
	j->renewed_ns = now_ns;
	return store_job_renew(j->admin, j->name, JOB_LEASE_MS);
}

int job_end(struct job *j)
{
	int r = 0;

	store_close(j->store);
	if (j->has_begun && !j->options->is_kept)
		r = store_job_end(j->admin, j->name);
	store_close(j->admin);
	embedded_close(&j->embedded);
	sweeper_end(&j->sweeper);
	free(j->work);
	free(j->output);
	free(j->parts);
	free(j->function_program);
	free(j->function_bundle);
	j->work = j->output = j->parts = NULL;
	j->function_program = j->function_bundle = NULL;
	j->store = j->admin = NULL;
	return r;
}
