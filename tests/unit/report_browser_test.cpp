// The HTML report in a real browser: a copy of the page measures itself, on a phone and on a desk, and a picture is
// taken. Where no Chromium is installed the tests are skipped, and say so.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "verdict/html.h"
#include "verdict/profile_metrics.h"
#include "verdict/report.h"
#include "verdict/static/process.h"
#include "verdict/time_case.h"
#include "verdict/work.h"

namespace triage::verdict {
namespace {

namespace fs = std::filesystem;

std::string browser() {
  if (const char* named = std::getenv("TRIAGE_BROWSER")) return named;
  for (const char* path : {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return "";
}

ReceiptCase timed_case(const char* op, const char* kernel, int block, double density, double ms, double dense_ms) {
  ReceiptCase result;
  result.op = op;
  result.kernel = kernel;
  result.family = "sm90";
  result.source_sha256 = std::string(64, 'a');
  result.dtype = "float16";
  result.shape = {8192, 8192, 8192, block, density, "uniform", "canonical", 0, "cube", ""};
  result.shape.nnz_blocks = static_cast<std::int64_t>(density * 8192 * 8192 / block / block);
  result.correct = {true, 1.1, 2.1e-4, 5e-4, 1, true, ""};
  result.time = ReceiptTime{ms, ms, ms, 100};
  result.tflops = tflops(flops(result.op, result.shape), ms);
  result.roof_tflops = 700;
  result.roof_limit = "compute";
  result.peers = {{"cublas_dense", "13.0.0", dense_ms, tflops(dense_flops(result.shape), dense_ms), ""},
                  {"cusparse_blocked_ell", "12.6.3", 2 * ms, result.tflops / 2, ""}};
  return result;
}

/// A run with everything that a report can show.
verdict::Run full_run() {
  Receipt receipt;
  receipt.device.name = "NVIDIA H100 80GB HBM3";
  receipt.device.compute_capability = "9.0";
  receipt.device.dense_fp16_tflops = 700;
  receipt.device.mma_sync_tflops = 560;
  receipt.device.memory_gbytes_per_s = 3000;
  receipt.date = "2026-11-22";
  for (const int block : {32, 64, 128}) {
    const std::string kernel = "sm90_spmm_b" + std::to_string(block);
    receipt.cases.push_back(timed_case("sparse_gemm.spmm", kernel.c_str(), block, 0.22, 0.6, 1.6));
    receipt.cases.push_back(timed_case("sparse_gemm.spmm", kernel.c_str(), block, 0.05, 0.2, 1.6));
    receipt.grids.push_back({"sparse_gemm.spmm", kernel, "sm90", std::string(64, 'a'), 120, 0, 3, Outcome::ok, "", 0});
    ReceiptCrossover crossover;
    crossover.op = "sparse_gemm.spmm";
    crossover.kernel = kernel;
    crossover.dtype = "float16";
    crossover.block = block;
    crossover.size = 8192;
    crossover.dense_peer = "cublas_dense";
    crossover.dense_ms = 1.6;
    crossover.points = {{0.05, 0.2}, {0.5, 1.3}, {0.9, 2.3}};
    place_crossover(crossover);
    receipt.crossovers.push_back(crossover);
    for (const char* tool : {"memcheck", "initcheck", "synccheck"}) {
      ReceiptSanitizer entry;
      entry.op = "sparse_gemm.spmm";
      entry.kernel = kernel;
      entry.family = "sm90";
      entry.source_sha256 = std::string(64, 'a');
      entry.tool = tool;
      entry.version = "2025.3.1.0";
      entry.problems = 12;
      entry.seconds = 4;
      receipt.sanitizer.push_back(entry);
    }
    ReceiptProfile profile;
    profile.op = "sparse_gemm.spmm";
    profile.kernel = kernel;
    profile.family = "sm90";
    profile.source_sha256 = std::string(64, 'a');
    profile.dtype = "float16";
    profile.shape = receipt.cases.back().shape;
    profile.launches = {{"spmm",
                         "(132, 1, 1)",
                         "(384, 1, 1)",
                         {{"time_us", 610}, {"tensor_percent", 82}, {"dram_percent", 20}, {"registers", 168}},
                         {{"gmma", 3.1}, {"barrier", 2.2}, {"selected", 1}, {"wait", 0.5}}}};
    profile.limited_by = limiting_sentence(profile.launches[0]);
    receipt.profiles.push_back(profile);
  }
  verdict::Run run;
  run.matrix = make_matrix(registry_matrix_kernels(), {receipt});
  run.receipts = {std::move(receipt)};
  run.remarks = {"a remark with_a_very_long_word_that_has_no_place_to_break_" + std::string(200, 'x')};
  return run;
}

/// What the page says of itself once it is laid out. It goes into a copy: the report has no scripts.
constexpr const char* kMeasure = R"(<script>
document.querySelectorAll('details').forEach(d => d.open = true);
const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; };
const all = s => Array.from(document.querySelectorAll(s));
const result = {
  width: document.documentElement.clientWidth, scroll_width: document.documentElement.scrollWidth,
  headings: all('h2').map(e => e.textContent),
  svgs: all('svg').map(e => ({label: e.getAttribute('aria-label'), box: box(e)})),
  tables: all('table').map(e => ({rows: e.rows.length, box: box(e), holder: box(e.parentElement)})),
  bars: all('rect').map(e => ({css: e.getAttribute('class'), width: box(e)[2], fill: getComputedStyle(e).fill})),
  text_size: parseFloat(getComputedStyle(document.body).fontSize),
  ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
  details: all('details').length, summary_height: Math.min(...all('summary').map(e => box(e)[3])),
  overflowing_text: all('p, li, h1, h2, summary').filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 80)),
  requests: performance.getEntriesByType('resource').length,
};
const out = document.createElement('pre'); out.id = 'measured'; out.textContent = JSON.stringify(result);
document.body.appendChild(out);
</script>)";

