/* The operations' rows, each at the end of its file in ref/. */
#ifndef QN_CPU_OPS_H
#define QN_CPU_OPS_H

#include "drivers/cpu/device.h"

#define QN_OP(id, lower) extern const struct qn_op_kind qn_op_##lower;
#include "drivers/cpu/ops.inc"
#undef QN_OP

#endif
