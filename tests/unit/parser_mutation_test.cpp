// Thousands of damaged files: every one is either refused with a sentence or parsed into what the parser promises.
#include <gtest/gtest.h>

#include "fuzz/mutation.h"
#include "fuzz/parsers.h"

namespace triage::fuzz {
namespace {

struct Parser {
  const char* name;
  Answer (*parse)(std::string_view);
  std::string_view (*seed)();
};

class ParserMutation : public testing::TestWithParam<Parser> {};

TEST_P(ParserMutation, TheSeedIsValid) { EXPECT_EQ(GetParam().parse(GetParam().seed()), Answer::accepted); }

TEST_P(ParserMutation, EveryMutationIsRefusedOrSound) {
  std::mt19937_64 random(20240607);
  int refused = 0;
  constexpr int kMutations = 4000;
  for (int i = 0; i < kMutations; ++i) {
    const std::string bytes = mutate(GetParam().seed(), random);
    SCOPED_TRACE("mutation " + std::to_string(i));
    refused += GetParam().parse(bytes) == Answer::refused;
  }
  // Edits of a tensor's data change nothing that a parser could notice; the greater part of the rest must be refused.
  EXPECT_GT(refused, 200);
  EXPECT_LT(refused, kMutations);
}

TEST_P(ParserMutation, EveryTruncationIsRefused) {
  const std::string_view seed = GetParam().seed();
  for (std::size_t bytes = 0; bytes < seed.size(); ++bytes) {
    EXPECT_EQ(GetParam().parse(seed.substr(0, bytes)), Answer::refused) << bytes << " bytes";
  }
}

INSTANTIATE_TEST_SUITE_P(All, ParserMutation,
                         testing::Values(Parser{"safetensors", parse_safetensors_file, safetensors_seed},
                                         Parser{"index", parse_index_file, index_seed},
                                         Parser{"block_sparse", parse_block_sparse_file, block_sparse_seed}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace triage::fuzz
