// Tile schedules on the GPU, the same bits as build_schedule's. Three launches, no synchronisation, no allocation:
//
//   build_stages: one CTA a group: rows -> union of columns -> stages. Groups are independent because each has room of
//     its own (SchedulePlan::first_stage).
//   split_groups: one CTA: total and longest, which groups are split, the two lists of items in group order.
//   sort_items: every item finds its place by counting the longer ones and its equals before it: quadratic, but all at
//     once. Lists too long for that go through a radix sort.
//
// build_stages goes through the columns in windows of kWindow. In shared memory it keeps one word a column, bit r set
// if row r has a block there; compacts the nonzero words to the list of union columns, with a prefix sum of their
// popcounts; finds for every entry how long a stage beginning there would be, all at once; and follows these lengths
// from the first entry, one thread, which cuts the list. The stages are then written by all warps, neighbours by the
// same warp. Columns of the last, unfinished stage are carried to the next window.
#include <cuda_runtime.h>

#include "device/cuda_check.h"
#include "device/memory.h"
#include "device/pattern_build.h"
#include "device/stable_sort.h"

namespace triage {

namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kStageThreads = 512;
constexpr int kStageWarps = kStageThreads / kWarp;
constexpr int kWindow = 2048;
constexpr int kColumnsPerThread = kWindow / kStageThreads;
constexpr int kListed = kWindow + kMaxColumnsPerStage;  // a window's union columns and what the last one left
constexpr int kListThreads = 1024;
constexpr int kSortThreads = 256;
constexpr int kQuadraticItems = 16384;  // up to here counting is faster than the radix sort's many launches

static_assert(kColumnsPerThread * kStageThreads == kWindow, "every thread compacts the same number of columns");
static_assert(kColumnsPerThread == 4, "a thread compacts whole runs of 1, 2 or 4 columns");
static_assert(kWindow * kMaxRowsPerGroup < 1 << 16 && kListed < 1 << 16, "two counters share one word in the scan");
static_assert(kMaxRowsPerGroup <= kWarp && kMaxColumnsPerStage <= kWarp, "a lane a row, a lane a column");

struct WindowStorage {
  std::uint32_t mask[kWindow];              // bit r: row r has a block in this column
  std::int32_t column[kListed];             // union columns
  std::uint32_t rows[kListed];              // their masks
  std::int32_t blocks_before[kListed + 1];  // prefix sum of the masks' popcounts
  std::int32_t cut[kListed + 1];            // where stages begin in the list
  std::uint8_t length[kListed];             // columns of a stage that would begin here
  std::int32_t cursor[kMaxRowsPerGroup];    // next block of each row
  std::uint32_t warp_sum[kStageWarps];
  std::int32_t next_column;  // of all rows: where the next window begins
  std::int32_t stage_count;  // cut in this window
};

// Exclusive sum over the CTA, and the total. `warp_sum` holds a word a warp.
template <typename Word>
__device__ Word exclusive_sum(Word value, Word* warp_sum, Word& total) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  Word inclusive = value;
  for (int step = 1; step < kWarp; step *= 2) {
    const Word below = __shfl_up_sync(kAllLanes, inclusive, step);
    if (lane >= step) inclusive += below;
  }
  if (lane == kWarp - 1) warp_sum[warp] = inclusive;
  __syncthreads();
  Word before = 0;
  total = 0;
  for (int w = 0; w < warps; w++) {
    if (w < warp) before += warp_sum[w];
    total += warp_sum[w];
  }
  __syncthreads();  // warp_sum may be used again
  return before + inclusive - value;
}

// First position in [begin, end) of ascending `col` that is not less than `column`.
__device__ std::int32_t lower_bound(const std::int32_t* col, std::int32_t begin, std::int32_t end,
                                    std::int32_t column) {
  while (begin < end) {
    const std::int32_t middle = begin + (end - begin) / 2;
    if (__ldg(col + middle) < column) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

// Marks the rows' blocks in [window, window + kWindow), a warp a row, and moves the cursors.
__device__ void mark_window(WindowStorage& s, const std::int32_t* crow, const std::int32_t* col, int rows,
                            std::int32_t window) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int i = threadIdx.x; i < kWindow; i += kStageThreads) s.mask[i] = 0;
  __syncthreads();
  for (int r = warp; r < rows; r += kStageWarps) {
    const std::int32_t end = crow[r + 1];
    std::int32_t position = s.cursor[r];
    for (;;) {
      const std::int32_t mine = position + lane;
      const std::int64_t offset = mine < end ? std::int64_t{__ldg(col + mine)} - window : kWindow;
      const bool inside = offset < kWindow;
      if (inside) atomicOr(&s.mask[offset], 1u << r);
      const int count = __popc(__ballot_sync(kAllLanes, inside));
      position += count;
      if (count < kWarp) break;
    }
    if (lane == 0) {
      s.cursor[r] = position;
      if (position < end) atomicMin(&s.next_column, __ldg(col + position));
    }
  }
  __syncthreads();
}

