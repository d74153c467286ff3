#include "verdict/attention_cases.h"

#include <algorithm>
#include <cmath>

#include "verdict/correctness_cases.h"

namespace triage::verdict {
namespace {

constexpr KeyStore kStores[] = {KeyStore::dense, KeyStore::packed, KeyStore::cache, KeyStore::paged};
constexpr HeadOrder kOrders[] = {HeadOrder::bshd, HeadOrder::bhsd, HeadOrder::sbhd};
constexpr int kPageSizes[] = {16, 32, 64, 128, 256};

/// Collects problems of one dtype; every problem gets a seed of its own.
class Grid {
 public:
  Grid(DType dtype, std::uint64_t seed) : dtype_(dtype), random_(seed) {}

  AttentionSpec base(std::int64_t seqlen_q, std::int64_t seqlen_k, int head_dim = 64) {
    AttentionSpec spec;
    spec.dtype = dtype_;
    spec.batch = 1;
    spec.heads = spec.kv_heads = 2;
    spec.seqlen_q = seqlen_q;
    spec.seqlen_k = seqlen_k;
    spec.head_dim = spec.head_dim_v = head_dim;
    spec.seed = random_.bits() >> 1;
    return spec;
  }

  void add(AttentionSpec spec) { specs_.push_back(std::move(spec)); }
  Random& random() { return random_; }
  std::vector<AttentionSpec> take() { return std::move(specs_); }

