/* frontend.h: int16 samples to one frame of log-mel or MFCC features, in integers, on any core. */
#ifndef EAR_FRONTEND_H
#define EAR_FRONTEND_H

#include <stdint.h>

#include "model.h"

#if EAR_FRONTEND

/* Computes one frame.
 *   samples:  EAR_FE_WINDOW samples at EAR_FE_RATE Hz; the next frame starts EAR_FE_HOP later
 *   features: EAR_FE_FEATURES values, quantised to the input of the model
 * Equal bit for bit to features() and quantise() of models/frontend.py. Not reentrant: it works in one
 * static buffer of EAR_FE_SCRATCH_BYTES. */
void ear_frontend_frame(const int16_t *samples, int8_t *features);

#endif
#endif
