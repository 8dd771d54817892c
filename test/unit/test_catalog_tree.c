/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: directories list as a file system's would, page by page, and are removed in steps.
 * Method: a tree with everything that orders oddly; every page size.
 */
#include "catalog_test.h"

static char listed[4096];

static void put(const char *path)
{
	assert_int_equal(slot_put(&t, (struct commit_req){ .job = job }, path, "x"), 0);
}

/* All pages, joined by spaces. */
static const char *list(const char *directory, bool is_recursive, uint32_t max)
{
	struct list_req req = {
		.job = job, .is_recursive = is_recursive, .max = max, .directory = text(directory)
	};
	char after[PATH_BYTES_MAX + 1] = "";
	int r;

	listed[0] = '\0';
	for (int page = 0; page < 1000; page++) {
		struct rcur c;

		req.after = text(after);
		r = catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out);
		if (r < 0)
			return strerror(-r);
		c = rcur_make(t.payload, slot_got(&t).len);
		for (uint32_t i = 0; i < t.out.rep.list.count; i++) {
			struct list_entry e;

			list_entry_get(&c, &e);
			snprintf(after, sizeof(after), "%.*s", (int)e.name.len, e.name.ptr);
			snprintf(listed + strlen(listed), sizeof(listed) - strlen(listed), "%s%s%s",
				 listed[0] ? " " : "", after, e.is_directory && e.len ? "#" : "");
		}
		assert_int_equal(rcur_finish(&c), 0);
		if (!t.out.rep.list.has_more)
			return listed;
	}
	return "no end";
}

static void make_tree(void)
{
	put("a");
	put("a-b");
	put("a/1");
	put("a/2/x");
	put("a/2/y");
	put("a/2/z/deep");
	put("a/3");
	put("a0");
	put("b/c/d/e");
	put("z");
}

static void a_directory_lists_its_children_in_byte_order(void **state)
{
	make_tree();
	for (uint32_t max = 1; max < 12; max++) {
		assert_string_equal(list("", false, max), "a a-b a/# a0 b/ z");
		assert_string_equal(list("a", false, max), "1 2/# 3");
		assert_string_equal(list("a/", false, max), "1 2/# 3");
		assert_string_equal(list("a/2", false, max), "x y z/#");
		assert_string_equal(list("b", false, max), "c/");
		assert_string_equal(list("", true, max),
				    "a a-b a/1 a/2/x a/2/y a/2/z/deep a/3 a0 b/c/d/e z");
		assert_string_equal(list("a", true, max), "1 2/x 2/y 2/z/deep 3");
	}
}

static void an_empty_directory_is_none_but_the_root_is(void **state)
{
	assert_string_equal(list("", false, 0), "");
	assert_string_equal(list("a", false, 0), strerror(ENOENT));
	make_tree();
	assert_string_equal(list("z", false, 0), strerror(ENOENT));
	assert_string_equal(list("a/2/x", false, 0), strerror(ENOENT));
}

static void listing_goes_on_behind_a_name_that_is_gone(void **state)
{
	struct list_req req = { .job = job, .directory = text("a"), .after = text("2/") };
	struct rcur c;
	struct list_entry e;

	make_tree();
	assert_int_equal(catalog_remove_tree(
				 t.c,
				 &(struct remove_tree_req){ .job = job, .directory = text("a/2") },
				 t.now, &t.out),
			 0);
	assert_int_equal(catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.list.count, 1);
	c = rcur_make(t.payload, slot_got(&t).len);
	list_entry_get(&c, &e);
	assert_memory_equal(e.name.ptr, "3", 1);
	req.after = text("3");
	assert_int_equal(catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.list.count, 0);
}

static void a_page_is_full_before_it_overflows(void **state)
{
	char path[PATH_BYTES_MAX + 1] = "", attributes[ATTRIBUTES_BYTES_MAX + 1] = "";
	struct commit_req req = { .job = job };
	struct list_req list_it = { .job = job };
	unsigned pages = 0;
	uint32_t count = 0;

	memset(path, 'p', PATH_BYTES_MAX);
	memset(attributes, 'q', ATTRIBUTES_BYTES_MAX);
	req.attributes = text(attributes);
	for (int i = 0; i < 300; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%03d", i);
		memcpy(path, number, 3);
		assert_int_equal(slot_put(&t, req, path, ""), 0);
	}
	memset(path, 0, sizeof(path));
	do {
		struct rcur c;
		struct list_entry e;

		list_it.after = (struct slice){ (uint8_t *)path, strlen(path) };
		assert_int_equal(catalog_list(t.c, &list_it, t.now, slot_payload(&t), &t.out), 0);
		assert_true(t.out.rep.list.count > 0);
		c = rcur_make(t.payload, slot_got(&t).len);
		for (uint32_t i = 0; i < t.out.rep.list.count; i++)
			list_entry_get(&c, &e);
		memcpy(path, e.name.ptr, e.name.len);
		count += t.out.rep.list.count;
		pages++;
	} while (t.out.rep.list.has_more);
	assert_int_equal(count, 300);
	assert_true(pages >= 3);
}

static void a_page_looks_at_a_bounded_number_of_names(void **state)
{
	struct list_req req = { .job = job, .is_recursive = 1 };
	char path[16];

	for (int i = 0; i < LIST_STEP + 10; i++) {
		snprintf(path, sizeof(path), "%06d", i);
		put(path);
	}
	assert_int_equal(catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.list.count, LIST_STEP);
	assert_int_equal(t.out.rep.list.has_more, 1);
}

