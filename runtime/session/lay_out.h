/* Weights in the layouts that a device's kernels read faster: copied from the mapped file piece by piece,
 * while the file's pages are let go, so that memory does not hold both.
 *
 * Where the driver reads what is not laid out yet from the file (QUERN_CAPS_ORIGINS), that goes on behind the
 * first steps, with the same results: a little before each step of few tokens, and as long as no step runs,
 * in a thread of the model. Both do it with the model's lock held, by the device's own threads. */
#ifndef QN_SESSION_LAY_OUT_H
#define QN_SESSION_LAY_OUT_H

#include "session/model.h"

/* Chooses the layouts of a device whose weights are in the mapped file, and makes a buffer for those that are
 * to be copied. tensors: what the graph uses, [n] in the order of the file. They are copied before it
 * returns, or later, where that is possible and wanted. Without room for them they stay in the file. */
enum quern_status qn_lay_out(struct quern_model *model, uint32_t device, const uint32_t *tensors, size_t n,
                             struct quern_error *err);
/* Forgets what is left to do on a device. */
void qn_lay_out_finish(struct quern_model *model, uint32_t device);

/* With the lock held, before a step of so many tokens: does a little of what is left. */
void qn_lay_out_before_step(struct quern_model *model, uint32_t n_tokens);
/* After that step: how long it took. */
void qn_lay_out_after_step(struct quern_model *model, uint32_t n_tokens, uint64_t ns);

/* Starts the thread where something is left to do; without it, steps do it all. */
void qn_lay_out_start(struct quern_model *model);
/* Ends the thread, between two pieces; without the lock. */
void qn_lay_out_stop(struct quern_model *model);
/* After that: does what is left where it is to be kept, and keeps it, unless the caller cancels. */
void qn_lay_out_keep(struct quern_model *model);

#endif
