/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reach: segments of this process, reached without a message.
 *
 * The store core reads and writes segments by message, wherever they are. If the
 * pool is in its own process, it may touch them in place: whoever owns the pool
 * (main() puts the roles of a process together) gives the core this table. All of
 * it happens on the core's loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct reach;

struct reach_ops {
	/*
	 * The bytes of [offset, offset + len) of a segment, pinned: they stay where they are,
	 * and FREE is not answered, until unpin(). -ESTALE: another generation or job, or
	 * being freed; -ERANGE: beyond its end.
	 */
	int (*pin)(struct reach *p, uint64_t job, uint64_t segment, uint32_t generation,
		   uint32_t offset, uint32_t len, uint8_t **ret);
	/* Likewise, to write: with the key of the grant, until SEAL or REVOKE. */
	int (*pin_to_write)(struct reach *p, uint64_t job, uint64_t segment, uint32_t generation,
			    uint64_t key, uint32_t offset, uint32_t len, uint8_t **ret);
	void (*unpin)(struct reach *p, uint64_t segment, bool was_to_write);
	/*
	 * A descriptor for functions of its job, which may map it and read all of it from now
	 * on; *ret_size is its size. Or -ESTALE, -EOPNOTSUPP, -EMFILE, -ENFILE.
	 */
	int (*export)(struct reach *p, uint64_t job, uint64_t segment, uint32_t generation,
		      uint32_t *ret_size);
	/*
	 * This function may write to an open segment, of which nobody else has a part, from now on;
	 * *ret_since is the generation since which its memory is this function's. -ESTALE.
	 */
	int (*let_write)(struct reach *p, uint64_t job, uint64_t segment, uint32_t generation,
			 uint64_t key, uint64_t author, uint32_t *ret_since);
	/* export(), to write: of what it may. */
	int (*export_to_write)(struct reach *p, uint64_t job, uint64_t segment, uint32_t generation,
			       uint64_t author, uint32_t *ret_size);
	void (*author_over)(struct reach *p, uint64_t job, uint64_t author);
	/* Somebody waits for space that is not there. */
	bool (*is_short)(struct reach *p);
	/*
	 * Functions may still view, by a predecessor's word, what it had exported of this job: FREE
	 * of that is not answered until they do not.
	 */
	void (*hold_views)(struct reach *p, uint64_t job, bool is_held);
};
