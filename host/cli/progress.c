/* progress.c - one redrawn line on a terminal, whole key=value lines elsewhere. */
#include "cli/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/out.h"
#include "cli/signals.h"

static const double per_bar = 0.1, per_line = 60;

void progress_head(void)
{
    if (out.show != SHOW_TTY) return;
    say("\n%s epoch   train loss   val loss   val acc         lr     time    img/s%s\n",
        style("bold"), style("off"));
}

/* "0.3672", or "-" for what was not measured. */
static const char *loss_text(char text[24], double x)
{
    if (isfinite(x)) snprintf(text, 24, "%.4f", x);
    else snprintf(text, 24, "%s", isnan(x) ? "-" : "overflow");
    return text;
}

static void epoch_row(const tern_epoch *e)
{
    char loss[24], val[24], acc[24], left[32];

    if (isfinite(e->val_accuracy)) snprintf(acc, sizeof acc, "%.2f%%", 100 * e->val_accuracy);
    else snprintf(acc, sizeof acc, "-");
    snprintf(left, sizeof left, "%d/%d", e->index, e->epochs);
    say("%6s   %10s %10s %9s %10.3g %8s %8s   %s%s%s\n", left, loss_text(loss, e->train_loss),
        loss_text(val, e->val_loss), acc, e->lr, duration(e->seconds), rate(e->images_per_s),
        e->best ? style("green") : "", e->best ? "best" : "", e->best ? style("off") : "");
}

/* key=value, left out where there is no value. */
static void pair(char *line, size_t room, const char *key, double x, const char *format)
{
    char number[40];
    const size_t used = strlen(line);

    if (!isfinite(x) || used >= room) return;
    snprintf(number, sizeof number, format, x);
    snprintf(line + used, room - used, " %s=%s", key, number);
}

static void epoch_line(const tern_epoch *e)
{
    char line[320];

    snprintf(line, sizeof line, "epoch=%d/%d step=%lld", e->index, e->epochs, (long long)e->step);
    pair(line, sizeof line, "train_loss", e->train_loss, "%.4f");
    pair(line, sizeof line, "val_loss", e->val_loss, "%.4f");
    pair(line, sizeof line, "val_acc", e->val_accuracy, "%.4f");
    pair(line, sizeof line, "lr", e->lr, "%.4g");
    pair(line, sizeof line, "img_per_s", e->images_per_s, "%.0f");
    pair(line, sizeof line, "eta_s", e->eta_s, "%.0f");
    say("%s best=%d\n", line, e->best);
}

void progress_epoch(const tern_epoch *e, void *user)
{
    progress *p = user;

    redraw("");
    p->line = seconds_now();
    if (out.show == SHOW_TTY) epoch_row(e);
    else if (out.show == SHOW_LINES) epoch_line(e);
}

/* Characters that a text takes on the screen. */
static int columns(const char *text)
{
    int n = 0;

    for (; *text; text++) {
        if (*text == '\033')
            while (*text && *text != 'm') text++;
        else n += ((unsigned char)*text & 0xc0) != 0x80;
        if (!*text) break;
    }
    return n;
}

/* "━━━━━╸───" */
static void bar(char *text, size_t room, double share, int width)
{
    const int halves = (int)(share * width * 2);
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < width; i++) {
        const char *piece = 2 * i + 1 < halves ? "━" : 2 * i < halves ? "╸" : "─";
        used += (size_t)snprintf(text + used, room - used, "%s", piece);
    }
}

static void draw(const tern_progress *at)
{
    const double share = at->epoch_steps ? (double)at->epoch_step / (double)at->epoch_steps : 0;
    char left[32], right[200], middle[3 * 40 + 1], line[400], loss[24];
    const int width = out_width();
    int room;

    snprintf(left, sizeof left, "%d/%d", at->epoch, at->epochs);
    snprintf(right, sizeof right, "%lld/%lld  %2.0f%%   loss %s   %s img/s   ETA %s, run %s",
             (long long)at->epoch_step, (long long)at->epoch_steps, 100 * share,
             loss_text(loss, at->loss), rate(at->images_per_s), duration(at->epoch_eta_s),
             duration(at->eta_s));
    room = width - 1 - columns(right) - 12;
    if (room < 4) {
        snprintf(right, sizeof right, "%2.0f%%  loss %s", 100 * share, loss_text(loss, at->loss));
        room = width - 1 - columns(right) - 12;
    }
    if (room > 24) room = 24;
    if (room >= 4) {
        bar(middle, sizeof middle, share, room);
        snprintf(line, sizeof line, "%6s   %s  %s", left, middle, right);
    } else {
        snprintf(line, sizeof line, "%.*s", width - 1 > 3 ? width - 1 : 3, left);
    }
    redraw(line);
}

static void tell_signal(progress *p)
{
    if (p->told) return;
    p->told = true;
    redraw("");
    if (out.show == SHOW_TTY)
        say("stopping after this step; press Ctrl-C again to leave without saving\n");
    else say("signal=%d stopping after this step\n", signals_got());
}

static void line_a_minute(const tern_progress *at)
{
    char line[320];

    snprintf(line, sizeof line, "epoch=%d/%d step=%lld/%lld epoch_step=%lld/%lld", at->epoch,
             at->epochs, (long long)at->step, (long long)at->steps, (long long)at->epoch_step,
             (long long)at->epoch_steps);
    pair(line, sizeof line, "train_loss", at->loss, "%.4f");
    pair(line, sizeof line, "img_per_s", at->images_per_s, "%.0f");
    pair(line, sizeof line, "eta_s", at->eta_s, "%.0f");
    say("%s\n", line);
}

tern_wish progress_step(const tern_progress *at, void *user)
{
    progress *p = user;
    const double now = seconds_now();

    if (p->resumed) {
        if (out.show == SHOW_TTY)
            say("resume  step %s of %s: weights, optimizer, schedule, random state and order "
                "restored\n",
                thousands(at->step - 1), thousands(at->steps));
        else say("resumed step=%lld steps=%lld\n", (long long)at->step - 1, (long long)at->steps);
        p->resumed = false;
    }
    if (p->saving) {
        say("saved   %s/last.ckpt  (step %s of %s)\n", p->run, thousands(at->step - 1),
            thousands(at->steps));
        p->saving = false;
    }
    if (out.show == SHOW_TTY && !out.quiet && now - p->drawn >= per_bar) {
        p->drawn = now;
        draw(at);
    }
    if (p->line == 0) p->line = now;
    if (out.show == SHOW_LINES && now - p->line >= per_line) {
        p->line = now;
        line_a_minute(at);
    }
    if (signals_got()) {
        tell_signal(p);
        return TERN_STOP;
    }
    if (!signals_want_save()) return TERN_GO_ON;
    p->saving = true;
    return TERN_SAVE;
}
