// A header that nobody has.
// EXPECT 80 86 89 90a 100a 120a: WON'T COMPILE (missing header)
// CAUSE missing-header - line 4 on 80 86 89 90a 100a 120a everywhere says "triage_no_such/library.h"
#include <triage_no_such/library.h>
__global__ void kernel(float* out) { out[threadIdx.x] = 1.0f; }
