/* Which layout each tensor of a model has on a device. */
#ifndef QN_SESSION_LAYOUTS_H
#define QN_SESSION_LAYOUTS_H

#include "session/model.h"

/* Fills layout[tensor of the file] (enum quern_layout) with what the device would rather read, for tensors
 * that it multiplies with; QUERN_LAYOUT_FILE where that is not possible for all that the graph does with
 * them. */
void qn_choose_layouts(const struct quern_model *model, uint32_t device, uint8_t *layout);

#endif
