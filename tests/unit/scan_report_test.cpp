// What `triage scan` prints, and the command from end to end.
#include "verdict/scan_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "unit/scan_models.h"
#include "verdict/scan.h"
#include "verdict/terminal.h"

namespace triage::verdict {
namespace {

using test::bytes_of;
using test::noise;
using test::ScanFiles;

TEST(ScanNames, ShortNamesStayApart) {
  EXPECT_EQ(short_name("encoder.layer.0.output.dense.weight", 40), "encoder.layer.0.output.dense.weight");
  EXPECT_EQ(short_name("encoder.layer.10.output.dense.weight", 26), "e.l.10.output.dense.weight");
  EXPECT_NE(short_name("encoder.layer.0.attention.output.dense.weight", 24),
            short_name("encoder.layer.0.output.dense.weight", 24));
  EXPECT_LE(display_width(short_name(std::string(500, 'x') + "." + std::string(500, 'y'), 20)), 20u);
  EXPECT_EQ(short_name("äöü.öäü.w", 7), "ä.öäü.w");
  EXPECT_EQ(grouped_names({"l.0.w", "fc1", "l.1.w", "l.10.w", "fc2"}),
            (std::vector<std::string>{"l.*.w (3)", "fc1", "fc2"}));
}

LayerReport layer_named(const std::string& name, double sparse_ms, double dense_ms) {
  LayerReport layer;
  layer.name = name;
  layer.rows = layer.cols = 384;
  layer.dense_bytes = layer.stored_bytes = 384 * 384 * 4;
  layer.blocks = {576, 144, 36, 9};
  layer.nonzero = {288, 144, 36, 9};
  Measurement measured;
  measured.block = 32;
  measured.density = 1;
  measured.kernel = "cpu_linear";
  measured.sparse = ReceiptTime{sparse_ms, sparse_ms, sparse_ms, 10};
  measured.dense = ReceiptTime{dense_ms, dense_ms, dense_ms, 10};
  layer.measured.push_back(measured);
  return layer;
}

TEST(ScanReport, FitsTheTerminalAndAddsUp) {
  ScanReport report;
  report.path = "model.safetensors";
  report.tokens = 128;
  report.device = "CPU";
  report.dense_name = "openblas_dense 0.3.21";
  report.layers = {layer_named("encoder.layer.0.attention.output.dense.weight", 1, 2),
                   layer_named("encoder.layer.0.output.dense.weight", 3, 2)};
  report.skipped = {{"a.0.bias", "F32", {3}, "1-D, not a matrix"}, {"a.1.bias", "F32", {3}, "1-D, not a matrix"}};
  for (const std::size_t width : {80u, 100u, 160u}) {
    const std::string text = scan_text(report, width, false);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) EXPECT_LE(display_width(line), width) << line;
    EXPECT_NE(text.find("a.*.bias (2)"), std::string::npos);
    EXPECT_NE(text.find("total"), std::string::npos);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
  }
  EXPECT_NE(scan_text(report, 100, true).find('\x1b'), std::string::npos);
  EXPECT_NE(scan_markdown(report).find("| encoder.layer.0.attention.output.dense.weight |"), std::string::npos);

  const Json json = scan_json(report);
  ASSERT_EQ(json["layers"].size(), 2u);
  EXPECT_EQ(json["layers"][0]["zero_blocks"]["16"], 0.5);
  EXPECT_EQ(json["layers"][0]["pays"], "yes");
  EXPECT_EQ(json["layers"][1]["pays"], "no");
  EXPECT_EQ(json["totals"]["sparse_ms"], 4.0);
  EXPECT_EQ(json["totals"]["dense_ms"], 4.0);
  EXPECT_EQ(json["totals"]["faster"], 1);
  EXPECT_EQ(json["skipped"].size(), 2u);
}

TEST(ScanReport, NoisyTimesAreNoAnswer) {
  LayerReport layer = layer_named("w", 1, 1.5);
  EXPECT_EQ(layer.best()->verdict(), Verdict::yes);
  layer.measured[0].sparse->p80 = 1.6;
  EXPECT_EQ(layer.best()->verdict(), Verdict::unclear);
  layer.measured[0].sparse->p80 = 1;
  layer.measured[0].disturbed = true;
  EXPECT_EQ(layer.best()->verdict(), Verdict::unclear);
  layer.measured[0].dense.reset();
  EXPECT_EQ(layer.best()->verdict(), Verdict::not_measured);
}

// The command from end to end.
class ScanCommand : public ScanFiles {
 protected:
  int run(ScanOptions options) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_scan(options);
    out = testing::internal::GetCapturedStdout();
    err = testing::internal::GetCapturedStderr();
    return code;
  }
  ScanOptions options() {
    ScanOptions options;
    options.model = path;
    options.device = "cpu";
    options.tokens = 16;
    return options;
  }
  const std::string path = save("m.safetensors", {{"layer.0.weight", "F32", {96, 128}, bytes_of(noise(96, 128, 4))},
                                                  {"layer.1.weight", "F32", {128, 96}, bytes_of(noise(128, 96, 5))},
                                                  {"layer.0.bias", "F32", {96}, std::string(384, '\0')}});
  std::string out, err;
};