// Appends the window's union columns, in whole runs, to the list that holds `listed` already; returns the new length.
__device__ int compact_window(WindowStorage& s, int run, std::int32_t window, int listed) {
  const int first = threadIdx.x * kColumnsPerThread;
  std::uint32_t mine[kColumnsPerThread];
  bool used[kColumnsPerThread];  // in a run with a block
  std::uint32_t counts = 0;      // columns in the upper half, blocks in the lower
  for (int i = 0; i < kColumnsPerThread; i++) mine[i] = s.mask[first + i];
  for (int i = 0; i < kColumnsPerThread; i++) {
    used[i] = false;
    for (int j = 0; j < kColumnsPerThread; j++) used[i] = used[i] || (j / run == i / run && mine[j] != 0);
    if (used[i]) counts += (1u << 16) + __popc(mine[i]);
  }
  std::uint32_t total = 0;
  const std::uint32_t before = exclusive_sum(counts, s.warp_sum, total);
  int at = listed + static_cast<int>(before >> 16);
  std::int32_t blocks = s.blocks_before[listed] + static_cast<std::int32_t>(before & 0xffffu);
  for (int i = 0; i < kColumnsPerThread; i++) {
    if (!used[i]) continue;
    s.column[at] = window + first + i;
    s.rows[at] = mine[i];
    blocks += __popc(mine[i]);
    s.blocks_before[++at] = blocks;
  }
  __syncthreads();
  return listed + static_cast<int>(total >> 16);
}

// Cuts the list into stages. Unless the columns have ended, the last stage may still grow and is left over.
// Stages begin where runs begin.
__device__ void cut_stages(WindowStorage& s, const ScheduleSpec& spec, int listed, bool ended) {
  const int run = spec.column_run;
  for (int i = threadIdx.x; i < listed; i += kStageThreads) {
    const int most = min(spec.columns_per_stage, listed - i);
    const std::int32_t limit = s.blocks_before[i] + spec.blocks_per_stage;
    int length = 0;
    while (length + run <= most && s.blocks_before[i + length + run] <= limit) length += run;
    s.length[i] = static_cast<std::uint8_t>(length);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int begin = 0, stages = 0;
    while (begin < listed) {
      const int end = begin + s.length[begin];
      if (!ended && end == listed) break;
      s.cut[stages++] = begin;
      begin = end;
    }
    s.cut[stages] = begin;
    s.stage_count = stages;
  }
  __syncthreads();
}

// Writes the stage of columns [begin, end) of the list; one warp. Lane r's `next` is row r's first block that no
// earlier stage holds: a row's blocks of a stage are neighbours in its BSR row. Moves `next` past this stage.
__device__ void write_stage(const WindowStorage& s, const ScheduleSpec& spec, int rows, int begin, int end,
                            std::int32_t& next, StageRecord* stage, std::int32_t* block_order) {
  const int lane = threadIdx.x % kWarp;
  const int count = end - begin;
  const std::int32_t first_block = s.blocks_before[begin];
  const std::uint32_t column_rows = lane < count ? s.rows[begin + lane] : 0;
  std::uint32_t row_mask = 0;  // lane r: columns of row r
  for (int r = 0; r < rows; r++) {
    const std::uint32_t columns = __ballot_sync(kAllLanes, column_rows >> r & 1u);
    if (lane == r) row_mask = columns;
  }
  const int row_blocks = __popc(row_mask);
  int inclusive = row_blocks;
  for (int step = 1; step < kWarp; step *= 2) {
    const int below = __shfl_up_sync(kAllLanes, inclusive, step);
    if (lane >= step) inclusive += below;
  }
  const int offset = inclusive - row_blocks;
  const int blocks = __shfl_sync(kAllLanes, inclusive, kWarp - 1);

  for (int i = 0; i < row_blocks; i++) block_order[first_block + offset + i] = next + i;
  next += row_blocks;

  // Lane l writes word l of the record.
  const int rows_per_part = spec.rows_per_group / spec.parts;
  std::uint32_t part_offsets[2] = {0, 0};
  for (int p = 0; p < kMaxParts; p++) {
    const int at = __shfl_sync(kAllLanes, offset, p * rows_per_part % kWarp);
    part_offsets[p / 4] |= static_cast<std::uint32_t>(p < spec.parts ? at : blocks) << (p % 4 * 8);
  }
  const int pair = 2 * (lane - 4);  // words 4-15 hold two row masks each
  const std::uint32_t low = __shfl_sync(kAllLanes, row_mask, pair & 31);
  const std::uint32_t high = __shfl_sync(kAllLanes, row_mask, (pair + 1) & 31);
  std::uint32_t word = low | high << 16;
  if (lane == 0) word = static_cast<std::uint32_t>(count) | static_cast<std::uint32_t>(blocks) << 8;
  if (lane == 1) word = static_cast<std::uint32_t>(first_block);
  if (lane == 2) word = part_offsets[0];
  if (lane == 3) word = part_offsets[1];
  if (lane >= 16) word = static_cast<std::uint32_t>(s.column[begin + min(lane - 16, count - 1)]);
  reinterpret_cast<std::uint32_t*>(stage)[lane] = word;
}

