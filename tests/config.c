/* config.c - configuration files: order, lines, what is refused and where. */
#include "files.h"

TestSuite(config, .init = tc_folder_begin, .fini = tc_folder_end);

static tern_config *parse(tern_ctx *ctx, const char *text)
{
    return tern_config_parse(ctx, "net.cfg", text, strlen(text));
}

Test(config, sections_in_order_with_their_lines)
{
    tern_ctx *ctx = tc_open("cpu");
    const char *text = "\xef\xbb\xbf# a net\n"
                       "[net]\n"
                       "  channels = 1 # grey\n"
                       "height=28\r\n"
                       "\n"
                       "[ conv ]\n"
                       "name=conv1#x\n"
                       "empty=\n"
                       "[conv]\t# again\n"
                       "[train]\n"
                       "path=a b = c";
    tc_put(tc_file("net.cfg"), text, strlen(text));
    tern_config *c = tern_config_read(ctx, tc_file("net.cfg"));

    cr_assert(c, "%s", tern_error_text(ctx));
    cr_expect(tern_config_count(c) == 4);
    cr_expect_str_eq(tern_config_file(c), tc_file("net.cfg"));
    const tern_config_section *net = tern_config_at(c, 0), *conv = tern_config_at(c, 1);
    cr_expect(net->line == 2 && net->count == 2 && conv->line == 6 && conv->count == 2);
    cr_expect_str_eq(net->name, "net");
    cr_expect_str_eq(tern_config_find(net, "channels")->value, "1");
    cr_expect_str_eq(tern_config_find(net, "height")->value, "28");
    cr_expect(tern_config_find(net, "height")->line == 4);
    cr_expect_str_eq(conv->name, "conv");
    cr_expect_str_eq(tern_config_find(conv, "name")->value, "conv1#x");
    cr_expect_str_eq(tern_config_find(conv, "empty")->value, "");
    cr_expect(tern_config_at(c, 2)->count == 0 &&
              tern_config_find(tern_config_at(c, 2), "name") == NULL);
    cr_expect_str_eq(tern_config_find(tern_config_at(c, 3), "path")->value, "a b = c");
    cr_expect(tern_config_at(c, 4) == NULL && tern_config_at(NULL, 0) == NULL);
    tern_config_close(ctx, c);
    c = parse(ctx, "");
    cr_expect(c && tern_config_count(c) == 0);
    tc_close(ctx);
}

Test(config, refusals_name_file_and_line)
{
    static const struct {
        const char *text, *want;
    } bad[] = {
        {"a=1\n", "net.cfg:1: a [section]"},
        {"[net]\n\nwidth\n", "net.cfg:3: neither"},
        {"[net\n", "net.cfg:1: a section is written"},
        {"[net]x\n", "net.cfg:1: a section is written"},
        {"[]\n", "net.cfg:1: the name"},
        {"[a b]\n", "net.cfg:1: the name"},
        {"[net]\n=1\n", "net.cfg:2: a key"},
        {"[net]\na b=1\n", "net.cfg:2: a key"},
        {"[net]\na=1\nb=2\na=3\n", "net.cfg:4: a is given twice; first in line 2"},
        {"[net]\na=\1\n", "net.cfg:2: has a control character"},
    };
    tern_ctx *ctx = tc_open("cpu");

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!parse(ctx, bad[i].text), "case %zu", i);
        cr_expect(strstr(tern_error_text(ctx), bad[i].want) == tern_error_text(ctx), "case %zu: %s",
                  i, tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    cr_expect(!tern_config_parse(ctx, "net.cfg", "[a]\nb=\0", 7));
    tern_error_clear(ctx);
    cr_expect(!tern_config_read(ctx, tc_file("none")) && tern_error(ctx) == TERN_E_IO);
    tern_error_clear(ctx);
    cr_expect(!tern_config_parse(ctx, NULL, "", 0) && tern_error(ctx) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

Test(config, sizes_are_bounded)
{
    tern_ctx *ctx = tc_open("cpu");
    char *text = malloc(3 << 20);

    memset(text, '#', 5000);
    cr_expect(!tern_config_parse(ctx, "a", text, 5000) &&
              strstr(tern_error_text(ctx), "a:1: longer"));
    tern_error_clear(ctx);
    memset(text, '\n', 2 << 20);
    cr_expect(!tern_config_parse(ctx, "a", text, 2 << 20));
    tern_error_clear(ctx);
    for (int i = 0; i < 5000; i++) memcpy(text + 4 * i, "[a]\n", 4);
    cr_expect(!tern_config_parse(ctx, "a", text, 20000) && strstr(tern_error_text(ctx), "a:4097:"));
    tern_error_clear(ctx);
    int n = sprintf(text, "[a]\n");
    for (int i = 0; i < 257; i++) n += sprintf(text + n, "k%d=1\n", i);
    cr_expect(!tern_config_parse(ctx, "a", text, (size_t)n) &&
              strstr(tern_error_text(ctx), "a:258:"));
    tern_error_clear(ctx);
    free(text);
    tc_close(ctx);
}

/* No mutant crashes; those that parse have whole sections. */
Test(config, mutants)
{
    tern_ctx *ctx = tc_open("cpu");
    const char *text = "[net]\nchannels=1\n# c\n[conv]\nname=x # y\npad = same\n";
    const size_t n = strlen(text);
    char *copy = malloc(n + 1);

    for (size_t i = 0; i < n * 256; i++) {
        memcpy(copy, text, n + 1);
        copy[i / 256] = (char)(i % 256);
        tern_config *c = tern_config_parse(ctx, "m", copy, n);
        for (int s = 0; s < tern_config_count(c); s++)
            for (int e = 0; e < tern_config_at(c, s)->count; e++)
                cr_assert(strlen(tern_config_at(c, s)->entry[e].key) > 0);
        tern_config_close(ctx, c);
        tern_error_clear(ctx);
    }
    free(copy);
    tc_close(ctx);
}

static bool read_one(tern_ctx *ctx)
{
    tc_put(tc_file("f"), "[a]\nb=1\n[c]\nd=2\n", 16);
    tern_config *c = tern_config_read(ctx, tc_file("f"));
    tern_config_close(ctx, c);
    return c != NULL;
}

Test(config, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(tc_faults(ctx, read_one) >= 5);
    tc_close(ctx);
}
