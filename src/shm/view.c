/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/view.h"

#include <errno.h>

#include "base/plant.h"
#include "shm/shared.h"

/* -ENXIO: not mapped, or for an earlier life; -ENOENT: that is nowhere. */
static int reach(const struct viewer *v, const struct index_item *item, const uint8_t **ret)
{
	const struct mapping *m;

	if (item->mapping >= v->index.mapping_count || item->mapping >= v->pins.count)
		return -ENOENT;
	if (item->mapping >= v->mapping_count)
		return -ENXIO;
	m = v->mappings[item->mapping];
	if (!m || m->life != item->life)
		return -ENXIO;
	if (item->len > m->len || item->offset > m->len - item->len)
		return -ENOENT;
	*ret = m->ptr + item->offset;
	return 0;
}

static int pin_and_look(const struct viewer *v, const struct index_look *look, uint64_t now_ns)
{
	bool is_early = planted(PIN_AFTER_LOOK) || planted(LEASE_BEFORE_PIN);
	int r = is_early ? index_reader_check(&v->index, look, now_ns) : 0;

	pins_take(&v->pins, look->item.mapping);
	if (!is_early)
		r = index_reader_check(&v->index, look, now_ns);
	else if (planted(LEASE_BEFORE_PIN) && !index_look_holds(look))
		r = -ENOENT;
	if (r < 0)
		pins_give(&v->pins, look->item.mapping);
	return r;
}

int view_get(const struct viewer *v, struct hash_128 hash, uint64_t now_ns, struct view *ret)
{
	struct index_look look;
	int check, r = index_reader_find(&v->index, hash, &look);

	if (r < 0)
		return index_reader_is_old(&v->index) ? -ESTALE : r;
	ret->item = look.item;
	r = reach(v, &look.item, &ret->ptr);
	if (r == 0)
		return pin_and_look(v, &look, now_ns);
	/* It would be mapped in vain if it is not to be had any more, or from another table. */
	check = index_reader_check(&v->index, &look, now_ns);
	return check < 0 ? check : r;
}

int view_release(const struct viewer *v, const struct view *view)
{
	uint32_t life = index_reader_life(&v->index, view->item.mapping);

	pins_give(&v->pins, view->item.mapping);
	return life == view->item.life ? 0 : -ESTALE;
}
