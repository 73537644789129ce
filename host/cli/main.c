/* main.c - the command `tern`: verbs, and what all of them have in common. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/signals.h"
#include "cli/verbs.h"

static int run_help(cli *c)
{
    if (c->n_arg == 0) {
        cli_help(NULL);
        return EXIT_DONE;
    }
    for (const verb *v = verb_table; v->name; v++)
        if (strcmp(v->name, c->arg[0]) == 0) {
            cli_help(v);
            return EXIT_DONE;
        }
    return usage_error(c, "there is no verb \"%s\"", c->arg[0]);
}

const verb verb_table[] = {
    {"train", V_TRAIN, "train a network, or go on with a run",
     "tern train [--data NAME|DIR] [--model NAME|FILE] [options]   or   tern train --resume RUN",
     "  tern train --data fashion-mnist --model lenet5\n"
     "  tern train --data photos/ --size 3x64x64 --model resnet20 --epochs 30\n"
     "  tern train --config runs/fashion-mnist-lenet5/config.cfg --seed 7\n"
     "  tern train --resume runs/fashion-mnist-lenet5\n",
     verb_train},
    {"eval", V_EVAL, "score a model on a data set",
     "tern eval RUN [--split test|val|train] [options]",
     "  tern eval runs/fashion-mnist-lenet5\n"
     "  tern eval runs/fashion-mnist-lenet5 --split val --json\n",
     verb_eval},
    {"predict", V_PREDICT, "classify images or arrays",
     "tern predict RUN FILE... [options]   FILE: PNG, JPEG, npy or IDX; - reads names from stdin",
     "  tern predict runs/fashion-mnist-lenet5 coat.png bag.jpg --top 3\n"
     "  find photos -name '*.png' | tern predict runs/photos-resnet20 - --format csv > out.csv\n",
     verb_predict},
    {"summary", V_SUMMARY, "layers, parameters, FLOPs, memory plan",
     "tern summary [MODEL] [--batch N] [--optimizer NAME] [options]",
     "  tern summary resnet18 --batch 128\n"
     "  tern summary --model fashion.cfg --json\n"
     "  tern summary resnet20 --program --plot program.svg\n",
     verb_summary},
    {"devices", V_DEVICES, "what can compute here, and why not", "tern devices [options]",
     "  tern devices\n", verb_devices},
    {"info", V_INFO, "build, features, effective config",
     "tern info [--config [FILE]] [--ops] [options]",
     "  tern info\n  tern info --config --set lr=0.01\n", verb_info},
    {"op", V_OP, "run one operation on arrays from files",
     "tern op NAME INPUT... key=value... [--grad COTANGENT...] [--second VECTOR...] -o DIR\n"
     "  INPUT: .npy, .npz (its arrays in order), or - for an input that is left out",
     "  tern op conv2d x.npy w.npy stride=2,1 pad=1,1 --grad gy.npy -o out/\n"
     "  tern op cross_entropy x.npy labels.npy - smoothing=0.1 -o out/\n"
     "  tern op --list --json\n",
     verb_op},
    {"bench", V_BENCH, "time operations, and training steps of a model",
     "tern bench ops ['OP NAME=SHAPE... OPTION=VALUE...'] [options]\n"
     "  or: tern bench model NAME... | suite cnn|small|gemm|memory-bound|all | pool | launch",
     "  tern bench ops --filter conv --threads 1,2 --save base.json\n"
     "  tern bench ops --filter conv --threads 1,2 --baseline base.json\n"
     "  tern bench ops 'conv2d N=64 x=Nx64x32x32 w=64x64x3x3 pad=1' --batch 1..64*4 --format csv\n"
     "  tern bench model lenet5 --batch 64..1024*2 --threads 1 --json\n"
     "  tern bench suite small --plot roofline.png\n",
     verb_bench},
    {"compare", V_COMPARE, "numerics of devices, call by call, against double",
     "tern compare --model NAME|FILE --devices A,B [options]   or   tern compare RUN --devices A,B",
     "  tern compare --model lenet5 --devices cpu,simt\n"
     "  tern compare --model resnet20 --devices cpu --batch 8 --steps 3 --json\n"
     "  tern compare runs/fashion-mnist-lenet5 --devices cpu,cuda\n"
     "  tern compare --model cnn --devices cpu,ref --inject conv2.dW,rel=0.01\n",
     verb_compare},
    {"help", V_HELP, "what a verb takes", "tern help [VERB]", "  tern help train\n", run_help},
    {0},
};

static int run(cli *c, int argc, char **argv)
{
    const bool parsed = cli_parse(c, argc, argv);
    int status;

    if (!parsed) return EXIT_USAGE;
    if (!out_setup(&(out_how){.color = cli_text(c, "color"),
                              .progress = cli_text(c, "progress"),
                              .log = cli_text(c, "log"),
                              .quiet = cli_flag(c, "quiet"),
                              .verbose = cli_flag(c, "verbose"),
                              .json = cli_flag(c, "json")}))
        return EXIT_FAILED;
    if (c->version) {
        result("tern %s\n", tern_version());
        return EXIT_DONE;
    }
    if (c->help) {
        cli_help(c->verb && c->verb->bit != V_HELP ? c->verb : NULL);
        return EXIT_DONE;
    }
    if (!c->verb) {
        error("there is no verb");
        hint(
            "tern help lists what there is; tern train --data fashion-mnist --model lenet5 trains");
        return EXIT_USAGE;
    }
    if ((status = settings_read(c)) != EXIT_DONE) return status;
    return c->verb->run(c);
}

int main(int argc, char **argv)
{
    static cli c;

    signals_ignore_pipe();
    /* Messages about a wrong command line are styled before its options are known. */
    (void)out_setup(&(out_how){0});
    return out_finish(run(&c, argc, argv));
}
