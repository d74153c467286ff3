// Reports: HTML that is well-formed and holds every cell, sentences that are honest, crossovers, roofs.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "verdict/html.h"
#include "verdict/report.h"
#include "verdict/time_case.h"
#include "verdict/timing.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

ReceiptCase example_case(double ours_ms, double peer_ms, double density = 0.22) {
  ReceiptCase result;
  result.op = "sparse_gemm.spmm";
  result.kernel = "sm80_spmm_b32";
  result.family = "sm80";
  result.source_sha256 = "abc";
  result.dtype = "float16";
  result.shape = {8192, 8192, 8192, 32, density, "uniform", "canonical", 14418, "cube", ""};
  result.correct = {true, 1.1, 2.1e-4, 5e-4, 1, true, ""};
  result.time = ReceiptTime{ours_ms, ours_ms, ours_ms, 100};
  result.tflops = tflops(flops(result.op, result.shape), ours_ms);
  result.roof_tflops = 567;
  result.roof_limit = "mma.sync";
  result.peers = {{"cublas_dense", "13.0.0", peer_ms, tflops(dense_flops(result.shape), peer_ms), ""}};
  return result;
}

Run example_run(std::vector<ReceiptCase> cases) {
  Run run;
  Receipt receipt;
  receipt.device.name = "A <GPU> & more";
  receipt.device.compute_capability = "9.0";
  receipt.device.dense_fp16_tflops = 700;
  receipt.device.mma_sync_tflops = 567;
  receipt.device.memory_gbytes_per_s = 3000;
  receipt.date = "2026-11-22";
  receipt.cases = std::move(cases);
  ReceiptCrossover crossover;
  crossover.op = "sparse_gemm.spmm";
  crossover.kernel = "sm80_spmm_b32";
  crossover.dtype = "float16";
  crossover.block = 32;
  crossover.dense_peer = "cublas_dense";
  crossover.dense_ms = 1.5;
  crossover.points = {{0.1, 0.5}, {0.5, 2.1}};
  place_crossover(crossover);
  receipt.crossovers = {crossover};
  receipt.grids = {{"sparse_gemm.spmm", "sm80_spmm_b32", "sm80", "abc", 90, 0, 0, Outcome::ok, "", 0}};
  run.receipts = {receipt};
  run.matrix = make_matrix(registry_matrix_kernels(), {});
  return run;
}

