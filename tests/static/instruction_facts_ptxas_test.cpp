// Holds every row of the instruction table against the installed ptxas, target by target.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "static/static_test.h"
#include "verdict/static/instruction_facts.h"
#include "verdict/static/process.h"

namespace {

using namespace triage::static_triage;

class InstructionFactsPtxas : public testing::TestWithParam<Target> {};

TEST_P(InstructionFactsPtxas, TableSaysWhatPtxasSays) {
  std::string problem;
  const auto toolchain = find_toolchain("", &problem);
  if (!toolchain) GTEST_SKIP() << problem;
  if (!toolchain->knows(GetParam().sm)) GTEST_SKIP() << "nvcc " << toolchain->version << " does not know it";
  const std::string ptxas = std::filesystem::path(toolchain->nvcc).parent_path() / "ptxas";
  if (!std::filesystem::exists(ptxas)) GTEST_SKIP() << "no ptxas beside nvcc";

  // The newest PTX that this toolkit writes.
  const TemporaryDirectory directory;
  const std::string probe = directory.write("probe.cu", "__global__ void k(float* p) { *p = 1; }\n");
  const ProcessResult made = run_process({toolchain->nvcc, "-ptx", "-arch=" + GetParam().compute(), "-o",
                                          directory.path() + "/probe.ptx", probe}, {});
  ASSERT_TRUE(made.succeeded()) << made.output;
  const std::string ptx = read_text(directory.path() + "/probe.ptx");
  const std::string version = ptx.substr(ptx.find(".version "), 12);

  for (const InstructionFact& fact : instruction_facts()) {
    if (!*fact.example) continue;
    if (std::stod(version.substr(9)) + 1e-6 < std::stod(fact.introduced)) continue;  // younger than the toolkit
    const std::string source = directory.write(
        "example.ptx", version + "\n.target " + GetParam().code() +
                           "\n.address_size 64\n.visible .entry k()\n{\n.reg .b32 %r<16>;\n.reg .b64 %d<8>;\n"
                           ".reg .f32 %f<16>;\n.reg .f64 %g<16>;\n.reg .b16 %h<4>;\n.reg .pred %p<4>;\n" +
                           fact.example + "\nret;\n}\n");
    const ProcessResult result =
        run_process({ptxas, "-arch=" + GetParam().code(), "-o", directory.path() + "/example.cubin", source}, {});
    ASSERT_EQ(result.outcome, ProcessOutcome::exited);
    EXPECT_EQ(result.exit_code == 0, available(fact, GetParam())) << fact.id << ": " << result.output;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, InstructionFactsPtxas,
                         testing::Values(Target{75}, Target{80}, Target{86}, Target{89}, Target{90}, Target{90, 'a'},
                                         Target{100}, Target{100, 'a'}, Target{100, 'f'}, Target{103, 'a'},
                                         Target{110, 'a'}, Target{120}, Target{120, 'a'}, Target{121, 'a'}),
                         [](const auto& target) { return target.param.name(); });

}  // namespace