TEST_F(ScanCommand, ScansADenseModel) {
  ScanOptions scan = options();
  scan.json = true;
  const int code = run(scan);
  EXPECT_TRUE(code == 0 || code == 4) << code << err;  // 4: this machine is too noisy
  const auto json = nlohmann::json::parse(out);
  ASSERT_EQ(json["layers"].size(), 2u);
  EXPECT_EQ(json["layers"][0]["name"], "layer.0.weight");
  EXPECT_EQ(json["layers"][0]["measured"].size(), 4u);
  for (const auto& measured : json["layers"][0]["measured"]) {
    EXPECT_TRUE(measured["correct"]["ok"]) << measured.dump();
    EXPECT_GT(measured["sparse_ms"]["median"], 0.0);
    EXPECT_EQ(measured["output_error"], 0.0);
    EXPECT_EQ(measured["density"], 1.0);
  }
  EXPECT_EQ(json["skipped"][0]["name"], "layer.0.bias");
}

TEST_F(ScanCommand, PrunesSavesAndReadsItsOwnFile) {
  ScanOptions prune = options();
  prune.prune_to = 0.25;
  prune.blocks = {32};
  prune.out = directory.file("pruned.safetensors");
  prune.json = true;
  int code = run(prune);
  EXPECT_TRUE(code == 0 || code == 4) << code << err;
  const auto first = nlohmann::json::parse(out);
  EXPECT_NE(err.find("wrote "), std::string::npos);
  for (const auto& layer : first["layers"]) {
    EXPECT_EQ(layer["pruned"]["kept_blocks"], 3);
    EXPECT_EQ(layer["pruned"]["blocks"], 12);
    ASSERT_EQ(layer["measured"].size(), 1u);
    EXPECT_TRUE(layer["measured"][0]["correct"]["ok"]);
    // Uniform noise: what remains of the norm is a little more than a quarter.
    EXPECT_NEAR(layer["measured"][0]["output_error"].get<double>(), std::sqrt(0.75), 0.08);
  }
  ScanOptions again = options();
  again.model = prune.out;
  again.json = true;
  again.measure = false;
  EXPECT_EQ(run(again), 0) << err;
  const auto second = nlohmann::json::parse(out);
  ASSERT_EQ(second["layers"].size(), 2u);
  EXPECT_EQ(second["layers"][0]["stored"]["block"], 32);
  EXPECT_EQ(second["layers"][0]["zero_blocks"]["32"], 0.75);
  EXPECT_EQ(second["layers"][0]["zero_blocks"]["16"], 0.75);
  EXPECT_EQ(second["layers"][0]["stored_bytes"], first["layers"][0]["pruned"]["bytes"]);
}

TEST_F(ScanCommand, BadArgumentsGetASentenceAndCodeTwo) {
  const auto refused = [&](ScanOptions bad, const std::string& part) {
    EXPECT_EQ(run(bad), 2);
    EXPECT_EQ(out, "");
    EXPECT_NE(err.find(part), std::string::npos) << err;
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  };
  const auto with = [&](auto change) {
    ScanOptions bad = options();
    change(bad);
    return bad;
  };
  refused(with([](auto& o) { o.model = "/absent"; }), "No such file");
  refused(with([](auto& o) { o.blocks = {17}; }), "--block 17");
  refused(with([](auto& o) { o.prune_to = 1.5; }), "--prune-to 1.5");
  refused(with([](auto& o) { o.prune_to = -0.1; }), "--prune-to -0.1");
  refused(with([](auto& o) { o.prune_to = NAN; }), "--prune-to");
  refused(with([](auto& o) { o.prune_to = 0.5, o.blocks = {16, 32}; }), "one block size");
  refused(with([](auto& o) { o.out = "x"; }), "--prune-to as well");
  refused(with([](auto& o) { o.tokens = 0; }), "--tokens 0");
  refused(with([](auto& o) { o.tokens = std::int64_t{1} << 40; }), "--tokens");
  refused(with([](auto& o) { o.include = "("; }), "--include '(' is not a regular expression");
  refused(with([](auto& o) { o.device = "tpu"; }), "--device");
  refused(with([](auto& o) { o.json = o.markdown = true; }), "exclude each other");
  refused(with([&](auto& o) { o.prune_to = 0.5, o.out = path; }), "is the model itself");
  refused(with([&](auto& o) { o.prune_to = 0.5, o.out = directory.file("no/where"); }), "No such file");
}

TEST_F(ScanCommand, AModelWithoutMatricesIsNoError) {
  ScanOptions nothing = options();
  nothing.include = "bias";
  EXPECT_EQ(run(nothing), 0) << err;
  EXPECT_NE(out.find("No matrix to look at"), std::string::npos);
  EXPECT_NE(out.find("layer.0.bias"), std::string::npos);
}

}  // namespace
}  // namespace triage::verdict
