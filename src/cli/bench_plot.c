/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The picture of a run: a row of panels for each operation, with logarithmic axes and a
 * line for each system, Wadi's the strongest. A line of dashes is the 99th percentile.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/quantity.h"
#include "cli/bench.h"

#define PANEL_W 400
#define PANEL_H 270
#define LEFT    62
#define RIGHT   16
#define TOP     34
#define BOTTOM  40
#define HEAD    44 /* of the page: the legend */

static const struct {
	const char *label, *color;
} COLORS[] = {
	{ "wadi", "#0b5fa5" },           { "raw", "#555555" },
	{ "raw-polling", "#aaaaaa" },    { "futex", "#7a5195" },
	{ "memory-polling", "#c3a6d3" }, { "redis", "#c8352b" },
	{ "memcached", "#2f8f4e" },      { "dir", "#b9770e" },
	{ "host", "#0b5fa5" },           { "sidecar", "#2f8f4e" },
	{ "proxy", "#c8352b" },          { "direct", "#7a5195" },
	{ "memcpy", "#222222" },
};
#define COLOR_COUNT (sizeof(COLORS) / sizeof(COLORS[0]))

enum axis { BY_SIZE, BY_CLIENTS };

struct panel {
	const char *title;
	enum axis x;
	double (*y)(const struct bench_row *row);
	double (*dashed)(const struct bench_row *row); /* or NULL */
};

static double y_p50(const struct bench_row *row)
{
	return row->p50_us;
}

static double y_p99(const struct bench_row *row)
{
	return row->p99_us;
}

static double y_mb(const struct bench_row *row)
{
	return row->mb_per_s;
}

static double y_ops(const struct bench_row *row)
{
	return row->ops_per_s;
}

static const struct panel PANELS[] = {
	{ "latency by size, us: p50, p99 dashed", BY_SIZE, y_p50, y_p99 },
	{ "throughput by size, MB/s", BY_SIZE, y_mb, NULL },
	{ "latency by clients, us: p50, p99 dashed", BY_CLIENTS, y_p50, y_p99 },
	{ "throughput by clients, requests/s", BY_CLIENTS, y_ops, NULL },
};
#define PANEL_COUNT (sizeof(PANELS) / sizeof(PANELS[0]))

/* Where a panel stands, and what its axes reach over: logarithms to the base of 10. */
struct frame {
	FILE *f;
	double left, top, x_min, x_max, y_min, y_max;
};

/* What the other axis is fixed at, in a panel: the first that there is. */
struct pick {
	const char *bench, *op;
	uint64_t size;
	unsigned clients, depth;
};

static bool is_in(const struct bench_row *r, const struct pick *p, enum axis x)
{
	if (strcmp(r->bench, p->bench) != 0 || strcmp(r->op, p->op) != 0 || r->depth != p->depth)
		return false;
	return x == BY_SIZE ? r->clients == p->clients : r->size == p->size;
}

static double x_of(const struct bench_row *r, enum axis x)
{
	double v = x == BY_SIZE ? (double)r->size : r->clients;

	return log10(v < 1 ? 1 : v);
}

static double page_x(const struct frame *f, double x)
{
	return f->left + LEFT + (x - f->x_min) / (f->x_max - f->x_min) * (PANEL_W - LEFT - RIGHT);
}

static double page_y(const struct frame *f, double y)
{
	return f->top + PANEL_H - BOTTOM -
	       (y - f->y_min) / (f->y_max - f->y_min) * (PANEL_H - TOP - BOTTOM);
}

/* True if there is a line to be drawn: two points at least that are not one above the other. */
static bool frame_fit(struct frame *f, const struct bench_plot *p, const struct panel *panel,
		      const struct pick *pick)
{
	f->x_min = f->y_min = INFINITY;
	f->x_max = f->y_max = -INFINITY;
	for (unsigned i = 0; i < p->count; i++) {
		const struct bench_row *r = &p->rows[i];
		double y = panel->y(r), top = panel->dashed ? panel->dashed(r) : y;

		if (!is_in(r, pick, panel->x) || y <= 0)
			continue;
		f->x_min = fmin(f->x_min, x_of(r, panel->x));
		f->x_max = fmax(f->x_max, x_of(r, panel->x));
		f->y_min = fmin(f->y_min, floor(log10(y)));
		f->y_max = fmax(f->y_max, ceil(log10(top)));
	}
	return f->x_max > f->x_min && f->y_max > f->y_min;
}

static void put_axes(const struct frame *f, const struct bench_plot *p, const struct panel *panel,
		     const struct pick *pick)
{
	double last = -INFINITY;

	for (double e = f->y_min; e <= f->y_max + 0.01; e++) {
		double y = page_y(f, e), v = pow(10, e);
		const char *unit = e >= 6 ? "M" : e >= 3 ? "k" : "";

		v /= e >= 6 ? 1e6 : e >= 3 ? 1e3 : 1;
		fprintf(f->f, "<path d='M%.1f %.1fH%.1f' class='grid'/>", f->left + LEFT, y,
			f->left + PANEL_W - RIGHT);
		fprintf(f->f, "<text x='%.1f' y='%.1f' class='y'>%g%s</text>\n", f->left + LEFT - 6,
			y + 4, v, unit);
	}
	for (unsigned i = 0; i < p->count; i++) {
		const struct bench_row *r = &p->rows[i];
		double x = x_of(r, panel->x);
		char text[QUANTITY_TEXT_MAX];

		/* The rows come in the order of the axis; the first system's are enough. */
		if (!is_in(r, pick, panel->x) || r->pairs > 0 || panel->y(r) <= 0 ||
		    page_x(f, x) < last + 30)
			continue;
		last = page_x(f, x);
		if (panel->x == BY_SIZE)
			bytes_exact(r->size, text);
		else
			snprintf(text, sizeof(text), "%u", r->clients);
		fprintf(f->f, "<text x='%.1f' y='%.1f' class='x'>%s</text>\n", last,
			f->top + PANEL_H - BOTTOM + 18, text);
	}
}

