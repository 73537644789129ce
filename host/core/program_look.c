/*
 * program_look.c - a plan as data for those outside: lines, values, places, lifetimes.
 */
#include <stdio.h>
#include <string.h>

#include "core/program.h"

bool tern_program_line_at(const tern_program *prog, int i, tern_program_line *to)
{
    const ti_plan *p = prog ? prog->last : NULL;
    char shape[160];

    if (!p || !to || i < 0 || i >= p->n_line) return false;
    const ti_line *l = &p->line[i];

    memset(to, 0, sizeof *to);
    to->op = l->op->name;
    to->kernel = l->how->row->impl;
    to->where = l->where ? l->where : "";
    to->backward = l->back;
    to->again = l->again;
    to->commit = l->op == p->commit;
    to->n_in = l->n_in;
    to->n_out = l->op->n_out;
    for (int k = l->op->n_out; k-- > 0;)
        if (l->out[k].value >= 0)
            snprintf(to->out, sizeof to->out, "%s%s", tern_type_name(l->out[k].m.type),
                     tern_shape_text(shape, l->out[k].m.shape));
    ti_fused_text(l->fused, to->fused, sizeof to->fused);
    return true;
}

bool tern_program_value_at(const tern_program *prog, int i, tern_program_value *to)
{
    const ti_plan *p = prog ? prog->last : NULL;

    if (!p || !to || i < 0 || i >= p->n_value) return false;
    const ti_value *v = &p->value[i];

    memset(to, 0, sizeof *to);
    to->kind = (tern_value_kind)v->kind;
    to->name = v->var ? v->var->name : "";
    to->bytes = v->bytes;
    to->inside = ti_root_value(p, i, &to->at);
    to->at += p->value[to->inside].kind == TI_VARIABLE ? 0 : p->value[to->inside].at;
    to->first = v->first;
    to->last = v->last;
    for (int k = 0; k < p->n_line && !to->scratch; k++) to->scratch = p->line[k].i_scratch == i;
    return true;
}

int tern_program_operand(const tern_program *prog, int i_line, int k)
{
    const ti_plan *p = prog ? prog->last : NULL;

    if (!p || i_line < 0 || i_line >= p->n_line || k < 0) return -1;
    const ti_line *l = &p->line[i_line];
    if (k < l->n_in) return l->in[k].value;
    return k - l->n_in < l->op->n_out ? l->out[k - l->n_in].value : -1;
}
