#include "verdict/scan_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "io/text.h"
#include "triage/error.h"

namespace triage::verdict {
namespace {

constexpr std::int64_t kBandRows = 128;  // a multiple of every block size

// Calls visit(first_row, row_count, data) for bands of rows.
template <class Visit>
void for_each_band(const WeightMatrix& matrix, Visit visit) {
  std::vector<float> band(static_cast<std::size_t>(std::min(kBandRows, matrix.rows()) * matrix.cols()));
  for (std::int64_t row = 0; row < matrix.rows(); row += kBandRows) {
    const std::int64_t count = std::min(kBandRows, matrix.rows() - row);
    matrix.read_rows(row, count, band.data());
    visit(row, count, band.data());
  }
}

BlockList empty_list(std::int64_t rows, std::int64_t cols, int block) {
  BlockList list;
  list.rows = rows;
  list.cols = cols;
  list.block = block;
  if (list.total() > std::numeric_limits<std::int32_t>::max()) {
    throw Error(ErrorCode::unsupported, "a matrix of " + std::to_string(rows) + " x " + std::to_string(cols) + " has " +
                                            std::to_string(list.total()) + " blocks of " + std::to_string(block) +
                                            " (accepted: at most 2^31 - 1)");
  }
  return list;
}

// The blocks (positions row-major over all blocks, ascending) as a list.
BlockList list_of(BlockList list, const std::vector<std::int64_t>& positions) {
  std::size_t next = 0;
  for (std::int64_t row = 0; row < list.block_rows(); ++row) {
    for (; next < positions.size() && positions[next] < (row + 1) * list.block_cols(); ++next) {
      list.col.push_back(static_cast<std::int32_t>(positions[next] - row * list.block_cols()));
    }
    list.crow.push_back(static_cast<std::int32_t>(list.col.size()));
  }
  return list;
}

std::int64_t kept_blocks(double density, std::int64_t total) {
  return std::clamp<std::int64_t>(std::llround(density * static_cast<double>(total)), 1, total);
}

DLTensor view(const std::vector<std::int32_t>& indices, std::int64_t* shape) {
  *shape = static_cast<std::int64_t>(indices.size());
  DLTensor tensor{};
  tensor.data = const_cast<std::int32_t*>(indices.data());
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = {kDLInt, 32, 1};
  tensor.shape = shape;
  return tensor;
}

}  // namespace

BlockPattern BlockList::pattern() const {
  std::int64_t crow_shape = 0, col_shape = 0;
  const DLTensor crow_view = view(crow, &crow_shape), col_view = view(col, &col_shape);
  return BlockPattern::from_bsr(crow_view, col_view, rows, cols, block);
}

std::array<BlockList, 4> census(const WeightMatrix& matrix) {
  std::array<BlockList, 4> lists;
  for (std::size_t i = 0; i < lists.size(); ++i) lists[i] = empty_list(matrix.rows(), matrix.cols(), kBlockSizes[i]);
  constexpr std::int64_t kFine = kBlockSizes[0];
  const std::int64_t fine_cols = lists[0].block_cols();
  std::vector<std::uint8_t> fine;  // of one band: whether a block of 16 x 16 holds a nonzero
  for_each_band(matrix, [&](std::int64_t, std::int64_t count, const float* band) {
    const std::int64_t fine_rows = (count + kFine - 1) / kFine;
    fine.assign(static_cast<std::size_t>(fine_rows * fine_cols), 0);
    for (std::int64_t row = 0; row < count; ++row) {
      const float* const values = band + row * matrix.cols();
      std::uint8_t* const flags = fine.data() + row / kFine * fine_cols;
      for (std::int64_t block = 0; block < fine_cols; ++block) {
        if (flags[block]) continue;
        const std::int64_t end = std::min((block + 1) * kFine, matrix.cols());
        for (std::int64_t column = block * kFine; column < end; ++column) flags[block] |= !(values[column] == 0.0f);
      }
    }
    for (auto& list : lists) {
      const std::int64_t factor = list.block / kFine;
      for (std::int64_t top = 0; top < fine_rows; top += factor) {
        for (std::int64_t left = 0; left < fine_cols; left += factor) {
          bool nonzero = false;
          for (std::int64_t i = top; i < std::min(top + factor, fine_rows); ++i) {
            for (std::int64_t j = left; j < std::min(left + factor, fine_cols); ++j) {
              nonzero |= fine[static_cast<std::size_t>(i * fine_cols + j)] != 0;
            }
          }
          if (nonzero) list.col.push_back(static_cast<std::int32_t>(left / factor));
        }
        list.crow.push_back(static_cast<std::int32_t>(list.col.size()));
      }
    }
  });
  return lists;
}

std::vector<double> block_norms(const WeightMatrix& matrix, int block) {
  const BlockList shape = empty_list(matrix.rows(), matrix.cols(), block);
  std::vector<double> norms(static_cast<std::size_t>(shape.total()), 0.0);
  for_each_band(matrix, [&](std::int64_t first, std::int64_t count, const float* band) {
    for (std::int64_t row = 0; row < count; ++row) {
      double* const out = norms.data() + (first + row) / block * shape.block_cols();
      for (std::int64_t column = 0; column < matrix.cols(); ++column) {
        const double value = band[row * matrix.cols() + column];
        out[column / block] += value * value;
      }
    }
  });
  for (double& norm : norms) {
    if (std::isnan(norm)) norm = std::numeric_limits<double>::infinity();
  }
  return norms;
}

BlockList keep_largest(const WeightMatrix& matrix, int block, double density) {
  const std::vector<double> norms = block_norms(matrix, block);
  std::vector<std::int64_t> positions(norms.size());
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  const auto norm = [&](std::int64_t position) { return norms[static_cast<std::size_t>(position)]; };
  const auto keep = positions.begin() + kept_blocks(density, static_cast<std::int64_t>(norms.size()));
  std::partial_sort(positions.begin(), keep, positions.end(),
                    [&](std::int64_t a, std::int64_t b) { return norm(a) != norm(b) ? norm(a) > norm(b) : a < b; });
  positions.erase(keep, positions.end());
  std::erase_if(positions, [&](std::int64_t position) { return norm(position) == 0; });
  std::sort(positions.begin(), positions.end());
  return list_of(empty_list(matrix.rows(), matrix.cols(), block), positions);
}

BlockList random_blocks(std::int64_t rows, std::int64_t cols, int block, double density, std::uint64_t seed) {
  BlockList list = empty_list(rows, cols, block);
  std::vector<std::int64_t> positions(static_cast<std::size_t>(list.total()));
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  std::mt19937_64 random(seed);
  const std::int64_t keep = kept_blocks(density, list.total());
  for (std::int64_t i = 0; i < keep; ++i) {  // the first steps of a Fisher-Yates shuffle
    const auto other = i + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(list.total() - i));
    std::swap(positions[static_cast<std::size_t>(i)], positions[static_cast<std::size_t>(other)]);
  }
  positions.resize(static_cast<std::size_t>(keep));
  std::sort(positions.begin(), positions.end());
  return list_of(std::move(list), positions);
}

}  // namespace triage::verdict
