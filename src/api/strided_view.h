// Strided views of any rank: their strides are checked, and whether two of them share memory is found without looking at
// every element.
#pragma once

#include <cstdint>
#include <vector>

#include "api/tensor_check.h"

namespace triage {

/// One dimension of a strided view.
struct Axis {
  std::int64_t length = 0, stride = 0;
};

/// A checked strided view: Q, K, V, O, lse or a gradient. Axes from the outermost to the innermost.
struct StridedView {
  const char* name = "";
  void* data = nullptr;
  int element_size = 0;
  std::vector<Axis> axes;

  bool given() const { return !axes.empty(); }
  bool has_elements() const;
  /// Data and all strides but the inner one are multiples of 16 bytes.
  bool aligned16() const;
};

/// Shape, device and data were checked before. Negative strides are refused, the inner one is 1, and every offset in
/// bytes fits 63 bits. An axis of length 1 gets its compact stride.
std::vector<Axis> check_strides(const char* name, const DLTensor& tensor, int element_size);

/// The elements of an output lie apart: each axis steps over all that the axes of smaller strides reach.
void check_apart(const StridedView& view);

/// The bytes of a view, once for each of its strides as a period: side by side in one buffer (Q, K and V packed, or O
/// beside them), two views have a period in common. The first extent is the whole.
std::vector<Extent> extents_of(const StridedView& view);

/// Refuses `output` if it shares a byte with `other`.
void check_no_shared_byte(const StridedView& output, const StridedView& other);

}  // namespace triage
