// `triage matrix`: the support matrix, from receipts and source hashes; needs no GPU.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "verdict/commands.h"
#include "verdict/matrix.h"
#include "verdict/terminal.h"

namespace triage::verdict {

int run_matrix(const MatrixOptions& options) {
  const ReceiptFolder folder = read_receipts(options.receipts);
  for (const std::string& problem : folder.problems) fmt::print(stderr, "triage matrix: {}\n", problem);
  std::vector<Receipt> receipts;
  for (const ReceiptFile& file : folder.files) receipts.push_back(file.receipt);
  const SupportMatrix matrix = make_matrix(registry_matrix_kernels(), receipts);
  // On a terminal aligned columns, in a pipe Markdown: that is what README holds.
  if (options.json) {
    fmt::print("{}\n", matrix_json(matrix).dump(2));
  } else if (options.markdown || !::isatty(STDOUT_FILENO)) {
    fmt::print("{}", matrix_markdown(matrix));
  } else {
    fmt::print("{}", matrix_text(matrix, colour_on(STDOUT_FILENO)));
  }
  return folder.problems.empty() ? kAllRight : kUsage;
}

}  // namespace triage::verdict
