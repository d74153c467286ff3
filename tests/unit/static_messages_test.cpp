// The readers of compiler output, on recorded output of our own sources (nvcc 13.0).
#include <gtest/gtest.h>

#include "verdict/static/messages.h"

namespace {

using namespace triage::static_triage;

TEST(StaticMessages, FrontEndErrorWithTemplateArguments) {
  const auto messages = parse_messages(R"(zero rows (2).cu(12): error: zero-sized variable "r" is not allowed in device code
  template <int M, int T> __attribute__((global)) void tk(float* out) { float r[M / T]; }
                                                                              ^
          detected during instantiation of "void tk<M,T>(float *) [with M=64, T=256]" at line 13

zero rows (2).cu(20): warning #177-D: function "f" was declared but never referenced
1 error detected in the compilation of "zero rows (2).cu".
)");
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_EQ(messages[0].file, "zero rows (2).cu");
  EXPECT_EQ(messages[0].line, 12);
  EXPECT_TRUE(messages[0].is_error());
  EXPECT_EQ(template_arguments(messages[0]), (std::map<std::string, std::string>{{"M", "64"}, {"T", "256"}}));
  EXPECT_EQ(instantiation_line(messages[0]), 13);
  EXPECT_FALSE(messages[1].is_error());
  EXPECT_EQ(messages[1].line, 20);
}

TEST(StaticMessages, HostCompilerAndDriver) {
  const auto messages = parse_messages(R"(mh.cu:1:10: fatal error: cutlass/cutlass.h: No such file or directory
    1 | #include <cutlass/cutlass.h>
      |          ^~~~~~~~~~~~~~~~~~~
compilation terminated.
un.cu:8:2: error: #error "no way"
nvcc fatal   : Unsupported gpu architecture 'compute_50'
nvcc error   : 'cicc' died due to signal 11 (Invalid memory reference)
)");
  ASSERT_EQ(messages.size(), 4U);
  EXPECT_EQ(messages[0].severity, MessageSeverity::fatal);
  EXPECT_EQ(messages[0].line, 1);
  EXPECT_EQ(messages[0].text, "cutlass/cutlass.h: No such file or directory");
  EXPECT_EQ(messages[1].file, "un.cu");
  EXPECT_EQ(messages[1].line, 8);
  EXPECT_EQ(messages[2].text, "Unsupported gpu architecture 'compute_50'");
  EXPECT_TRUE(messages[3].file.empty());
}

TEST(StaticMessages, PtxasErrorsAndReport) {
  const PtxasLog log = parse_ptxas(R"(ptxas /tmp/a, line 3/w.ptx, line 29; error   : Instruction 'wgmma.fence' not supported on .target 'sm_89'
ptxas w.ptx, line 85; error   : Feature 'barrier.cluster.arrive' requires .target sm_90 or higher
ptxas error   : Entry function '_Z1sPf' uses too much shared data (0x19000 bytes, 0xc000 max)
ptxas fatal   : Unresolved extern function '_Z3extPf'
ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine register count at entry.
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z2spPfPKfi' for 'sm_89'
ptxas info    : Function properties for _Z2spPfPKfi
    960 bytes stack frame, 1324 bytes spill stores, 1364 bytes spill loads
ptxas info    : Used 64 registers, used 2 barriers, 960 bytes cumulative stack size, 256 bytes smem, 372 bytes cmem[0]
ptxas fatal   : Ptx assembly aborted due to errors
)");
  ASSERT_EQ(log.errors.size(), 2U);
  EXPECT_EQ(log.errors[0].line, 29);
  EXPECT_EQ(log.errors[0].text, "Instruction 'wgmma.fence' not supported on .target 'sm_89'");
  EXPECT_EQ(log.errors[1].line, 85);
  ASSERT_EQ(log.overflows.size(), 1U);
  EXPECT_EQ(log.overflows[0].bytes, 102400);
  EXPECT_EQ(log.overflows[0].limit, 49152);
  EXPECT_EQ(log.unresolved, std::vector<std::string>{"_Z3extPf"});
  ASSERT_EQ(log.kernels.count("_Z2spPfPKfi"), 1U);
  const KernelUsage usage = log.kernels.at("_Z2spPfPKfi");
  EXPECT_EQ(usage.registers, 64);
  EXPECT_EQ(usage.barriers, 2);
  EXPECT_EQ(usage.shared_bytes, 256);
  EXPECT_EQ(usage.stack_bytes, 960);
  EXPECT_EQ(usage.spill_store_bytes, 1324);
  EXPECT_EQ(usage.spill_load_bytes, 1364);
  EXPECT_EQ(log.advice.size(), 1U);
  EXPECT_TRUE(log.fatal.empty());
}

TEST(StaticMessages, Demangle) {
  EXPECT_EQ(demangle("_Z1sPf"), "s");
  EXPECT_EQ(demangle("_Z2tkILi64ELi256EEvPf"), "tk<64, 256>");
  EXPECT_EQ(demangle("_ZN36_GLOBAL__N__5b65b656_5_dl_cu__Z2goPf4anonEPf"), "anon");
  EXPECT_EQ(demangle("_ZN5flash4tileIfLb1EEEvPT_"), "flash::tile<float, true>");
  EXPECT_EQ(demangle("plain_c"), "plain_c");
}

TEST(StaticMessages, AnythingIsRead) {
  for (const char* text : {"", "\n\n", "(): error:", "x(99999999999999): error: y", "): error: ", "ptxas", "ptxas , line ; error",
                           "ptxas info    : Used", "    bytes spill stores", ":::", "a: error", "nvcc ", "nvcc fatal"}) {
    parse_messages(text);
    parse_ptxas(text);
  }
}

}  // namespace
