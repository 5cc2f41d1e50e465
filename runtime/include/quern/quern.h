/* Quern: all of the public API.
 *
 * A model is opened from a GGUF file, a session holds sequences of tokens, a sampler chooses the next one:
 *
 *     quern_model_open -> quern_tokenize -> quern_session_create -> quern_session_feed -> quern_generate
 *
 * Functions return an enum quern_status; QUERN_OK is 0. The library never prints, exits, forks, sets signals
 * or keeps state outside of its handles. */
#ifndef QUERN_H
#define QUERN_H

#include <quern/status.h>
#include <quern/format.h>
#include <quern/driver.h>
#include <quern/profile.h>
#include <quern/device.h>
#include <quern/verify.h>
#include <quern/cache.h>
#include <quern/model.h>
#include <quern/chat.h>
#include <quern/session.h>
#include <quern/trace.h>

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
QUERN_API const char *quern_version(void);

#ifdef __cplusplus
}
#endif

#endif