__global__ void __launch_bounds__(kStageThreads)
    build_stages(SchedulePlan plan, const std::int32_t* crow, const std::int32_t* col, ScheduleArrays out,
                 WorkItem* whole_items) {
  __shared__ WindowStorage s;
  const ScheduleSpec spec = plan.spec;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int32_t group = blockIdx.x;
  crow += std::int64_t{group} * spec.rows_per_group;
  const int rows = min(spec.rows_per_group, plan.block_rows - group * spec.rows_per_group);
  const std::int32_t first_block = crow[0];
  const std::int64_t first_stage = plan.first_stage(group, first_block);

  if (threadIdx.x == 0) s.next_column = INT32_MAX;
  __syncthreads();
  if (threadIdx.x < rows) {
    s.cursor[threadIdx.x] = crow[threadIdx.x];
    if (crow[threadIdx.x] < crow[threadIdx.x + 1]) atomicMin(&s.next_column, col[crow[threadIdx.x]]);
  }
  if (threadIdx.x == 0) s.blocks_before[0] = first_block;
  __syncthreads();

  int listed = 0;
  std::int32_t stages = 0;
  bool ended = s.next_column == INT32_MAX;
  while (!ended) {
    const std::int32_t window = s.next_column / spec.column_run * spec.column_run;
    __syncthreads();
    if (threadIdx.x == 0) s.next_column = INT32_MAX;
    mark_window(s, crow, col, rows, window);  // its first barrier orders the line above
    ended = s.next_column == INT32_MAX;
    listed = compact_window(s, spec.column_run, window, listed);
    cut_stages(s, spec, listed, ended);
    const int cut_now = s.stage_count;
    const int first = cut_now * warp / kStageWarps, last = cut_now * (warp + 1) / kStageWarps;
    if (first < last) {
      std::int32_t next = lane < rows ? lower_bound(col, crow[lane], crow[lane + 1], s.column[s.cut[first]]) : 0;
      for (int i = first; i < last; i++) {
        write_stage(s, spec, rows, s.cut[i], s.cut[i + 1], next, out.stages + first_stage + stages + i,
                    out.block_order);
      }
    }
    stages += cut_now;

    // Carry what is left, at most a stage's columns, to the front.
    const int rest = s.cut[cut_now], left = listed - rest;
    std::int32_t column = 0, blocks = 0;
    std::uint32_t column_rows = 0;
    if (threadIdx.x < left) {
      column = s.column[rest + threadIdx.x];
      column_rows = s.rows[rest + threadIdx.x];
    }
    if (threadIdx.x <= left) blocks = s.blocks_before[rest + threadIdx.x];
    __syncthreads();
    if (threadIdx.x < left) {
      s.column[threadIdx.x] = column;
      s.rows[threadIdx.x] = column_rows;
    }
    if (threadIdx.x <= left) s.blocks_before[threadIdx.x] = blocks;
    listed = left;
    __syncthreads();
  }
  if (threadIdx.x == 0) whole_items[group] = {group, static_cast<std::int32_t>(first_stage), stages, -1};
}