static int remove_tree(const struct remove_tree_req *req)
{
	return catalog_remove_tree(t.c, req, t.now, &t.out);
}

static const char *next_name(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "%.*s", (int)t.out.rep.remove_tree.next.len,
		 (const char *)t.out.rep.remove_tree.next.ptr);
	return name;
}

static void a_tree_is_removed_in_steps(void **state)
{
	struct remove_tree_req req = {
		.job = job, .up_to = UINT64_MAX, .max = 3, .directory = text("a")
	};

	make_tree();
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 3);
	assert_string_equal(next_name(), "a/2/z/deep");
	assert_string_equal(list("", true, 0), "a a-b a/2/z/deep a/3 a0 b/c/d/e z");
	req.from = text("a/2/z/deep");
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 2);
	assert_string_equal(next_name(), "");
	req.from = text("");
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 0);
	assert_string_equal(list("", true, 0), "a a-b a0 b/c/d/e z");
	req.directory = text("");
	req.max = 0;
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 5);
	assert_string_equal(list("", true, 0), "");
}

/* Whoever asks first what the newest version is takes nothing that is put afterwards. */
static void what_was_put_later_is_not_removed(void **state)
{
	struct remove_tree_req req = { .job = job, .max = 2, .directory = text("d") };

	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.version, 0);
	put("d/b");
	put("e");
	put("d/d");
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.version, 3);
	assert_int_equal(t.out.rep.remove_tree.count, 0);
	assert_string_equal(list("", true, 0), "d/b d/d e");
	put("d/a");
	put("d/b");
	put("d/c");
	req.up_to = 3;
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.version, 6);
	assert_int_equal(t.out.rep.remove_tree.count, 0);
	assert_string_equal(next_name(), "d/c");
	req.from = text("d/c");
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 1);
	assert_string_equal(next_name(), "");
	assert_string_equal(list("", true, 0), "d/a d/b d/c e");
}

/* Nobody who may remove one directory reaches another by where he begins. */
static void a_step_begins_in_its_directory(void **state)
{
	struct remove_tree_req req = {
		.job = job, .up_to = UINT64_MAX, .directory = text("b"), .from = text("a0")
	};

	make_tree();
	assert_int_equal(remove_tree(&req), -EINVAL);
	assert_string_equal(t.out.detail, "a0 does not lie in the directory that is removed");
	req.from = text("z");
	assert_int_equal(remove_tree(&req), -EINVAL);
	req.from = text("b/c/d/f");
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 0);
	assert_string_equal(list("b/", true, 0), "c/d/e");
}

static void one_call_removes_no_more_than_a_step(void **state)
{
	struct remove_tree_req req = { .job = job, .up_to = UINT64_MAX, .max = TREE_STEP + 5 };
	char path[16];

	for (int i = 0; i < TREE_STEP + 10; i++) {
		snprintf(path, sizeof(path), "%06d", i);
		put(path);
	}
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, TREE_STEP);
	assert_true(next_name()[0] != '\0');
	assert_int_equal(remove_tree(&req), 0);
	assert_int_equal(t.out.rep.remove_tree.count, 10);
}

static void the_longest_path_may_be_a_directory(void **state)
{
	char path[PATH_BYTES_MAX + 1] = "";
	struct list_req req = { .job = job };

	memset(path, 'p', PATH_BYTES_MAX);
	path[PATH_BYTES_MAX - 2] = '/';
	put(path);
	path[PATH_BYTES_MAX - 2] = '\0';
	req.directory = text(path);
	assert_int_equal(catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out), 0);
	assert_int_equal(t.out.rep.list.count, 1);
	path[PATH_BYTES_MAX - 2] = 'p';
	assert_int_equal(catalog_stat(t.c, job, text(path), t.now, &t.out), -ENOENT);
}

static void too_long_a_path_is_refused(void **state)
{
	char path[PATH_BYTES_MAX + 2] = "";
	struct list_req req = { .job = job, .directory = text("a"), .after = text("b") };

	put("a/b");
	memset(path, 'p', PATH_BYTES_MAX + 1);
	req.directory = text(path);
	assert_int_equal(catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out), -EMSGSIZE);
	req.directory = text("a");
	req.after = text(path);
	assert_int_equal(catalog_list(t.c, &req, t.now, slot_payload(&t), &t.out), -EMSGSIZE);
	assert_int_equal(catalog_stat(t.c, job, text(path), t.now, &t.out), -EMSGSIZE);
	assert_int_equal(catalog_wait_count(t.c, job, text(path), 1, t.now, &t.out), -EMSGSIZE);
	assert_int_equal(
		remove_tree(&(struct remove_tree_req){ .job = job, .directory = text(path) }),
		-EMSGSIZE);
	assert_int_equal(remove_tree(&(struct remove_tree_req){ .job = job, .from = text(path) }),
			 -EMSGSIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_directory_lists_its_children_in_byte_order),
		T(an_empty_directory_is_none_but_the_root_is),
		T(listing_goes_on_behind_a_name_that_is_gone),
		T(a_page_is_full_before_it_overflows),
		T(a_page_looks_at_a_bounded_number_of_names),
		T(a_tree_is_removed_in_steps),
		T(what_was_put_later_is_not_removed),
		T(a_step_begins_in_its_directory),
		T(one_call_removes_no_more_than_a_step),
		T(the_longest_path_may_be_a_directory),
		T(too_long_a_path_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