class ReportInBrowser : public testing::Test {
 protected:
  void SetUp() override {
    if (browser().empty()) GTEST_SKIP() << "SKIPPED: no Chromium here (apt-get install chromium, or TRIAGE_BROWSER)";
    folder_ = fs::path(testing::TempDir()) /
              ("browser-" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string browse(const std::string& html, const std::vector<std::string>& options) {
    std::ofstream(folder_ / "page.html") << html;
    std::vector<std::string> arguments{browser(),
                                       "--headless",
                                       "--no-sandbox",
                                       "--disable-gpu",
                                       "--disable-dev-shm-usage",
                                       "--hide-scrollbars",
                                       "--user-data-dir=" + (folder_ / "profile").string()};
    arguments.insert(arguments.end(), options.begin(), options.end());
    arguments.push_back("file://" + (folder_ / "page.html").string());
    static_triage::ProcessOptions limits;
    limits.timeout_seconds = 120;
    return static_triage::run_process(arguments, limits).output;
  }

  /// A phone's width comes from a frame: a headless window is never narrower than 500.
  nlohmann::json measured(const std::string& html, int width, const std::vector<std::string>& options = {}) {
    std::string page = html;
    page.insert(page.rfind("</body>"), kMeasure);
    std::ofstream(folder_ / "inner.html") << page;
    const std::string outer =
        "<!DOCTYPE html><html><body style='margin:0'><iframe id='f' src='inner.html' "
        "style='border:0;height:800px;width:" +
        std::to_string(width) +
        "px'></iframe><pre id='copied'></pre><script>onload = () => document.getElementById('copied').textContent = "
        "document.getElementById('f').contentDocument.getElementById('measured').textContent;</script></body></html>";
    std::vector<std::string> all{"--allow-file-access-from-files", "--window-size=1400,900",
                                 "--virtual-time-budget=3000", "--dump-dom"};
    all.insert(all.end(), options.begin(), options.end());
    const std::string dom = browse(outer, all);
    const std::string mark = "<pre id=\"copied\">";
    const std::size_t begin = dom.find(mark);
    if (begin == std::string::npos) return {{"dom", dom}};
    std::string text = dom.substr(begin + mark.size(), dom.find("</pre>", begin) - begin - mark.size());
    for (const auto& [entity, c] : {std::pair{"&lt;", "<"}, std::pair{"&gt;", ">"}, std::pair{"&amp;", "&"}}) {
      for (std::size_t at = 0; (at = text.find(entity, at)) != std::string::npos;)
        text.replace(at, std::string(entity).size(), c);
    }
    return nlohmann::json::parse(text, nullptr, false);
  }

  fs::path folder_;
};

TEST_F(ReportInBrowser, FitsAPhone) {
  const nlohmann::json page = measured(report_html(full_run()), 390);
  ASSERT_TRUE(page.contains("width")) << page.dump().substr(0, 2000);
  EXPECT_EQ(page["width"], 390);
  EXPECT_LE(page["scroll_width"], 390) << "the page must not scroll sideways";
  EXPECT_GE(page["text_size"], 15);
  EXPECT_GE(page["summary_height"], 24) << "what is touched must be large enough to touch";
  EXPECT_TRUE(page["overflowing_text"].empty()) << page["overflowing_text"];
  for (const auto& svg : page["svgs"]) {
    EXPECT_GE(svg["box"][0], 0) << svg;
    EXPECT_LE(svg["box"][0].get<double>() + svg["box"][2].get<double>(), 391) << svg;
    EXPECT_GT(svg["box"][2], 200) << svg;
    EXPECT_GT(svg["box"][3], 30) << svg;
  }
  for (const auto& table : page["tables"]) EXPECT_LE(table["holder"][2], 390) << "a wide table scrolls in its own box";
}

TEST_F(ReportInBrowser, HoldsEveryPart) {
  const verdict::Run run = full_run();
  const nlohmann::json page = measured(report_html(run), 1200);
  ASSERT_TRUE(page.contains("headings")) << page.dump().substr(0, 2000);
  std::vector<std::string> headings = page["headings"];
  for (const char* part : {"Executive summary", "What to use here", "Support matrix", "Roofline",
                           "Ours over each peer, geometric mean", "Beside the peers, useful TFLOP/s", "Cases",
                           "Crossover against the dense product", "Evidence, kernel by kernel"}) {
    EXPECT_NE(std::find(headings.begin(), headings.end(), part), headings.end()) << part;
  }
  std::vector<std::string> labels;
  for (const auto& svg : page["svgs"]) labels.push_back(svg["label"]);
  for (const char* chart :
       {"Roofline", "Speed of ours over each peer", "Rates of ours and the peers",
        "Density below which sparse is faster than dense", "What warps of sm90_spmm_b64 wait for"}) {
    EXPECT_NE(std::find(labels.begin(), labels.end(), chart), labels.end()) << chart;
  }
  EXPECT_EQ(page["details"], 3);   // one a kernel
  EXPECT_EQ(page["requests"], 0);  // nothing is fetched
  for (const auto& bar : page["bars"]) EXPECT_GT(bar["width"], 0) << bar;
  std::set<std::string> colours;
  for (const auto& bar : page["bars"]) colours.insert(bar["fill"]);
  EXPECT_EQ(colours.size(), 2U) << "ours and the peers' bars differ in colour";
}

TEST_F(ReportInBrowser, IsReadableInTheDark) {
  const std::string html = report_html(full_run());
  const auto brightness = [](const std::string& colour) {
    int r = 0, g = 0, b = 0;
    EXPECT_EQ(std::sscanf(colour.c_str(), "rgb(%d, %d, %d)", &r, &g, &b), 3) << colour;
    return 0.3 * r + 0.6 * g + 0.1 * b;
  };
  const nlohmann::json light = measured(html, 600, {"--blink-settings=preferredColorScheme=1"});
  const nlohmann::json dark = measured(html, 600, {"--blink-settings=preferredColorScheme=0"});
  ASSERT_TRUE(light.contains("ink") && dark.contains("ink"));
  EXPECT_GT(brightness(light["paper"]) - brightness(light["ink"]), 150);
  EXPECT_GT(brightness(dark["ink"]) - brightness(dark["paper"]), 150) << dark["ink"] << dark["paper"];
}

TEST_F(ReportInBrowser, APictureOfItIsNotBlank) {
  const auto picture = [&](const std::string& html) {
    const fs::path file = folder_ / "page.png";
    fs::remove(file);
    browse(html, {"--window-size=800,3000", "--screenshot=" + file.string()});
    std::ifstream stream(file, std::ios::binary);
    std::stringstream bytes;
    bytes << stream.rdbuf();
    return bytes.str();
  };
  const std::string page = picture(report_html(full_run())), blank = picture(html_page("blank", ""));
  ASSERT_EQ(page.substr(1, 3), "PNG");
  ASSERT_EQ(blank.substr(1, 3), "PNG");
  EXPECT_GT(page.size(), 20 * blank.size()) << "next to a blank page there is hardly anything on it";
}

}  // namespace
}  // namespace triage::verdict