// Both lists of items in group order, the splits and the counts; one CTA.
__global__ void __launch_bounds__(kListThreads)
    split_groups(SchedulePlan plan, std::int32_t max_split_slots, const WorkItem* whole_items, WorkItem* split_items,
                 ScheduleArrays out) {
  __shared__ std::int64_t warp_sum[kListThreads / kWarp];
  __shared__ std::int32_t longest, used_slots, used_splits;
  if (threadIdx.x == 0) longest = used_slots = used_splits = 0;
  __syncthreads();
  std::int64_t my_stages = 0, total_stages = 0;
  std::int32_t my_longest = 0;
  for (std::int32_t g = threadIdx.x; g < plan.group_count; g += kListThreads) {
    my_stages += whole_items[g].stage_count;
    my_longest = max(my_longest, whole_items[g].stage_count);
  }
  atomicMax(&longest, my_longest);
  exclusive_sum(my_stages, warp_sum, total_stages);
  const std::int64_t limit = split_limit(total_stages, plan.group_count, plan.multiprocessors);

  std::int64_t base = 0;  // of the groups before this round: pieces wanted in the lower half, groups in the upper
  for (std::int32_t first = 0; first < plan.group_count; first += kListThreads) {
    const std::int32_t g = first + static_cast<std::int32_t>(threadIdx.x);
    const bool exists = g < plan.group_count;
    const WorkItem item = exists ? whole_items[g] : WorkItem{};
    const auto pieces = static_cast<std::int32_t>((item.stage_count + limit - 1) / limit);
    std::int64_t total = 0;
    const std::int64_t before =
        base + exclusive_sum(pieces >= 2 ? (std::int64_t{1} << 32) + pieces : std::int64_t{0}, warp_sum, total);
    base += total;
    const auto slots_before = static_cast<std::int32_t>(before & 0xffffffff);
    const auto splits_before = static_cast<std::int32_t>(before >> 32);
    const bool split = pieces >= 2 && slots_before + pieces <= max_split_slots;
    if (split) {
      out.splits[splits_before] = {g, slots_before, pieces};
      atomicMax(&used_slots, slots_before + pieces);
      atomicMax(&used_splits, splits_before + 1);
    }
    __syncthreads();
    // While the slots suffice, every group that wanted to be split was.
    const bool all_split_before = slots_before <= max_split_slots;
    WorkItem* to = split_items + g + (all_split_before ? slots_before - splits_before : used_slots - used_splits);
    if (split) {
      for (std::int32_t k = 0; k < pieces; k++) {
        const auto begin = static_cast<std::int32_t>(std::int64_t{item.stage_count} * k / pieces);
        const auto end = static_cast<std::int32_t>(std::int64_t{item.stage_count} * (k + 1) / pieces);
        to[k] = {g, item.stage_begin + begin, end - begin, slots_before + k};
      }
    } else if (exists) {
      *to = item;
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    *out.counts = {plan.group_count, plan.group_count + used_slots - used_splits, used_splits, used_slots,
                   longest,          static_cast<std::int32_t>(total_stages)};
  }
}

// Stable sort by falling stage count. blockIdx.y: 0 whole groups, 1 split ones.
__global__ void __launch_bounds__(kSortThreads)
    sort_items(const WorkItem* whole_items, const WorkItem* split_items, ScheduleArrays out) {
  __shared__ std::int32_t tile[kSortThreads];
  const bool split = blockIdx.y == 1;
  const WorkItem* from = split ? split_items : whole_items;
  WorkItem* to = split ? out.split_items : out.items;
  const std::int32_t count = split ? out.counts->split_item_count : out.counts->item_count;
  const auto block_begin = static_cast<std::int32_t>(blockIdx.x * kSortThreads);
  if (block_begin >= count) return;
  const std::int32_t mine = block_begin + static_cast<std::int32_t>(threadIdx.x);
  const WorkItem item = mine < count ? from[mine] : WorkItem{};

  std::int32_t place = 0;
  for (std::int32_t first = 0; first < count; first += kSortThreads) {
    __syncthreads();
    const std::int32_t other = first + static_cast<std::int32_t>(threadIdx.x);
    tile[threadIdx.x] = other < count ? from[other].stage_count : -1;
    __syncthreads();
    for (int i = 0; i < kSortThreads; i++) {
      place += tile[i] > item.stage_count || (tile[i] == item.stage_count && first + i < mine);
    }
  }
  if (mine < count) to[place] = item;
}

// For the radix sort of long lists: the longer the item, the smaller its key. What is past the list sorts to its end.
__global__ void __launch_bounds__(kSortThreads)
    make_keys(const WorkItem* items, const std::int32_t* count, std::int32_t capacity, std::int32_t* keys,
              std::int32_t* numbers) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kSortThreads + threadIdx.x;
  if (i >= capacity) return;
  keys[i] = i < *count ? INT32_MAX - items[i].stage_count : INT32_MAX;
  numbers[i] = static_cast<std::int32_t>(i);
}

