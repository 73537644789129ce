/* tern/tern.h - the whole library. */
#ifndef TERN_TERN_H
#define TERN_TERN_H

#include "tern/base.h"
#include "tern/call.h"
#include "tern/compare.h"
#include "tern/data.h"
#include "tern/grad.h"
#include "tern/io.h"
#include "tern/models.h"
#include "tern/nn.h"
#include "tern/ops.h"
#include "tern/optim.h"
#include "tern/program.h"
#include "tern/tensor.h"
#include "tern/train.h"
#include "tern/tune.h"

#endif
