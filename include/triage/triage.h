// Everything: block-sparse GEMM, patterns, errors and what runs where.
#pragma once

#include "triage/block_pattern.h"
#include "triage/error.h"
#include "triage/kernels.h"
#include "triage/sparse_gemm.h"
#include "triage/types.h"
