// The oracle's loops (see oracle.h), compiled once per instruction set so that a check takes seconds, not minutes.
//
// For each tile: copy 32 steps of k of both operands into small arrays, then for every row and step add the row's value
// times the operand's 64 columns, in double and in single precision. No blocking beyond that.
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpu/kernels.h"
#include "cpu/oracle.h"
#include "cpu/pack.h"

namespace triage::cpu::TRIAGE_ISA {
namespace {

constexpr int kSteps = 32;

/// Sums of one tile in one precision.
template <class Sum>
struct Sums {
  Sum at[kOracleRows][kOracleColumns];

  void clear(int rows) {
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < kOracleColumns; ++c) at[r][c] = 0;
  }

  /// `steps` is a multiple of 4.
  template <class T>
  void add_products(const T (&left)[kOracleRows][kSteps], const T (&right)[kSteps][kOracleColumns], int rows,
                    int columns, int steps) {
    Sum wide[kSteps][kOracleColumns];
    for (int k = 0; k < steps; ++k)
      for (int c = 0; c < columns; ++c) wide[k][c] = static_cast<Sum>(right[k][c]);
    // Four steps at a time, so that a sum passes through memory once for four products.
    for (int k = 0; k < steps; k += 4)
      for (int r = 0; r < rows; ++r) {
        const Sum f0 = left[r][k], f1 = left[r][k + 1], f2 = left[r][k + 2], f3 = left[r][k + 3];
        for (int c = 0; c < columns; ++c) {
          Sum sum = at[r][c];
          sum += f0 * wide[k][c];
          sum += f1 * wide[k + 1][c];
          sum += f2 * wide[k + 2][c];
          sum += f3 * wide[k + 3][c];
          at[r][c] = sum;
        }
      }
  }
};

template <class T>
double finite_square(T value) {
  const double square = static_cast<double>(value) * static_cast<double>(value);
  return square - square == 0 ? square : 0;  // NaN and infinities give NaN in the difference
}

template <class Storage>
class TileComputer {
 public:
  using Plain = Compute<Storage>;  // float, or double for float64
  using Exact = std::conditional_t<std::is_same_v<Storage, double>, long double, double>;

  TileComputer(const SparseGemmCall& call, const OracleTile& tile) : call_(call), tile_(tile), columns_((tile.columns + 15) / 16 * 16) {
    exact_.clear(tile.rows);
    plain_.clear(tile.rows);
  }

  void sum_spmm() {
    const PatternView& pattern = call_.pattern;
    const int block = pattern.block;
    const bool transposed = call_.problem.operation == Operation::linear;
    const DenseOperand<Storage> dense{data(call_.in0), call_.in0.stride, transposed, call_.problem.dense};
    for (std::int64_t p = pattern.crow[tile_.block_row]; p < pattern.crow[tile_.block_row + 1]; ++p) {
      const Storage* values = static_cast<const Storage*>(call_.values) + p * block * block;
      const std::int64_t k_begin = static_cast<std::int64_t>(pattern.col[p]) * block;
      const int depth = static_cast<int>(pattern.cols - k_begin < block ? pattern.cols - k_begin : block);
      for (int k = 0; k < depth; k += kSteps) {
        const int steps = depth - k < kSteps ? depth - k : kSteps;
        for (int r = 0; r < tile_.rows; ++r) widen_row(values + r * block + k, steps, left_[r]);
        pack_panel(dense, k_begin + k, k_begin + k + steps, tile_.column, kOracleColumns, &right_[0][0]);
        add_steps(steps);
      }
    }
  }

  void sum_sddmm() {
    const PatternView& pattern = call_.pattern;
    const bool transposed = call_.problem.sddmm_layout == SddmmLayout::x_yt;
    const DenseOperand<Storage> dense{data(call_.in1), call_.in1.stride, transposed, pattern.cols};
    const Storage* x = data(call_.in0);
    const std::int64_t row = static_cast<std::int64_t>(tile_.block_row) * pattern.block;
    const std::int64_t column = static_cast<std::int64_t>(pattern.col[tile_.block]) * pattern.block + tile_.column;
    const std::int64_t depth = call_.problem.dense;
    for (std::int64_t k = 0; k < depth; k += kSteps) {
      const int steps = static_cast<int>(depth - k < kSteps ? depth - k : kSteps);
      for (int r = 0; r < tile_.rows; ++r)
        for (int s = 0; s < steps; ++s)
          left_[r][s] = widen(transposed ? x[(row + r) * call_.in0.stride + k + s] : x[(k + s) * call_.in0.stride + row + r]);
      pack_panel(dense, k, k + steps, column, kOracleColumns, &right_[0][0]);
      add_steps(steps);
    }
  }

