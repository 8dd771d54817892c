/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of options share: where a value came from, and how it is taken from its text.
 */
#ifndef WADI_BASE_OPTIONS_PRIV_H
#define WADI_BASE_OPTIONS_PRIV_H

#include "base/options.h"

/* Who speaks: the spelling of the option where it was found, for messages. */
struct option_source {
	enum option_origin origin;
	const char *file_name;
	unsigned line; /* of the file; of the environment: which prefix */
};

/* Platforms that pass only their own names on pass the second one. */
extern const char *const OPTION_PREFIXES[2];

/* Keeps a message. Returns -EINVAL. */
__attribute__((format(printf, 2, 3))) int options_fail(struct options *o, const char *format, ...);

/* The option with this name of `len` bytes, in which `-` is as good as `_`; NULL if there is none.
 */
const struct option *option_find_len(const struct option_table *t, const char *text, size_t len);

/* Writes the name of its variable to `buf`, of OPTION_NAME_MAX bytes. */
void option_environment_name(const char *prefix, const struct option *option, char *buf);

/*
 * Gives `option` the value of `text`, unless a stronger source has given it one already. A string
 * is not copied: `owned`, NULL or what `text` lies in, is freed with `o` or when it is not needed.
 * Returns -EINVAL with a message.
 */
int options_set(struct options *o, const struct option *option, const char *text,
		const struct option_source *s, char *owned);

#endif
