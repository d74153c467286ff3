// The sparse products once more, as short as possible and one element at a time, with a choice of how sums are formed:
// what other correct kernels could give.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "registry/kernel.h"
#include "verdict/random_inputs.h"

namespace triage::testing {

enum class SumOrder {
  forward,    ///< in the order of k
  backward,   ///< against it
  pieces,     ///< sixteen products at a time are added to the sum, as matrix instructions do
  pairwise,   ///< as a tree
};

template <class Sum>
Sum add_up(std::vector<Sum> terms, SumOrder order) {
  if (order == SumOrder::pairwise) {
    for (std::size_t half = 1; half < terms.size(); half *= 2)
      for (std::size_t i = 0; i + half < terms.size(); i += 2 * half) terms[i] += terms[i + half];
    return terms.empty() ? Sum{} : terms[0];
  }
  if (order == SumOrder::backward) std::reverse(terms.begin(), terms.end());
  const std::size_t piece = order == SumOrder::pieces ? 16 : 1;
  Sum sum{};
  for (std::size_t i = 0; i < terms.size(); i += piece) {
    Sum part{};
    for (std::size_t j = i; j < std::min(i + piece, terms.size()); ++j) part += terms[j];
    sum += part;
  }
  return sum;
}

template <class Sum>
Sum activate(Sum x, Activation activation) {
  switch (activation) {
    case Activation::none: return x;
    case Activation::relu: return x < 0 ? Sum{} : x;
    case Activation::gelu: return Sum{0.5} * x * (Sum{1} + std::erf(x * static_cast<Sum>(0.70710678118654752440L)));
    case Activation::silu: return x / (Sum{1} + std::exp(-x));
  }
  return x;
}

/// Calls write(offset, value) for every element of the output of `call` (all pointers in host memory).
template <class Sum, class Write>
void naive_product(const SparseGemmCall& call, SumOrder order, const Write& write) {
  const DType dtype = call.problem.dtype;
  const PatternView& pattern = call.pattern;
  const std::int64_t block = pattern.block;
  const auto at = [&](const Matrix& matrix, std::int64_t row, std::int64_t col) {
    return static_cast<Sum>(verdict::read_element(dtype, matrix.data, row * matrix.stride + col));
  };
  const auto finish = [&](const void* output, std::int64_t offset, Sum sum, std::int64_t bias) {
    if (call.problem.operation == Operation::linear) {
      if (call.bias != nullptr) sum += static_cast<Sum>(verdict::read_element(dtype, call.bias, bias));
      return write(offset, activate(sum, call.activation));
    }
    sum *= static_cast<Sum>(call.alpha);
    if (call.beta != 0) sum += static_cast<Sum>(call.beta) * static_cast<Sum>(verdict::read_element(dtype, output, offset));
    write(offset, sum);
  };
  if (call.problem.operation == Operation::sddmm) {
    const bool rows_first = call.problem.sddmm_layout == SddmmLayout::x_yt;
    for (std::int64_t i = 0; i < pattern.block_rows; ++i)
      for (std::int64_t p = pattern.crow[i]; p < pattern.crow[i + 1]; ++p)
        for (std::int64_t r = 0; r < block; ++r)
          for (std::int64_t c = 0; c < block; ++c) {
            const std::int64_t row = i * block + r, col = pattern.col[p] * block + c, offset = (p * block + r) * block + c;
            if (row >= pattern.rows || col >= pattern.cols) {
              write(offset, Sum{});
              continue;
            }
            std::vector<Sum> terms;
            for (std::int64_t k = 0; k < call.problem.dense; ++k)
              terms.push_back(rows_first ? at(call.in0, row, k) * at(call.in1, col, k)
                                         : at(call.in0, k, row) * at(call.in1, k, col));
            finish(call.values, offset, add_up(std::move(terms), order), 0);
          }
    return;
  }
  const bool linear = call.problem.operation == Operation::linear;
  for (std::int64_t row = 0; row < pattern.rows; ++row)
    for (std::int64_t n = 0; n < call.problem.dense; ++n) {
      std::vector<Sum> terms;
      for (std::int64_t p = pattern.crow[row / block]; p < pattern.crow[row / block + 1]; ++p)
        for (std::int64_t c = 0; c < block && pattern.col[p] * block + c < pattern.cols; ++c) {
          const std::int64_t k = pattern.col[p] * block + c;
          terms.push_back(static_cast<Sum>(verdict::read_element(dtype, call.values, (p * block + row % block) * block + c)) *
                          (linear ? at(call.in0, n, k) : at(call.in0, k, n)));
        }
      finish(call.out.data, linear ? n * call.out.stride + row : row * call.out.stride + n,
             add_up(std::move(terms), order), row);
    }
}

}  // namespace triage::testing