__global__ void __launch_bounds__(kSortThreads)
    take_items(const WorkItem* items, const std::int32_t* numbers, const std::int32_t* count, WorkItem* sorted) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kSortThreads + threadIdx.x;
  if (i < *count) sorted[i] = items[numbers[i]];
}

unsigned sort_blocks(std::int64_t items) { return static_cast<unsigned>((items + kSortThreads - 1) / kSortThreads); }

// The builder's scratch memory: both lists before sorting, and what the radix sort of a long list needs.
struct Scratch {
  WorkItem *whole_items, *split_items;
  std::int32_t *keys, *sorted_keys, *numbers, *sorted_numbers;
  char* sort;
  std::size_t sort_bytes, bytes;

  Scratch(const SchedulePlan& plan, void* memory) {
    const std::int32_t most = plan.group_count + plan.split_slot_capacity;
    const std::int32_t radix_sorted = plan.group_count > kQuadraticItems ? most : 0;
    sort_bytes = radix_sorted > 0 ? stable_sort_cuda_scratch_bytes(radix_sorted) : 0;
    Carver carver(memory);
    whole_items = carver.take<WorkItem>(plan.group_count);
    split_items = carver.take<WorkItem>(most);
    keys = carver.take<std::int32_t>(radix_sorted);
    sorted_keys = carver.take<std::int32_t>(radix_sorted);
    numbers = carver.take<std::int32_t>(radix_sorted);
    sorted_numbers = carver.take<std::int32_t>(radix_sorted);
    sort = carver.take<char>(static_cast<std::int64_t>(sort_bytes));
    bytes = carver.bytes();
  }
};

void sort_long_list(const Scratch& scratch, const WorkItem* from, WorkItem* to, const std::int32_t* count,
                    std::int32_t capacity, cudaStream_t stream) {
  make_keys<<<sort_blocks(capacity), kSortThreads, 0, stream>>>(from, count, capacity, scratch.keys, scratch.numbers);
  cuda_check(cudaGetLastError(), "launch of make_keys");
  stable_sort_cuda(scratch.keys, scratch.sorted_keys, scratch.numbers, scratch.sorted_numbers, capacity, 31,
                   scratch.sort, scratch.sort_bytes, stream);
  take_items<<<sort_blocks(capacity), kSortThreads, 0, stream>>>(from, scratch.sorted_numbers, count, to);
  cuda_check(cudaGetLastError(), "launch of take_items");
}

}  // namespace

std::size_t build_schedule_cuda_scratch_bytes(const SchedulePlan& plan) { return Scratch(plan, nullptr).bytes; }

void build_schedule_cuda(const SchedulePlan& plan, const std::int32_t* crow, const std::int32_t* col,
                         std::int32_t max_split_slots, const ScheduleArrays& arrays, void* scratch_memory,
                         void* stream) {
  if (plan.group_count == 0) return;  // the counts are zero since the memory was allocated
  const auto on = static_cast<cudaStream_t>(stream);
  const Scratch scratch(plan, scratch_memory);
  const std::int32_t slots = max_split_slots < plan.split_slot_capacity ? max_split_slots : plan.split_slot_capacity;
  const std::int32_t most = plan.group_count + slots;
  build_stages<<<plan.group_count, kStageThreads, 0, on>>>(plan, crow, col, arrays, scratch.whole_items);
  cuda_check(cudaGetLastError(), "launch of build_stages");
  split_groups<<<1, kListThreads, 0, on>>>(plan, slots, scratch.whole_items, scratch.split_items, arrays);
  cuda_check(cudaGetLastError(), "launch of split_groups");
  if (plan.group_count <= kQuadraticItems) {
    sort_items<<<dim3(sort_blocks(most), 2), kSortThreads, 0, on>>>(scratch.whole_items, scratch.split_items, arrays);
    cuda_check(cudaGetLastError(), "launch of sort_items");
    return;
  }
  sort_long_list(scratch, scratch.whole_items, arrays.items, &arrays.counts->item_count, plan.group_count, on);
  sort_long_list(scratch, scratch.split_items, arrays.split_items, &arrays.counts->split_item_count, most, on);
}

}  // namespace triage
