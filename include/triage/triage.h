// Everything: block-sparse GEMM, attention, patterns, errors and what runs where.
#pragma once

#include "triage/attention.h"
#include "triage/block_pattern.h"
#include "triage/error.h"
#include "triage/kernels.h"
#include "triage/sparse_gemm.h"
#include "triage/types.h"
