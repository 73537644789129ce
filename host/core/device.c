/*
 * device.c - which device a context gets: a built-in backend, or one from a plug-in.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

enum { WHY = 200 };

/* Tries libtern_<name>.so in a folder (NULL: as the loader finds it). */
static void *open_in(const char *folder, size_t length, const char *name)
{
    char path[1024];

    if (length > sizeof path - 64) return NULL;
    snprintf(path, sizeof path, "%.*s%slibtern_%.20s.so", (int)length, folder ? folder : "",
             folder ? "/" : "", name);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* Beside this library, wherever that is installed; in the folder above it (a build's tests); on the
 * loader's path. */
static void *open_plugin(const char *name)
{
    Dl_info self;
    void *found = NULL;

    if (dladdr((void *)(uintptr_t)&tern_open, &self) && self.dli_fname) {
        const char *slash = strrchr(self.dli_fname, '/');
        size_t length = slash ? (size_t)(slash - self.dli_fname) : 0;

        found = open_in(slash ? self.dli_fname : ".", slash ? length : 1, name);
        if (!found && slash) {
            while (length && self.dli_fname[length - 1] != '/') length--;
            if (length) found = open_in(self.dli_fname, length - 1, name);
        }
    }
    return found ? found : open_in(NULL, 0, name);
}

/* The backend of a plug-in, kept in *library; NULL and the reason. */
static const ti_backend *plugin_backend(void **library, const char *name, char why[WHY])
{
    const ti_backend *b = NULL;
    ti_plugin_fn entry;

    *library = open_plugin(name);
    if (!*library) {
        snprintf(why, WHY, "this build has no %s backend (libtern_%.20s.so)", name, name);
        return NULL;
    }
    *(void **)&entry = dlsym(*library, "ti_plugin");
    if (entry) b = entry(TI_CORE_HASH, why);
    else snprintf(why, WHY, "libtern_%.20s.so is no plug-in of Tern", name);
    if (b) return b;
    dlclose(*library);
    *library = NULL;
    return NULL;
}

/* Why no CUDA device can be used, the driver considered. */
static void no_cuda(char why[WHY])
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    char reason[WHY];

    snprintf(reason, sizeof reason, "%s", why);
    snprintf(why, WHY, "no CUDA device can be used: %.120s%s", reason,
             driver ? "" : "; libcuda.so.1 was not found (no NVIDIA driver)");
    if (driver) dlclose(driver);
}

/* Opens `name` on ctx->backend. False and the reason. */
static bool open_on(tern_ctx *ctx, const char *name, char why[WHY])
{
    ctx->device = ctx->backend->open(name, ctx->n_threads, ctx->env.disable, why);
    if (ctx->device) {
        snprintf(ctx->device_name, sizeof ctx->device_name, "%s", name);
        return true;
    }
    ctx->backend = NULL;
    if (ctx->plugin) dlclose(ctx->plugin);
    ctx->plugin = NULL;
    return false;
}

static const ti_backend *built_in(const char *name)
{
    if (strcmp(name, "cpu") == 0 || strcmp(name, "ref") == 0) return &ti_backend_cpu;
    return strcmp(name, "null") == 0 ? &ti_backend_null : NULL;
}

/* A device by its own name. False and the reason. */
static bool open_named(tern_ctx *ctx, const char *name, char why[WHY])
{
    const bool cuda = strcmp(name, "cuda") == 0 || strncmp(name, "cuda:", 5) == 0;

    ctx->backend = built_in(name);
    if (!ctx->backend && (cuda || strcmp(name, "simt") == 0))
        ctx->backend = plugin_backend(&ctx->plugin, cuda ? "cuda" : "simt", why);
    else if (!ctx->backend)
        snprintf(why, WHY, "there is no such device (auto, cpu, ref, null, simt, cuda, cuda:N)");
    const bool opened = ctx->backend && open_on(ctx, name, why);
    if (cuda && !opened) no_cuda(why);
    return opened;
}

tern_status ti_device_open(tern_ctx *ctx, const char *wanted)
{
    char why[WHY] = "";

    if (strcmp(wanted, "auto") != 0) {
        if (!open_named(ctx, wanted, why))
            return ti_fail(ctx, TERN_E_DEVICE, "device %.60s: %s", wanted, why);
        strcpy(ctx->device_why, "asked for");
    } else if (open_named(ctx, "cuda:0", why)) {
        strcpy(ctx->device_why, "auto: first usable");
    } else {
        snprintf(ctx->device_why, sizeof ctx->device_why, "auto: %.180s", why);
        if (!open_named(ctx, "cpu", why)) return ti_fail(ctx, TERN_E_DEVICE, "device cpu: %s", why);
    }
    const ti_memory memory = ctx->backend->memory(ctx->device);
    ctx->pool = ti_pool_open(&memory);
    if (!ctx->pool) return ti_fail(ctx, TERN_E_MEMORY, "open: out of host memory");
    ti_pool_cap(ctx->pool, ctx->env.pool_bytes);
    return TERN_OK;
}

void ti_device_close(tern_ctx *ctx)
{
    if (ctx->device) ctx->backend->close(ctx->device);
    if (ctx->plugin) dlclose(ctx->plugin);
}

tern_status ti_check_device(tern_ctx *ctx, bool wait)
{
    const ti_backend *b = ctx->backend;
    const char *text;

    if (!b->sync || (!wait && !(b->broken && b->broken(ctx->device)))) return ctx->error;
    if (!(text = b->sync(ctx->device))) return ctx->error;
    return ti_fail(ctx, TERN_E_DEVICE, "%s: %s", ctx->device_name, text);
}

/* A device that has failed has no memory, either, but that is not what is to be told. */
ti_block *ti_take(tern_ctx *ctx, size_t bytes, const char *holder, const char *who,
                  const char *part)
{
    ti_block *block = ti_may_allocate(ctx) ? ti_pool_alloc(ctx->pool, bytes, 0, holder) : NULL;
    char why[400];

    if (block || ti_check_device(ctx, true)) return block;
    ti_pool_explain(ctx->pool, bytes, why, sizeof why);
    ti_fail(ctx, TERN_E_MEMORY, "%s: %s%s", who, part, why);
    return NULL;
}

bool tern_part_at(tern_ctx *ctx, int i, tern_part *part)
{
    const ti_backend *b;
    void *library = NULL;
    char why[WHY] = "";

    if (!ctx || !part || i < 0) return false;
    memset(part, 0, sizeof *part);
    b = ctx->plugin ? ctx->backend : plugin_backend(&library, "cuda", why);
    bool found = b && b->part && b->part(i, ctx->env.disable, part);
    if (!b && i == 0) {
        strcpy(part->name, "cuda");
        snprintf(part->text, sizeof part->text, "%s", why);
        found = true;
    }
    if (library) dlclose(library);
    return found;
}
