#include "api/strided_view.h"

#include <algorithm>
#include <limits>
#include <string>

namespace triage {

namespace {

std::string number(std::int64_t value) { return std::to_string(value); }

std::vector<Axis> by_stride(const StridedView& view) {
  std::vector<Axis> axes;
  for (const Axis& axis : view.axes) {
    if (axis.length > 1) axes.push_back(axis);
  }
  std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.stride < b.stride; });
  return axes;
}

}  // namespace

bool StridedView::has_elements() const {
  return std::all_of(axes.begin(), axes.end(), [](const Axis& axis) { return axis.length > 0; });
}

bool StridedView::aligned16() const {
  bool aligned = reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  for (std::size_t i = 0; i + 1 < axes.size(); i++) aligned = aligned && axes[i].stride * element_size % 16 == 0;
  return aligned;
}

std::vector<Axis> check_strides(const char* name, const DLTensor& tensor, int element_size) {
  std::vector<Axis> axes(static_cast<std::size_t>(tensor.ndim));
  bool any = true;
  std::int64_t compact = 1;
  for (int i = tensor.ndim - 1; i >= 0; i--) {
    axes[i] = {tensor.shape[i], compact};
    compact *= std::max<std::int64_t>(tensor.shape[i], 1);
    any = any && tensor.shape[i] > 0;
  }
  if (tensor.strides == nullptr || !any) return axes;
  const int inner = tensor.ndim - 1;
  std::int64_t room = std::numeric_limits<std::int64_t>::max() / 2 / element_size - axes[inner].length;
  for (int i = 0; i < tensor.ndim; i++) {
    const std::int64_t stride = tensor.strides[i];
    if (tensor.shape[i] == 1) continue;
    if (i == inner && stride != 1) {
      fail_argument(std::string(name) + " has the inner stride " + number(stride) + ", accepted: 1");
    }
    if (stride < 0) {
      fail_argument(std::string(name) + " has the stride " + number(stride) + " in dimension " + number(i) +
                    ", accepted: 0 or more");
    }
    axes[i].stride = stride;
    if (i == inner) continue;
    if (stride > room / (tensor.shape[i] - 1)) {
      fail_argument(std::string(name) + " has the stride " + number(stride) + " in dimension " + number(i) +
                    "; its offsets do not fit 64 bits");
    }
    room -= stride * (tensor.shape[i] - 1);
  }
  return axes;
}

void check_apart(const StridedView& view) {
  if (!view.has_elements()) return;
  std::int64_t reach = 1;
  for (const Axis& axis : by_stride(view)) {
    if (axis.stride < reach) {
      fail_argument(
          std::string(view.name) + " has the stride " + number(axis.stride) +
          ", with which its elements share memory; accepted: strides of an output whose elements lie apart (" +
          number(reach) + " or more here)");
    }
    reach += axis.stride * (axis.length - 1);
  }
}

std::vector<Extent> extents_of(const StridedView& view) {
  if (!view.has_elements()) return {Extent{view.name}};
  const std::vector<Axis> axes = by_stride(view);
  std::int64_t reach = 1;
  std::vector<Extent> extents;
  Extent all{view.name};
  all.begin = reinterpret_cast<std::uintptr_t>(view.data);
  for (const Axis& axis : axes) reach += axis.stride * (axis.length - 1);
  all.end = all.begin + static_cast<std::uintptr_t>(reach * view.element_size);
  extents.push_back(all);
  reach = 1;
  for (std::size_t i = 0; i < axes.size(); i++) {
    const std::int64_t period = axes[i].stride;
    const bool outer_follow = std::all_of(axes.begin() + static_cast<std::ptrdiff_t>(i), axes.end(),
                                          [&](const Axis& axis) { return period > 0 && axis.stride % period == 0; });
    if (outer_follow && reach <= period) {
      Extent periodic = all;
      periodic.row_bytes = reach * view.element_size;
      periodic.stride_bytes = period * view.element_size;
      extents.push_back(periodic);
    }
    reach += period * (axes[i].length - 1);
  }
  return extents;
}

void check_no_shared_byte(const StridedView& output, const StridedView& other) {
  const std::vector<Extent> ours = extents_of(output), theirs = extents_of(other);
  for (const Extent& a : ours) {
    for (const Extent& b : theirs) {
      if (!overlaps(a, b)) return;
    }
  }
  check_no_overlap(ours.front(), theirs.front());
}

}  // namespace triage
