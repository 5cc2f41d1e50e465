/* The weights of a model on its devices. */
#ifndef QN_SESSION_WEIGHTS_H
#define QN_SESSION_WEIGHTS_H

#include "session/model.h"

/* Makes the weights reachable by a device, or leaves it without any. */
enum quern_status qn_weights_load(struct quern_model *model, uint32_t device, struct quern_error *err);
void qn_weights_unload(struct quern_model *model, uint32_t device);

#endif