 private:
  DType dtype_;
  Random random_;
  std::vector<AttentionSpec> specs_;
};

void add_head_dims(Grid& grid) {
  for (int dim = 8; dim <= kMaxHeadDim; dim += 8) {
    AttentionSpec spec = grid.base(37 + dim % 48, 90 + dim % 80, dim);
    spec.causal = dim % 16 == 0;
    grid.add(spec);
  }
  const int pairs[][2] = {{192, 128}, {64, 256},  {256, 64}, {8, 256}, {256, 8},
                          {72, 40},   {128, 192}, {64, 128}, {128, 64}};
  for (const auto& [dim, dim_v] : pairs) {
    AttentionSpec spec = grid.base(70, 131, dim);
    spec.head_dim_v = dim_v;
    spec.causal = dim > dim_v;
    grid.add(spec);
  }
}

void add_lengths(Grid& grid) {
  const std::int64_t edges[] = {1,   2,   15,  16,  17,  31,  32,  33,  63,  64,  65,  79,  80,  81,  95,  96,  97, 111,
                                112, 113, 127, 128, 129, 159, 160, 161, 175, 176, 177, 191, 192, 193, 255, 256, 257};
  for (const int dim : {64, 128, 256}) {
    for (std::size_t i = 0; i < std::size(edges); ++i) {
      // All edges of the one length meet all of the other over the head dimensions, not for each.
      AttentionSpec spec = grid.base(edges[i], edges[(i * 11 + static_cast<std::size_t>(dim)) % std::size(edges)], dim);
      spec.causal = i % 2 == 0;
      spec.heads = spec.kv_heads = 1;
      grid.add(spec);
    }
  }
  for (const auto& [q, k] : {std::pair{0, 5}, {5, 0}, {1, 1}, {3, 700}, {700, 3}, {520, 520}, {1, 2000}}) {
    for (const bool causal : {false, true}) {
      AttentionSpec spec = grid.base(q, k);
      spec.causal = causal;
      spec.sinks = q == 5;
      grid.add(spec);
    }
  }
}

void add_masks(Grid& grid) {
  const std::int64_t windows[][2] = {{0, 0},  {0, -1}, {-1, 0},  {1, 0},   {0, 1},   {1, 1},    {5, 3},      {-1, 7},
                                     {7, -1}, {63, 0}, {64, 64}, {127, 0}, {128, 1}, {200, -1}, {1000, 1000}};
  for (const auto& [left, right] : windows) {
    for (const auto& [q, k] : {std::pair{150, 150}, {90, 260}, {260, 90}}) {
      AttentionSpec spec = grid.base(q, k);
      spec.window_left = left;
      spec.window_right = right;
      spec.causal = left % 2 == 1 && right > 0;
      grid.add(spec);
    }
  }
  for (const float cap : {1.0f, 15.0f, 50.0f}) {
    for (const bool causal : {false, true}) {
      AttentionSpec spec = grid.base(100, 140, cap == 15 ? 128 : 64);
      spec.softcap = cap;
      spec.softmax_scale = cap == 50 ? 2.0f : 0.0f;
      spec.causal = causal;
      grid.add(spec);
    }
  }
}

void add_heads(Grid& grid) {
  for (std::int64_t group = 1; group <= 16; ++group) {
    for (const std::int64_t seqlen_q : {1, 3, 70}) {
      AttentionSpec spec = grid.base(seqlen_q, 150, group % 2 == 0 ? 128 : 64);
      spec.batch = 2;
      spec.kv_heads = group <= 8 ? 2 : 1;
      spec.heads = group * spec.kv_heads;
      spec.causal = group % 3 == 0;
      grid.add(spec);
    }
  }
}

void add_stores(Grid& grid) {
  const std::vector<std::int64_t> lengths{70, 0, 1, 129, 33}, more{0, 17, 200, 128, 64};
  for (const KeyStore store : kStores) {
    for (const int page : kPageSizes) {
      if (store != KeyStore::paged && page != 16) continue;
      for (const bool packed_q : {false, true}) {
        for (const bool masked : {false, true}) {
          if (store == KeyStore::dense && !packed_q) continue;
          AttentionSpec spec = grid.base(packed_q ? 0 : 40, store == KeyStore::dense ? 90 : 210, page == 64 ? 128 : 64);
          spec.batch = 5;
          spec.heads = 4;
          if (packed_q) spec.q_lengths = lengths;
          spec.keys = store;
          spec.page_size = page;
          if (store != KeyStore::dense) spec.k_lengths = more;
          spec.causal = masked;
          spec.sinks = masked == packed_q;
          grid.add(spec);
          if (!masked) continue;
          spec.window_left = 20;
          spec.softcap = 30;
          grid.add(spec);
        }
      }
    }
  }
}

/// Split counts 0 (the kernel chooses) to 32: all of them if `thorough`.
void add_decoding(Grid& grid, bool thorough) {
  for (int splits = 0; splits <= 32; splits += thorough || splits < 8 ? 1 : 6) {
    for (const KeyStore store : {KeyStore::dense, KeyStore::paged}) {
      AttentionSpec spec = grid.base(1 + splits % 5, 1100, splits % 2 == 0 ? 128 : 64);
      spec.batch = 3;
      spec.heads = 8;
      spec.kv_heads = 1 + splits % 2;
      spec.num_splits = splits;
      spec.causal = splits % 3 == 0;
      spec.sinks = splits % 4 == 0;
      spec.keys = store;
      if (store == KeyStore::paged) spec.k_lengths = {1100, 0, 313}, spec.page_size = kPageSizes[splits % 5];
      grid.add(spec);
    }
  }
}

/// Block-sparse masks: sizes of blocks, ragged lengths, whose masks they are, full blocks and bit masks under windows,
/// empty rows, long rows of bits. Kernels whose tiles are larger than a block meet every mixture.
void add_patterns(Grid& grid, bool thorough) {
  const auto add = [&](std::int64_t q, std::int64_t k, int head_dim, int block_q, int block_k, const auto& change) {
    AttentionSpec spec = grid.base(q, k, head_dim);
    spec.pattern.block_q = block_q;
    spec.pattern.block_k = block_k;
    spec.pattern.heads = spec.heads;
    change(spec);
    grid.add(spec);
  };
  const int blocks[][2] = {{64, 64}, {64, 128}, {128, 64}, {128, 128}};
  int number = 0;
  for (const auto& [block_q, block_k] : blocks) {
    for (const auto& [q, k] : {std::pair{256, 256}, {333, 470}, {470, 333}, {64, 129}, {1, 300}, {300, 1}}) {
      for (const int dim : {64, 128, 256}) {
        if (!thorough && dim != 64) continue;
        add(q, k, dim, block_q, block_k, [&](AttentionSpec& s) {
          s.causal = ++number % 2 == 0;
          s.pattern.full = 0.5 * (number % 3);
          s.pattern.elements = number % 5 < 3 ? 0.5 : 0;
          s.sinks = number % 7 == 0;
        });
      }
    }
    for (const double density : {0.0, 0.1, 0.3, 1.0}) {
      for (const std::int64_t pattern_heads : {1, 2, 6}) {
        add(260, 390, density == 0.3 ? 128 : 64, block_q, block_k, [&](AttentionSpec& s) {
          s.batch = 2;
          s.heads = 6, s.kv_heads = 2;
          s.pattern.heads = pattern_heads;
          s.pattern.batch = ++number % 2 == 0 ? 2 : 1;
          s.pattern.density = density;
          s.pattern.full = 0.3;
          s.pattern.elements = number % 3 == 0 ? 0.6 : 0;
          if (number % 4 == 1) s.window_left = 70, s.window_right = number % 8 == 1 ? 20 : -1;
          s.causal = number % 4 == 2;
          s.softcap = number % 5 == 0 ? 20.0f : 0.0f;
          s.sinks = number % 6 == 0;
        });
      }
    }
    for (const bool packed_k : {false, true}) {
      for (const bool packed_q : {false, true}) {
        add(210, 330, 64, block_q, block_k, [&](AttentionSpec& s) {
          s.batch = 5;
          s.heads = 4;
          if (packed_q) s.q_lengths = {150, 0, 1, 129, 333}, s.seqlen_q = 0;
          if (packed_k) s.keys = KeyStore::packed, s.k_lengths = {0, 17, 200, 390, 64};
          s.pattern.batch = packed_q == packed_k ? 5 : 1;
          s.pattern.heads = packed_q ? 2 : 4;
          s.pattern.full = 0.4;
          s.pattern.elements = 0.3;
          s.causal = packed_q;
        });
      }
    }
    for (const auto kind : {bench::PatternKind::uniform, bench::PatternKind::window_and_full_rows,
                            bench::PatternKind::power_law}) {
      add(1100, 1290, 64, block_q, block_k, [&](AttentionSpec& s) {
        s.pattern.kind = kind;
        s.pattern.density = 0.15;
        s.heads = s.kv_heads = s.pattern.heads = 1;
      });
    }
  }
  // More than 32 blocks of 64 on either side: rows of bits of more than one word.
  for (const auto& [q, k] : {std::pair{70, 4500}, {4500, 70}, {2200, 2200}}) {
    add(q, k, 64, 64, q == k ? 128 : 64, [&](AttentionSpec& s) {
      s.heads = s.kv_heads = s.pattern.heads = 1;
      s.pattern.density = 0.1;
      s.pattern.full = 0.2;
      s.causal = q == k;
    });
  }
  for (const int dim : {8, 40, 72, 96, 192}) {
    if (!thorough && dim != 40) continue;
    add(200, 200, dim, 64, 64, [&](AttentionSpec& s) {
      if (dim == 192) s.head_dim_v = 128;
      s.causal = true;
      s.pattern.full = 0.5;
      s.pattern.elements = 0.5;
    });
  }
}

void add_memory_layouts(Grid& grid) {
  for (const HeadOrder order : kOrders) {
    for (const std::int64_t extra : {0, 8, 3}) {
      for (const std::int64_t offset : {0, 8, 1}) {
        AttentionSpec spec = grid.base(45, 77);
        spec.batch = 3;
        spec.order = order;
        spec.extra_stride = extra;
        spec.offset = offset;
        spec.padding = order == HeadOrder::sbhd ? 0 : 2;
        spec.causal = offset == 8;
        grid.add(spec);
      }
    }
  }
}

void add_value_kinds(Grid& grid) {
  for (const ValueKind kind : {ValueKind::centred, ValueKind::positive, ValueKind::wide, ValueKind::integers}) {
    for (const float scale : {0.0f, 1e-3f, 2.0f}) {
      AttentionSpec spec = grid.base(66, 130, 128);
      spec.values = kind;
      spec.softmax_scale = scale;
      spec.causal = scale == 2.0f;
      grid.add(spec);
    }
  }
  AttentionSpec large = grid.base(66, 130);  // logits up to about 1e4
  large.softmax_scale = 300;
  grid.add(large);
  large.causal = large.sinks = true;
  grid.add(large);
  AttentionSpec mean = grid.base(64, 64);
  mean.zero_queries = true;
  mean.values = ValueKind::integers;
  mean.causal = true;
  grid.add(mean);
}

/// Makes it block-sparse, and longer where it would be of a block or two.
void draw_pattern(AttentionSpec& spec, Random& random, std::int64_t max_length) {
  const std::int64_t longer = random.integer(1, std::max<std::int64_t>(1, 384 / max_length));
  spec.seqlen_q *= longer, spec.seqlen_k *= longer;
  for (auto* lengths : {&spec.q_lengths, &spec.k_lengths})
    for (std::int64_t& length : *lengths) length *= longer;
  if (spec.keys == KeyStore::cache || spec.keys == KeyStore::paged) spec.keys = KeyStore::packed;
  spec.num_splits = 0;
  PatternSpec& pattern = spec.pattern;
  pattern.block_q = random.chance(0.5) ? 64 : 128;
  pattern.block_k = random.chance(0.5) ? 64 : 128;
  pattern.kind = static_cast<bench::PatternKind>(random.integer(0, 3));
  pattern.density = random.uniform();
  pattern.full = random.chance(0.5) ? random.uniform() : 0;
  pattern.elements = random.chance(0.4) ? random.uniform() : 0;
  pattern.batch = random.chance(0.5) ? spec.batch : 1;
  pattern.heads = random.chance(0.3) ? 1 : random.chance(0.5) ? spec.kv_heads : spec.heads;
}

}  // namespace

std::vector<AttentionSpec> attention_edge_cases(DType dtype, std::uint64_t seed, bool thorough) {
  Grid grid(dtype, seed);
  add_value_kinds(grid);
  add_memory_layouts(grid);
  add_masks(grid);
  add_stores(grid);
  add_decoding(grid, thorough);
  add_patterns(grid, thorough);
  add_head_dims(grid);
  if (thorough) add_heads(grid);
  if (thorough) add_lengths(grid);
  return grid.take();
}

std::vector<AttentionSpec> attention_random_cases(DType dtype, int count, std::uint64_t seed, std::int64_t max_length) {
  Grid grid(dtype, seed);
  Random& random = grid.random();
  // Short sequences are as likely as long ones.
  const auto length = [&] {
    if (random.chance(0.05)) return std::int64_t{0};
    return static_cast<std::int64_t>(std::exp(random.uniform() * std::log(static_cast<double>(max_length)))) + 1;
  };
  for (int i = 0; i < count; ++i) {
    AttentionSpec spec = grid.base(length(), length(), static_cast<int>(8 * random.integer(1, 32)));
    if (random.chance(0.5)) spec.head_dim = static_cast<int>(64 * random.integer(1, 4));
    spec.head_dim_v = random.chance(0.7) ? spec.head_dim : static_cast<int>(8 * random.integer(1, 32));
    spec.batch = random.integer(1, 4);
    spec.kv_heads = random.integer(1, 3);
    spec.heads = spec.kv_heads * random.integer(1, random.chance(0.3) ? 16 : 3);
    spec.keys = kStores[random.integer(0, 3)];
    spec.page_size = kPageSizes[random.integer(0, 4)];
    if (random.chance(0.4)) {
      for (std::int64_t b = 0; b < spec.batch; ++b) spec.q_lengths.push_back(length());
      spec.seqlen_q = 0;
    }
    if (spec.keys != KeyStore::dense) {
      for (std::int64_t b = 0; b < spec.batch; ++b)
        spec.k_lengths.push_back(spec.keys == KeyStore::packed ? length() : random.integer(0, spec.seqlen_k));
    }
    spec.causal = random.chance(0.4);
    if (random.chance(0.3)) spec.window_left = random.integer(-1, 80);
    if (random.chance(0.2)) spec.window_right = random.integer(-1, 80);
    if (random.chance(0.2)) spec.softcap = static_cast<float>(random.integer(1, 60));
    if (random.chance(0.2)) spec.softmax_scale = static_cast<float>(random.uniform() + 0.01);
    spec.sinks = random.chance(0.2);
    spec.lse = random.chance(0.8);
    spec.num_splits = random.chance(0.3) ? static_cast<int>(random.integer(1, 32)) : 0;
    spec.order = kOrders[random.integer(0, 2)];
    if (spec.order != HeadOrder::sbhd) spec.padding = random.chance(0.3) ? random.integer(1, 5) : 0;
    spec.extra_stride = random.chance(0.3) ? 8 * random.integer(1, 8) : random.chance(0.1) ? random.integer(1, 9) : 0;
    spec.offset = random.chance(0.1) ? 8 * random.integer(1, 4) : 0;
    spec.values = random.chance(0.7) ? ValueKind::centred : static_cast<ValueKind>(random.integer(0, 3));
    if (random.chance(0.25)) draw_pattern(spec, random, max_length);
    grid.add(spec);
  }
  return grid.take();
}

namespace {

std::vector<AttentionBackwardSpec> backward_of(const std::vector<AttentionSpec>& specs) {
  std::vector<AttentionBackwardSpec> backward;
  for (const AttentionSpec& forward : specs) {
    if (forward.keys == KeyStore::cache || forward.keys == KeyStore::paged) continue;
    AttentionBackwardSpec spec;
    static_cast<AttentionSpec&>(spec) = forward;
    spec.num_splits = 0;
    spec.lse = true;
    // By the seed, so that a problem can be made again from it alone.
    const std::uint64_t bits = random_bits(forward.seed, 300);
    spec.d_lse = bits % 3 == 0;
    spec.d_q = bits / 3 % 8 != 5;
    spec.d_k = bits / 3 % 8 != 6;
    spec.d_v = bits / 3 % 8 != 7;
    spec.deterministic = bits / 24 % 2 != 0;
    backward.push_back(spec);
  }
  return backward;
}

template <class Spec, class Edge, class Random>
std::vector<Spec> cases_of_kernel(const KernelReport& kernel, std::uint64_t seed, const Edge& edge,
                                  const Random& at_random) {
  std::vector<Spec> all;
  for (const std::string& name : kernel.dtypes) {
    const DType dtype = dtype_from_name(name);
    const std::uint64_t own = random_bits(seed, static_cast<std::uint64_t>(dtype));
    for (auto& spec : edge(dtype, own)) all.push_back(std::move(spec));
    for (auto& spec : at_random(dtype, own + 1)) all.push_back(std::move(spec));
  }
  return all;
}

}  // namespace

std::vector<AttentionBackwardSpec> attention_backward_edge_cases(DType dtype, std::uint64_t seed, bool thorough) {
  return backward_of(attention_edge_cases(dtype, seed, thorough));
}

std::vector<AttentionBackwardSpec> attention_backward_random_cases(DType dtype, int count, std::uint64_t seed,
                                                                   std::int64_t max_length) {
  std::vector<AttentionSpec> specs = attention_random_cases(dtype, count, seed, max_length);
  for (AttentionSpec& spec : specs) {  // a cache becomes packed sequences
    if (spec.keys == KeyStore::cache || spec.keys == KeyStore::paged) spec.keys = KeyStore::packed;
  }
  return backward_of(specs);
}

std::vector<AttentionSpec> attention_cases_of_kernel(const KernelReport& kernel, int random_count, std::uint64_t seed) {
  return cases_of_kernel<AttentionSpec>(
      kernel, seed, [](DType dtype, std::uint64_t own) { return attention_edge_cases(dtype, own); },
      [&](DType dtype, std::uint64_t own) { return attention_random_cases(dtype, random_count, own); });
}

std::vector<AttentionBackwardSpec> attention_backward_cases_of_kernel(const KernelReport& kernel, int random_count,
                                                                      std::uint64_t seed) {
  return cases_of_kernel<AttentionBackwardSpec>(
      kernel, seed, [](DType dtype, std::uint64_t own) { return attention_backward_edge_cases(dtype, own); },
      [&](DType dtype, std::uint64_t own) { return attention_backward_random_cases(dtype, random_count, own); });
}

AttentionCheckOptions attention_check_options(const AttentionSpec& spec) {
  AttentionCheckOptions options;
  options.operations = 3e7;
  options.seed = spec.seed;
  return options;
}

}  // namespace triage::verdict
