#include "bench/attention_shapes.h"

#include <fmt/format.h>

#include <algorithm>

namespace triage::bench {
namespace {

AttentionShape base(const char* name, const char* dtype, std::int64_t batch, std::int64_t heads, std::int64_t seqlen,
                    int head_dim, bool causal) {
  AttentionShape shape;
  shape.name = name;
  shape.dtype = dtype;
  shape.batch = batch;
  shape.heads = shape.kv_heads = heads;
  shape.seqlen_q = shape.seqlen_k = seqlen;
  shape.head_dim = shape.head_dim_v = head_dim;
  shape.causal = causal;
  return shape;
}

/// The shapes that attention's papers quote: 16384 tokens in all, heads * head_dim = 2048.
void add_prefill(std::vector<AttentionShape>& shapes) {
  constexpr std::int64_t kTokens = 16384, kWidth = 2048;
  for (const int head_dim : {128, 64, 256}) {
    for (const std::int64_t seqlen : {512, 1024, 2048, 4096, 8192, 16384}) {
      for (const bool causal : {false, true}) {
        AttentionShape shape =
            base("prefill", "bfloat16", kTokens / seqlen, kWidth / head_dim, seqlen, head_dim, causal);
        shape.quick = head_dim != 256 && seqlen == 4096;
        shapes.push_back(shape);
        if (seqlen != 4096) continue;
        shape.dtype = "float16";
        shape.quick = false;
        shapes.push_back(shape);
      }
    }
  }
}

/// Each option on one prefill, to be read beside it; then other head dimensions.
void add_options(std::vector<AttentionShape>& shapes) {
  const AttentionShape plain = base("prefill", "bfloat16", 4, 16, 4096, 128, true);
  const auto add = [&](const char* name, const auto& change) {
    AttentionShape shape = plain;
    shape.name = name;
    change(shape);
    shapes.push_back(shape);
  };
  add("gqa", [](AttentionShape& s) { s.kv_heads = 4; });
  add("window", [](AttentionShape& s) { s.window_left = 1024; });
  add("softcap", [](AttentionShape& s) { s.softcap = 30; });
  add("sinks", [](AttentionShape& s) { s.sinks = true; });
  add("varlen", [](AttentionShape& s) { s.varlen = true; });
  add("paged", [](AttentionShape& s) { s.page_size = 64; });
  add("all-options", [](AttentionShape& s) {
    s.kv_heads = 4;
    s.window_left = 1024;
    s.softcap = 30;
    s.sinks = true;
    s.varlen = true;
  });
  add("head-dims", [](AttentionShape& s) { s.head_dim = 192; });
  add("head-dims", [](AttentionShape& s) { s.head_dim = s.head_dim_v = 96; });
  add("head-dims", [](AttentionShape& s) { s.head_dim = s.head_dim_v = 192; });
}

/// A few queries against a long cache, GQA 8: bound by memory.
void add_decoding(std::vector<AttentionShape>& shapes) {
  const auto add = [&](std::int64_t batch, std::int64_t cache, std::int64_t queries, int page) {
    AttentionShape shape = base("decode", "bfloat16", batch, 32, queries, 128, queries > 1);
    shape.kv_heads = 4;
    shape.seqlen_k = cache;
    shape.page_size = page;
    shape.quick = batch == 16 && cache == 8192;
    shapes.push_back(shape);
  };
  for (const std::int64_t batch : {1, 16, 64}) add(batch, 8192, 1, 0);
  for (const std::int64_t batch : {1, 16}) add(batch, 32768, 1, 0);
  add(1, 131072, 1, 0);
  add(4, 131072, 1, 0);
  add(16, 8192, 1, 64);
  add(16, 8192, 1, 16);
  add(16, 8192, 8, 0);
}

/// 16384 tokens, heads * head_dim = 2048, a mask a head. The rates are of attended blocks.
void add_block_sparse(std::vector<AttentionShape>& shapes) {
  for (const int head_dim : {128, 64}) {
    for (const int block : {128, 64}) {
      AttentionShape shape = base("block-sparse", "bfloat16", 1, 2048 / head_dim, 16384, head_dim, false);
      shape.block = block;
      for (const double density : {0.25, 0.10, 0.05}) {
        shape.density = density;
        shape.quick = head_dim == 128 && density == 0.10;
        shapes.push_back(shape);
      }
      if (head_dim != 128) continue;
      shape.density = 0.10;
      shape.quick = false;
      for (const PatternKind kind : {PatternKind::window_and_full_rows, PatternKind::power_law}) {
        shape.pattern = kind;
        shapes.push_back(shape);
      }
    }
  }
}

void add_cpu(std::vector<AttentionShape>& shapes) {
  for (const std::int64_t seqlen : {512, 2048}) {
    for (const int head_dim : {64, 128}) {
      for (const bool causal : {false, true}) {
        AttentionShape shape = base("prefill", "float32", 1, 512 / head_dim, seqlen, head_dim, causal);
        shape.quick = seqlen == 512 && head_dim == 64;
        shapes.push_back(shape);
      }
    }
  }
  for (const char* dtype : {"float16", "bfloat16", "float64"})
    shapes.push_back(base("prefill", dtype, 1, 8, 1024, 64, true));
  AttentionShape gqa = base("gqa", "float32", 1, 8, 1024, 64, true);
  gqa.kv_heads = 2;
  gqa.window_left = 256;
  shapes.push_back(gqa);
  AttentionShape decode = base("decode", "float32", 4, 8, 1, 64, false);
  decode.kv_heads = 2;
  decode.seqlen_k = 8192;
  shapes.push_back(decode);
  decode.page_size = 64;
  shapes.push_back(decode);
  for (const int block : {128, 64}) {
    AttentionShape sparse = base("block-sparse", "float32", 1, 8, 2048, 64, false);
    sparse.block = block;
    for (const double density : {0.5, 0.25, 0.125}) {
      sparse.density = density;
      sparse.quick = density == 0.125;
      shapes.push_back(sparse);
    }
    sparse.quick = false;
    sparse.pattern = PatternKind::power_law;
    shapes.push_back(sparse);
  }
}

}  // namespace

std::string AttentionShape::label() const {
  std::string text = fmt::format("{} d{}", name, head_dim);
  if (head_dim_v != head_dim) text += fmt::format("/{}", head_dim_v);
  text += fmt::format(" b{}", batch);
  text += seqlen_q == seqlen_k ? fmt::format(" s{}", seqlen_q) : fmt::format(" q{} k{}", seqlen_q, seqlen_k);
  if (kv_heads != heads) text += fmt::format(" h{}/{}", heads, kv_heads);
  if (causal) text += " causal";
  if (window_left >= 0 || window_right >= 0) text += fmt::format(" w{}/{}", window_left, window_right);
  if (softcap > 0) text += " softcap";
  if (sinks) text += " sinks";
  if (varlen) text += " varlen";
  if (page_size > 0) text += fmt::format(" pages{}", page_size);
  if (any_order) text += " any-order";
  if (block > 0) {
    text += fmt::format(" {}x{} {} {:.3g}% attended", block, block, pattern_kind_name(pattern), 100 * density);
  }
  return text;
}

AttentionShape AttentionShape::in_any_order() const {
  AttentionShape shape = *this;
  shape.any_order = true;
  return shape;
}

std::int64_t AttentionShape::total_q() const {
  std::int64_t total = 0;
  for (std::int64_t b = 0; b < batch; ++b) total += q_length(b);
  return total;
}

std::int64_t AttentionShape::total_k() const {
  std::int64_t total = 0;
  for (std::int64_t b = 0; b < batch; ++b) total += k_length(b);
  return total;
}

double AttentionShape::attended_pairs() const {
  double pairs = 0;
  if (block > 0) {
    const std::int64_t rows = (seqlen_q + block - 1) / block, cols = (seqlen_k + block - 1) / block;
    const std::vector<std::uint8_t> blocks = random_blocks(pattern, density, heads, rows, cols, kPatternSeed);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i] == 0) continue;
      const std::int64_t col = static_cast<std::int64_t>(i) % cols, row = static_cast<std::int64_t>(i) / cols % rows;
      pairs += static_cast<double>(std::min<std::int64_t>(block, seqlen_q - row * block)) *
               static_cast<double>(std::min<std::int64_t>(block, seqlen_k - col * block));
    }
    return pairs * static_cast<double>(batch) / static_cast<double>(heads);
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t lq = q_length(b), lk = k_length(b);
    const std::int64_t right = causal ? 0 : window_right;
    if (window_left < 0 && right < 0) {
      pairs += static_cast<double>(lq) * static_cast<double>(lk);
    } else if (causal && window_left < 0 && lq == lk) {
      pairs += static_cast<double>(lq) * static_cast<double>(lk) / 2;
    } else {
      for (std::int64_t i = 0; i < lq; ++i) {
        const std::int64_t diagonal = i + lk - lq;
        const std::int64_t begin = window_left < 0 ? 0 : std::max<std::int64_t>(0, diagonal - window_left);
        const std::int64_t end = right < 0 ? lk : std::min(lk, diagonal + right + 1);
        pairs += static_cast<double>(std::max<std::int64_t>(0, end - begin));
      }
    }
  }
  return pairs;
}

std::vector<AttentionShape> attention_shapes(Machine machine) {
  std::vector<AttentionShape> shapes;
  if (machine == Machine::cpu) {
    add_cpu(shapes);
    return shapes;
  }
  add_prefill(shapes);
  add_options(shapes);
  add_decoding(shapes);
  add_block_sparse(shapes);
  return shapes;
}

}  // namespace triage::bench