  void finish(double* exact, double* plain, OracleNoise* noise) {
    const bool linear = call_.problem.operation == Operation::linear;
    const double scale = linear ? 1 : static_cast<double>(call_.alpha);
    noise->terms = terms_;
    noise->mean_square = squares_ * scale * scale / (static_cast<double>(tile_.rows) * tile_.columns);
    for (int r = 0; r < tile_.rows; ++r)
      for (int c = 0; c < tile_.columns; ++c) {
        const Exact sum = exact_.at[r][c];
        const Plain rough = plain_.at[r][c];
        Exact value;
        Plain rough_value;
        if (linear) {
          const Plain bias = call_.bias == nullptr
                                 ? Plain{0}
                                 : widen(static_cast<const Storage*>(
                                       call_.bias)[static_cast<std::int64_t>(tile_.block_row) * call_.pattern.block + r]);
          note(noise, static_cast<double>(bias));
          note(noise, static_cast<double>(sum + bias));
          value = activate(sum + static_cast<Exact>(bias));
          rough_value = activate(rough + bias);
        } else {
          value = static_cast<Exact>(call_.alpha) * sum;
          rough_value = static_cast<Plain>(call_.alpha) * rough;
          note(noise, static_cast<double>(value));
          if (call_.beta != 0) {
            const Plain before = widen(previous()[tile_.output_offset(call_, r, c)]);
            note(noise, static_cast<double>(call_.beta) * static_cast<double>(before));
            value += static_cast<Exact>(call_.beta) * static_cast<Exact>(before);
            rough_value += static_cast<Plain>(call_.beta) * before;
          }
        }
        Storage rounded;
        narrow(rough_value, &rounded);
        exact[r * kOracleColumns + c] = static_cast<double>(value);
        plain[r * kOracleColumns + c] = static_cast<double>(widen(rounded));
      }
  }

 private:
  static const Storage* data(const Matrix& matrix) { return static_cast<const Storage*>(matrix.data); }

  const Storage* previous() const {
    return static_cast<const Storage*>(call_.problem.operation == Operation::sddmm ? call_.values : call_.out.data);
  }

  void add_steps(int steps) {
    terms_ += steps;
    for (; steps % 4 != 0; ++steps) {
      for (int r = 0; r < tile_.rows; ++r) left_[r][steps] = 0;
      for (int c = 0; c < kOracleColumns; ++c) right_[steps][c] = 0;
    }
    exact_.add_products(left_, right_, tile_.rows, columns_, steps);
    plain_.add_products(left_, right_, tile_.rows, columns_, steps);
    add_squares(steps);
  }

  // squares_ += sum over k of (sum over rows of left^2) * (sum over columns of right^2); loops in an order that vectorises.
  void add_squares(int steps) {
    double left[kSteps] = {};
    for (int r = 0; r < tile_.rows; ++r)
      for (int k = 0; k < steps; ++k) left[k] += finite_square(left_[r][k]);
    for (int k = 0; k < steps; ++k) {
      double right[8] = {};
      for (int c = 0; c < kOracleColumns; c += 8)
        for (int lane = 0; lane < 8; ++lane) right[lane] += finite_square(right_[k][c + lane]);
      double sum = 0;
      for (const double part : right) sum += part;
      squares_ += left[k] * sum;
    }
  }

  static void note(OracleNoise* noise, double value) {
    const double size = std::fabs(value);
    if (size <= 1.7976931348623157e308 && size > noise->magnitude) noise->magnitude = size;
  }

  template <class T>
  T activate(T x) const {
    switch (call_.activation) {
      case Activation::none: return x;
      case Activation::relu: return x < 0 ? T{0} : x;
      case Activation::gelu: return x * (T{0.5} * std::erfc(x * static_cast<T>(-0.70710678118654752440L)));
      case Activation::silu: return x / (T{1} + std::exp(-x));
    }
    return x;
  }

  const SparseGemmCall& call_;
  const OracleTile& tile_;
  Sums<Exact> exact_;
  Sums<Plain> plain_;
  Plain left_[kOracleRows][kSteps] = {};
  Plain right_[kSteps][kOracleColumns] = {};
  double terms_ = 0, squares_ = 0;
  int columns_;  // of the tile, in whole vectors
};

template <class Storage>
void compute_typed(const SparseGemmCall& call, const OracleTile& tile, double* exact, double* plain,
                   OracleNoise* noise) {
  TileComputer<Storage> computer(call, tile);
  if (call.problem.operation == Operation::sddmm) {
    computer.sum_sddmm();
  } else {
    computer.sum_spmm();
  }
  computer.finish(exact, plain, noise);
}

}  // namespace

void compute_oracle_tile(const SparseGemmCall& call, const OracleTile& tile, double* exact, double* plain,
                         OracleNoise* noise) {
  switch (call.problem.dtype) {
    case DType::float16: return compute_typed<Half>(call, tile, exact, plain, noise);
    case DType::bfloat16: return compute_typed<BFloat16>(call, tile, exact, plain, noise);
    case DType::float32: return compute_typed<float>(call, tile, exact, plain, noise);
    case DType::float64: return compute_typed<double>(call, tile, exact, plain, noise);
  }
}

}  // namespace triage::cpu::TRIAGE_ISA
