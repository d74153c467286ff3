#include "bench/shapes.h"

#include <fmt/format.h>

namespace triage::bench {
namespace {

constexpr const char* kSpmm = "sparse_gemm.spmm";
constexpr const char* kLinear = "sparse_gemm.linear";
constexpr const char* kSddmm = "sparse_gemm.sddmm";

/// One line of the table: every combination of its operations, dtypes, blocks and densities is a problem.
struct Line {
  const char* name;
  Machine machine;
  std::vector<const char*> ops;
  std::vector<const char*> dtypes;
  std::int64_t m, n, k;
  std::vector<int> blocks;
  std::vector<double> densities;
  const char* pattern = "uniform";
  const char* epilogue = "";
  bool quick = false;
};

const std::vector<Line>& table() {
  using enum Machine;
  const std::vector<int> all{16, 32, 64, 128};
  static const std::vector<Line> lines{
      // The cube: what docs and anchors quote.
      {"cube", gpu, {kSpmm, kLinear}, {"float16"}, 8192, 8192, 8192, all, {0.22, 0.05}, "uniform", "", true},
      {"cube", gpu, {kSddmm}, {"float16"}, 8192, 8192, 8192, all, {0.22}, "uniform", "", true},
      {"cube", gpu, {kSpmm, kLinear, kSddmm}, {"bfloat16"}, 8192, 8192, 8192, all, {0.22}},
      // A fused epilogue beside the plain cube: what bias and activation cost.
      {"cube-epilogue", gpu, {kLinear}, {"float16"}, 8192, 8192, 8192, all, {0.22}, "uniform", "bias+gelu"},

      // ViT-B's MLP on 256 images of 197 tokens.
      {"vit-b-up", gpu, {kLinear}, {"float16"}, 3072, 50432, 768, {64}, {0.1}, "uniform", "bias+gelu"},
      {"vit-b-down", gpu, {kLinear}, {"float16"}, 768, 50432, 3072, {64}, {0.1}, "uniform", "bias"},
      // A Llama-class MLP, from one token (bound by memory) to a prefill.
      {"llama-up-t1", gpu, {kLinear}, {"float16"}, 14336, 1, 4096, {64}, {0.1}},
      {"llama-up-t16", gpu, {kLinear}, {"float16"}, 14336, 16, 4096, {64}, {0.1}},
      {"llama-up-t512", gpu, {kLinear}, {"float16"}, 14336, 512, 4096, {64}, {0.1}},
      {"llama-up-t8192", gpu, {kLinear}, {"float16"}, 14336, 8192, 4096, {64}, {0.1}},
      {"llama-down-t1", gpu, {kLinear}, {"float16"}, 4096, 1, 14336, {64}, {0.1}},
      {"llama-down-t16", gpu, {kLinear}, {"float16"}, 4096, 16, 14336, {64}, {0.1}},
      {"llama-down-t512", gpu, {kLinear}, {"float16"}, 4096, 512, 14336, {64}, {0.1}},
      {"llama-down-t8192", gpu, {kLinear}, {"float16"}, 4096, 8192, 14336, {64}, {0.1}},
      // Dropless mixture of experts: tokens sorted by expert make a block-diagonal activation matrix.
      {"moe-4-down", gpu, {kSpmm}, {"float16"}, 8192, 4096, 16384, {128}, {0.25}, "experts"},
      {"moe-4-up", gpu, {kSddmm}, {"float16"}, 8192, 16384, 4096, {128}, {0.25}, "experts"},
      {"moe-64-down", gpu, {kSpmm}, {"float16"}, 65536, 512, 131072, {128}, {1.0 / 64}, "experts"},
      {"moe-64-narrow", gpu, {kSpmm}, {"float16"}, 65536, 512, 2048, {128}, {1.0 / 64}},
      // BERT-large's MLP, 32 sequences of 512 tokens.
      {"bert-large-up", gpu, {kLinear}, {"float16"}, 4096, 16384, 1024, {32}, {0.25}, "uniform", "bias+gelu"},
      {"bert-large-down", gpu, {kLinear}, {"float16"}, 1024, 16384, 4096, {32}, {0.25}, "uniform", "bias"},

      // Patterns that are not uniform, at the cube's size, to be read beside the uniform rows.
      {"banded", gpu, {kSpmm}, {"float16"}, 8192, 8192, 8192, {32, 64, 128}, {0.22}, "banded"},
      {"power-law", gpu, {kSpmm}, {"float16"}, 8192, 8192, 8192, {32, 64, 128}, {0.22}, "power_law"},
      {"skewed", gpu, {kSpmm, kLinear}, {"float16"}, 8192, 8192, 8192, {16, 32, 64, 128}, {0.22}, "skewed"},
      {"holes", gpu, {kSpmm}, {"float16"}, 8192, 8192, 8192, {32, 64, 128}, {0.22}, "holes"},

      // The CPU: the same kinds, sized for a few cores.
      {"cube", cpu, {kSpmm, kLinear}, {"float32"}, 1024, 1024, 1024, all, {0.22, 0.05}, "uniform", "", true},
      {"cube", cpu, {kSddmm}, {"float32"}, 1024, 1024, 1024, all, {0.22}, "uniform", "", true},
      {"cube", cpu, {kSpmm, kLinear}, {"float32"}, 2048, 2048, 2048, all, {0.22, 0.05}},
      {"cube", cpu, {kSddmm}, {"float32"}, 2048, 2048, 2048, all, {0.22}},
      {"cube", cpu, {kSpmm, kLinear, kSddmm}, {"float16", "bfloat16", "float64"}, 1024, 1024, 1024, {32}, {0.22}},
      {"vit-b-up", cpu, {kLinear}, {"float32"}, 3072, 197, 768, {64}, {0.1}, "uniform", "bias+gelu"},
      {"vit-b-down", cpu, {kLinear}, {"float32"}, 768, 197, 3072, {64}, {0.1}, "uniform", "bias"},
      {"llama-up-t1", cpu, {kLinear}, {"float32"}, 14336, 1, 4096, {64}, {0.1}},
      {"llama-up-t16", cpu, {kLinear}, {"float32"}, 14336, 16, 4096, {64}, {0.1}},
      {"llama-down-t1", cpu, {kLinear}, {"float32"}, 4096, 1, 14336, {64}, {0.1}},
      {"bert-large-up", cpu, {kLinear}, {"float32"}, 4096, 128, 1024, {32}, {0.25}, "uniform", "bias+gelu"},
      {"bert-large-down", cpu, {kLinear}, {"float32"}, 1024, 128, 4096, {32}, {0.25}, "uniform", "bias"},
      {"moe-4-down", cpu, {kSpmm}, {"float32"}, 1024, 512, 2048, {128}, {0.25}, "experts"},
      {"banded", cpu, {kSpmm}, {"float32"}, 2048, 2048, 2048, {64}, {0.22}, "banded"},
      {"power-law", cpu, {kSpmm}, {"float32"}, 2048, 2048, 2048, {64}, {0.22}, "power_law"},
      {"skewed", cpu, {kSpmm}, {"float32"}, 2048, 2048, 2048, {64}, {0.22}, "skewed"},
      {"holes", cpu, {kSpmm}, {"float32"}, 2048, 2048, 2048, {64}, {0.22}, "holes"},
  };
  return lines;
}

}  // namespace

std::string Shape::label() const {
  std::string text = fmt::format("{} {}x{}x{} b{} d{:.3g}", name, m, n, k, block, density);
  if (!epilogue.empty()) text += " " + epilogue;
  return text;
}

std::vector<Shape> shapes(Machine machine) {
  std::vector<Shape> result;
  for (const Line& line : table()) {
    if (line.machine != machine) continue;
    for (const char* op : line.ops) {
      for (const char* dtype : line.dtypes) {
        for (int block : line.blocks) {
          for (double density : line.densities) {
            result.push_back({line.name, op, dtype, line.m, line.n, line.k, block, density, line.pattern,
                              line.epilogue, line.quick});
          }
        }
      }
    }
  }
  return result;
}

std::int64_t crossover_size(Machine machine, bool quick) { return machine == Machine::gpu ? 8192 : quick ? 1024 : 2048; }

const std::vector<double>& crossover_densities() {
  static const std::vector<double> densities{0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0};
  return densities;
}

}  // namespace triage::bench