static void put_line(const struct frame *f, const struct bench_plot *p, const struct panel *panel,
		     const struct pick *pick, unsigned color, bool is_dashed)
{
	double (*y_of)(const struct bench_row *) = is_dashed ? panel->dashed : panel->y;
	unsigned n = 0;

	for (unsigned i = 0; i < p->count; i++) {
		const struct bench_row *r = &p->rows[i];
		double y = y_of(r);

		if (!is_in(r, pick, panel->x) || strcmp(bench_label(r), COLORS[color].label) != 0 ||
		    y <= 0)
			continue;
		fprintf(f->f, "%s%.1f %.1f", n++ ? "L" : "<path d='M", page_x(f, x_of(r, panel->x)),
			page_y(f, log10(y)));
	}
	if (n)
		fprintf(f->f, "' class='line%s' stroke='%s' stroke-width='%s'/>\n",
			is_dashed ? " dash" : "", COLORS[color].color,
			is_dashed   ? "1"
			: color > 0 ? "1.8"
				    : "3");
}

static void put_panel(const struct frame *f, const struct bench_plot *p, const struct panel *panel,
		      const struct pick *pick)
{
	char size[QUANTITY_TEXT_MAX];

	fprintf(f->f, "<text x='%.1f' y='%.1f' class='title'>", f->left + LEFT, f->top + 18);
	if (strcmp(pick->bench, pick->op) != 0)
		fprintf(f->f, "%s, ", pick->bench);
	fprintf(f->f, "%s: %s", pick->op, panel->title);
	if (panel->x == BY_CLIENTS)
		fprintf(f->f, ", %s", bytes_rough(pick->size, size));
	fprintf(f->f, "</text>\n");
	put_axes(f, p, panel, pick);
	/* Wadi last, so that nothing hides it. */
	for (unsigned c = COLOR_COUNT; c-- > 0;) {
		if (panel->dashed)
			put_line(f, p, panel, pick, c, true);
		put_line(f, p, panel, pick, c, false);
	}
}

static bool is_first_of_op(const struct bench_plot *p, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (strcmp(p->rows[k].bench, p->rows[i].bench) == 0 &&
		    strcmp(p->rows[k].op, p->rows[i].op) == 0 &&
		    p->rows[k].depth == p->rows[i].depth)
			return false;
	return true;
}

/* Panels row by row; with f NULL only counted. The height of the page. */
static double put_panels(FILE *f, const struct bench_plot *p)
{
	double top = HEAD;

	for (unsigned i = 0; i < p->count; i++) {
		const struct bench_row *r = &p->rows[i];
		struct pick pick = { r->bench, r->op, r->size, r->clients, r->depth };
		unsigned column = 0;

		if (!is_first_of_op(p, i))
			continue;
		for (unsigned k = 0; k < PANEL_COUNT; k++) {
			struct frame frame = { .f = f,
					       .left = (double)column * PANEL_W,
					       .top = top };

			if (!frame_fit(&frame, p, &PANELS[k], &pick))
				continue;
			if (f)
				put_panel(&frame, p, &PANELS[k], &pick);
			if (++column == 2) {
				column = 0;
				top += PANEL_H;
			}
		}
		if (column)
			top += PANEL_H;
	}
	return top;
}

static void put_legend(FILE *f, const struct bench_plot *p)
{
	double x = LEFT;

	for (unsigned c = 0; c < COLOR_COUNT; c++) {
		bool is_there = false;

		for (unsigned i = 0; i < p->count; i++)
			is_there |= strcmp(bench_label(&p->rows[i]), COLORS[c].label) == 0;
		if (!is_there)
			continue;
		fprintf(f, "<path d='M%.0f 22h24' class='line' stroke='%s' stroke-width='%d'/>", x,
			COLORS[c].color, c ? 2 : 3);
		fprintf(f, "<text x='%.0f' y='26'>%s</text>\n", x + 30, COLORS[c].label);
		x += 50 + 8.0 * (double)strlen(COLORS[c].label);
	}
	if (p->count)
		fprintf(f, "<text x='%.0f' y='26'>%s%s%s</text>\n", x + 10,
			p->rows[0].is_by_attach ? "" : p->rows[0].attach,
			p->rows[0].is_by_attach ? "" : ", ", p->rows[0].mode);
}

int bench_plot_write(const struct bench_plot *p, const char *path)
{
	FILE *f = fopen(path, "w");
	double height = put_panels(NULL, p);
	int r;

	if (!f)
		return -errno;
	fprintf(f,
		"<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%.0f' "
		"font-family='sans-serif' font-size='12'>\n"
		"<style>.grid{stroke:#ddd;fill:none}.line{fill:none;stroke-linejoin:round}"
		".dash{stroke-dasharray:4 3}.y{text-anchor:end}.x{text-anchor:middle}"
		".title{font-weight:bold}</style>\n"
		"<rect width='100%%' height='100%%' fill='white'/>\n",
		2 * PANEL_W, height);
	put_legend(f, p);
	put_panels(f, p);
	fprintf(f, "</svg>\n");
	r = ferror(f) ? -EIO : 0;
	return fclose(f) != 0 ? -errno : r;
}