/// Every tag that is opened is closed, in order; attributes are quoted; no stray < or &.
std::string ill_formed(const std::string& html) {
  static const std::set<std::string> kEmptyTags{"!DOCTYPE"};
  std::vector<std::string> open;
  std::size_t at = 0;
  while (at < html.size()) {
    if (html[at] == '&') {
      const std::size_t end = html.find(';', at);
      if (end == std::string::npos || end - at > 6) return "a stray & at " + html.substr(at, 30);
    }
    if (html[at] != '<') {
      ++at;
      continue;
    }
    const std::size_t end = html.find('>', at);
    if (end == std::string::npos) return "a stray < at " + html.substr(at, 30);
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "a < inside of " + tag;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "an odd quote in " + tag;
    const std::string name = tag.substr(tag[0] == '/', tag.find_first_of(" \n/", 1) - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != name) return "closed out of turn: " + tag;
      open.pop_back();
    } else if (tag.back() != '/' && !kEmptyTags.count(name)) {
      open.push_back(name);
    }
    at = end + 1;
    if (!open.empty() && open.back() == "style") at = html.find("</style>", at);
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

TEST(Report, HtmlIsOneWellFormedFile) {
  ReceiptCase wrong = example_case(1, 2, 0.05);
  wrong.outcome = Outcome::wrong;
  wrong.correct.ok = false;
  wrong.failure = "off by <3> & \"more\"";
  const std::string html = report_html(example_run({example_case(0.5, 1.6), wrong}));
  EXPECT_EQ(ill_formed(html), "");
  for (const char* forbidden : {"<script", "<link", "<img", "href=", "src=", "url(", "@import", "javascript:"}) {
    EXPECT_EQ(html.find(forbidden), std::string::npos) << forbidden;
  }
  EXPECT_NE(html.find("prefers-color-scheme: dark"), std::string::npos);
  EXPECT_NE(html.find("width=device-width"), std::string::npos);
  EXPECT_NE(html.find("aria-label=\"Roofline\""), std::string::npos);
  EXPECT_NE(html.find("A &lt;GPU&gt; &amp; more"), std::string::npos);
  EXPECT_NE(html.find("off by &lt;3&gt; &amp; &quot;more&quot;"), std::string::npos);
}

TEST(Report, HtmlHoldsEveryCell) {
  const verdict::Run run = example_run({example_case(0.5, 1.6), example_case(0.2, 1.6, 0.05)});
  const std::string html = report_html(run);
  for (const ReceiptCase& result : run.receipts[0].cases) {
    for (const std::string& cell : result_cells(result)) {
      EXPECT_NE(html.find(">" + html_escaped(cell) + "</td>"), std::string::npos) << cell;
    }
  }
  for (std::size_t k = 0; k < run.matrix.kernels.size(); ++k) {
    std::string row = "<td>" + run.matrix.kernels[k].name + "</td>";
    std::size_t at = html.find(row);
    ASSERT_NE(at, std::string::npos) << row;
    for (const MatrixCell& cell : run.matrix.cells[k]) {
      at = html.find(html_escaped(cell.text()), at);
      EXPECT_NE(at, std::string::npos) << run.matrix.kernels[k].name << " " << cell.text();
    }
  }
}

TEST(Report, MarkdownHasEveryCaseAndTheMatrix) {
  const verdict::Run run = example_run({example_case(0.5, 1.6)});
  const std::string markdown = report_markdown(run);
  EXPECT_NE(markdown.find("cube 8192 b32 d0.22"), std::string::npos);
  EXPECT_NE(markdown.find(matrix_markdown(run.matrix)), std::string::npos);
  EXPECT_NE(markdown.find("below density 0.35"), std::string::npos) << markdown;
}

TEST(Report, EmptyRunsDoNotBreakIt) {
  verdict::Run run;
  run.matrix = make_matrix(registry_matrix_kernels(), {});
  EXPECT_EQ(ill_formed(report_html(run)), "");
  EXPECT_FALSE(report_markdown(run).empty());
  EXPECT_FALSE(report_text(run, false).empty());
  EXPECT_NO_THROW(report_json(run).dump());
}

TEST(Report, SaysWhenOursIsSlower) {
  const auto slower = recommendations(example_run({example_case(2.0, 1.0)}));
  ASSERT_EQ(slower.size(), 1u);
  EXPECT_NE(slower[0].find("slower than cublas_dense at density 0.22 (0.50x as fast)"), std::string::npos) << slower[0];
  EXPECT_NE(slower[0].find("use the peer"), std::string::npos) << slower[0];
  const auto faster = recommendations(example_run({example_case(1.0, 2.0)}));
  EXPECT_NE(faster.at(0).find("2.00x as fast as cublas_dense"), std::string::npos) << faster[0];
  EXPECT_EQ(faster[0].find("use the peer"), std::string::npos);
}

TEST(Report, StandingsAreGeometricMeansOverRightCases) {
  ReceiptCase wrong = example_case(0.1, 1.0);
  wrong.outcome = Outcome::wrong;
  wrong.correct.ok = false;
  const auto standings = peer_standings(example_run({example_case(1.0, 4.0), example_case(1.0, 0.25, 0.05), wrong}));
  ASSERT_EQ(standings.size(), 1u);
  EXPECT_EQ(standings[0].cases, 2);
  EXPECT_EQ(standings[0].faster, 1);
  EXPECT_NEAR(standings[0].mean, 1.0, 1e-9);
  EXPECT_EQ(standings[0].sentence(),
            "spmm: faster than cublas_dense in 1 of 2 cases, 1.00x as fast in the geometric mean (0.25x to 4.00x)");
}

TEST(Report, PeersOfAnotherRunStandBesideTheSameCases) {
  verdict::Run run = example_run({example_case(1.0, 2.0), example_case(1.0, 2.0, 0.05)});
  Receipt other = run.receipts[0];
  other.cases.resize(1);
  other.cases[0].kernel = "another";
  other.cases[0].shape.nnz_blocks = 0;
  other.cases[0].peers = {{"fa3", "3.0", 0.5, 100, "timed by torch, beside"}, {"cublas_dense", "1", 9, 9, ""}};
  const std::string said = add_peer_results(run, other, "peers.json");
  EXPECT_EQ(said.rfind("1 cases show peers", 0), 0u) << said;
  ASSERT_EQ(run.receipts[0].cases[0].peers.size(), 2u);
  EXPECT_EQ(run.receipts[0].cases[0].peers[0].time_ms, 2.0);  // what this run measured stays
  EXPECT_EQ(run.receipts[0].cases[0].peers[1].name, "fa3");
  EXPECT_EQ(run.receipts[0].cases[1].peers.size(), 1u);
  verdict::Run elsewhere = example_run({example_case(1.0, 2.0)});
  elsewhere.receipts[0].device.name = "another GPU";
  add_peer_results(elsewhere, other, "peers.json");
  EXPECT_EQ(elsewhere.receipts[0].cases[0].peers.size(), 1u);
}

TEST(Report, AWrongKernelIsNotRecommended) {
  ReceiptCase wrong = example_case(0.1, 1.0);
  wrong.outcome = Outcome::wrong;
  wrong.correct.ok = false;
  EXPECT_TRUE(recommendations(example_run({wrong})).empty());
  EXPECT_EQ(headline(example_run({wrong})).rfind("NOT ALL RIGHT: 1 wrong", 0), 0u);
}

TEST(Crossover, IsInterpolatedBetweenTheTwoNeighbours) {
  ReceiptCrossover curve;
  curve.dense_ms = 2;
  curve.points = {{0.1, 1.0}, {0.3, 1.5}, {0.5, 2.5}};
  place_crossover(curve);
  EXPECT_EQ(curve.relation, "at");
  EXPECT_NEAR(curve.density, 0.4, 1e-12);
  curve.dense_ms = 0.5;
  place_crossover(curve);
  EXPECT_EQ(curve.relation, "below");
  EXPECT_EQ(curve.density, 0.1);
  curve.dense_ms = 9;
  place_crossover(curve);
  EXPECT_EQ(curve.relation, "above");
  EXPECT_EQ(curve.density, 0.5);
}

TEST(Work, CountsNonzeroBlocksAndEveryOperandOnce) {
  ReceiptShape shape;
  shape.m = 64;
  shape.n = 10;
  shape.k = 32;
  shape.block = 16;
  shape.nnz_blocks = 3;
  EXPECT_EQ(flops("sparse_gemm.spmm", shape), 2.0 * 3 * 256 * 10);
  EXPECT_EQ(flops("sparse_gemm.sddmm", shape), 2.0 * 3 * 256 * 32);
  EXPECT_EQ(dense_flops(shape), 2.0 * 64 * 10 * 32);
  EXPECT_EQ(compulsory_bytes("sparse_gemm.linear", shape, "float16"), 2.0 * (3 * 256 + 32 * 10 + 64 * 10));
  EXPECT_EQ(compulsory_bytes("sparse_gemm.sddmm", shape, "float32"), 4.0 * (3 * 256 + 64 * 32 + 10 * 32));
}

TEST(Work, TheRoofIsTheLowestLimit) {
  ReceiptDevice device;
  device.dense_fp16_tflops = 700;
  device.mma_sync_tflops = 560;
  device.memory_gbytes_per_s = 3000;
  ReceiptShape shape;
  shape.m = shape.n = shape.k = 8192;
  shape.block = 64;
  shape.nnz_blocks = 3605;
  EXPECT_EQ(roof_of("sparse_gemm.spmm", shape, "float16", "sm90", device).limit, "compute");
  EXPECT_EQ(roof_of("sparse_gemm.spmm", shape, "float16", "sm80", device).limit, "mma.sync");
  EXPECT_EQ(roof_of("sparse_gemm.spmm", shape, "float16", "sm80", device).tflops, 560);
  shape.n = 1;
  const Roof memory = roof_of("sparse_gemm.linear", shape, "float16", "sm90", device);
  EXPECT_EQ(memory.limit, "memory");
  EXPECT_NEAR(memory.tflops, 3.0, 0.1);  // one operation a byte
  EXPECT_EQ(roof_of("sparse_gemm.linear", shape, "float16", "sm90", ReceiptDevice{}).tflops, 0);
}

/// Plays back given times.
class FakeStopwatch final : public Stopwatch {
 public:
  void prepare(const Contender&, int calls) override { calls_.push_back(calls); }
  double sample_ms(int index) override {
    order_.push_back(index);
    return index == 0 ? 2.0 : 8.0;
  }
  double rough_ms(const Contender& contender) override { return contender.name == "fast" ? 0.02 : 8.0; }
  std::vector<int> calls_, order_;
};

TEST(Timing, ContendersAlternateAndShortCallsAreBundled) {
  FakeStopwatch stopwatch;
  const std::vector<Contender> contenders{{"fast", [](int) {}}, {"slow", [](int) {}}};
  const auto times = time_alternating(contenders, stopwatch, {.budget_ms = 40, .sample_ms = 2, .min_samples = 4, .max_samples = 10});
  EXPECT_EQ(stopwatch.calls_, (std::vector<int>{100, 1}));
  ASSERT_GE(stopwatch.order_.size(), 8u);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(stopwatch.order_[i], static_cast<int>(i % 2));
  EXPECT_DOUBLE_EQ(times[0].median, 0.02);
  EXPECT_EQ(times[0].repeats, 1000);
  EXPECT_DOUBLE_EQ(times[1].median, 8);
}

TEST(Timing, TheBeginningOfATurnIsNotCounted) {
  FakeStopwatch stopwatch;
  const std::vector<Contender> contenders{{"fast", [](int) {}}, {"slow", [](int) {}}};
  const auto times = time_alternating(contenders, stopwatch,
                                      {.budget_ms = 40,
                                       .sample_ms = 2,
                                       .min_samples = 4,
                                       .max_samples = 10,
                                       .turn_ms = 10,
                                       .settle_ms = 3});
  // fast: samples of 2 ms, 2 to settle and 5 a turn; slow: samples of 8 ms, 1 to settle and 1 a turn.
  ASSERT_GE(stopwatch.order_.size(), 16u);
  for (std::size_t i = 0; i < 16; ++i) EXPECT_EQ(stopwatch.order_[i], i % 9 < 7 ? 0 : 1) << i;
  EXPECT_EQ(times[0].repeats, 1000);  // 10 samples of 100 calls, whatever was run to settle
  EXPECT_EQ(times[1].repeats, 5);
}

TEST(Timing, PercentilesAreThoseOfTheSamples) {
  const ReceiptTime time = summarise({5, 1, 4, 2, 3, 6, 7, 8, 9, 10, 11}, 2);
  EXPECT_DOUBLE_EQ(time.median, 3);
  EXPECT_DOUBLE_EQ(time.p20, 1.5);
  EXPECT_DOUBLE_EQ(time.p80, 4.5);
  EXPECT_EQ(time.repeats, 22);
  EXPECT_DOUBLE_EQ(spread(time), 1);
}

}  // namespace
}  // namespace triage::verdict
