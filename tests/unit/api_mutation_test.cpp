// Every argument of every entry point, broken in every way we could think of: the call answers with the right code and
// a sentence that names the argument, and writes nothing. (Under ASan and UBSan: and touches nothing it should not.)
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "triage/triage.h"
#include "unit/pattern_cases.h"
#include "unit/tensor_view.h"

namespace triage {
namespace {

using test::PatternCase;
using test::View;

constexpr DLDataType kFloat{kDLFloat, 32, 1}, kInt32{kDLInt, 32, 1}, kByte{kDLUInt, 8, 1};

// A tensor argument with memory of exactly its size.
struct Argument {
  std::string name;
  std::vector<char> memory;
  std::unique_ptr<View> view;
};

// Valid arguments of one call. `tensors` are broken one field at a time, the rest by name.
struct Call {
  BlockPattern pattern;
  std::vector<Argument> tensors;
  std::int64_t rows = 0, cols = 0;
  int block = 16;
  SpmmOptions spmm;
  LinearOptions linear;
  SddmmOptions sddmm;
  PackedFor packed_for = PackedFor::linear;
  std::vector<char> scratch;
  Workspace workspace;

  View& add(const std::string& name, DLDataType dtype, std::vector<std::int64_t> shape) {
    std::int64_t bytes = dtype.bits / 8;
    for (const std::int64_t length : shape) bytes *= length;
    tensors.push_back({name, std::vector<char>(static_cast<std::size_t>(bytes), 1), nullptr});
    Argument& argument = tensors.back();
    argument.view = std::make_unique<View>(argument.memory.data(), dtype, std::move(shape));
    return *argument.view;
  }
  const DLTensor& operator[](const char* name) const { return find(name).view->fields; }
  Argument& find(const std::string& name) const {
    for (const Argument& argument : tensors) {
      if (argument.name == name) return const_cast<Argument&>(argument);
    }
    throw std::logic_error("no such argument: " + name);
  }
  void provide_workspace(std::size_t bytes) {
    scratch.resize(bytes + 512);
    const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
    workspace = {scratch.data() + (256 - address % 256), bytes};
  }
};

struct Operation {
  const char* name;
  std::function<std::unique_ptr<Call>()> make;
  std::function<void(Call&)> run;
  // Lengths that are free in one argument and bind another, as "argument.dimension": the sentence may name any
  // argument.
  std::vector<std::string> free_lengths;
};

PatternCase the_case() {
  std::mt19937 random(1);
  return test::make_case(70, 100, 16, 0.4, random);
}

BlockPattern the_pattern() {
  const PatternCase p = the_case();
  return BlockPattern::from_bsr(test::view(p.crow), test::view(p.col), p.rows, p.cols, p.block);
}

template <typename T>
void fill(Call& call, const char* name, const std::vector<T>& data) {
  std::memcpy(call.find(name).memory.data(), data.data(), data.size() * sizeof(T));
}

std::unique_ptr<Call> with_indices() {
  const PatternCase p = the_case();
  auto call = std::make_unique<Call>();
  call->pattern = the_pattern();
  call->rows = p.rows;
  call->cols = p.cols;
  call->add("crow_indices", kInt32, {p.block_rows + 1});
  call->add("col_indices", kInt32, {static_cast<std::int64_t>(p.col.size())});
  fill(*call, "crow_indices", p.crow);
  fill(*call, "col_indices", p.col);
  return call;
}

// A call with the pattern's values under `values_name` and dense tensors [rows, cols].
struct Dense {
  const char* name;
  std::vector<std::int64_t> shape;
};
std::unique_ptr<Call> with_values(const char* values_name, const std::vector<Dense>& dense) {
  auto call = std::make_unique<Call>();
  call->pattern = the_pattern();
  if (values_name != nullptr) call->add(values_name, kFloat, {call->pattern.nnz_blocks(), 16, 16});
  for (const Dense& d : dense) call->add(d.name, kFloat, d.shape);
  return call;
}

void from_bsr(Call& c) { BlockPattern::from_bsr(c["crow_indices"], c["col_indices"], c.rows, c.cols, c.block); }
void from_mask(Call& c) { BlockPattern::from_mask(c["mask"], c.rows, c.cols, c.block); }
void from_dense(Call& c) { BlockPattern::from_dense(c["matrix"], c.block); }
void update(Call& c) { c.pattern.update(c["crow_indices"], c["col_indices"]); }
void gather(Call& c) { gather_blocks(c.pattern, c["matrix"], c["values"]); }
void scatter(Call& c) { scatter_blocks(c.pattern, c["values"], c["matrix"]); }
void run_spmm(Call& c) { spmm(c.pattern, c["a_values"], c["b"], c["c"], c.spmm, c.workspace); }
void query_spmm(Call& c) { spmm_workspace_bytes(c.pattern, c["a_values"], c["b"], c["c"], c.spmm); }
void run_linear(Call& c) { linear(c.pattern, c["w_values"], c["x"], &c["bias"], c["y"], c.linear, c.workspace); }
void query_linear(Call& c) { linear_workspace_bytes(c.pattern, c["w_values"], c["x"], &c["bias"], c["y"], c.linear); }
void run_sddmm(Call& c) { sddmm(c.pattern, c["x"], c["y"], c["values"], c.sddmm, c.workspace); }
void query_sddmm(Call& c) { sddmm_workspace_bytes(c.pattern, c["x"], c["y"], c["values"], c.sddmm); }
void run_prepack(Call& c) { prepack(c.pattern, c["values"], c["packed"], c.packed_for); }

std::unique_ptr<Call> make_spmm() {
  auto call = with_values("a_values", {{"b", {100, 24}}, {"c", {70, 24}}});
  call->provide_workspace(spmm_workspace_bytes(call->pattern, (*call)["a_values"], (*call)["b"], (*call)["c"]));
  return call;
}

std::unique_ptr<Call> make_linear() {
  auto call = with_values("w_values", {{"x", {24, 100}}, {"bias", {70}}, {"y", {24, 70}}});
  Call& c = *call;
  call->provide_workspace(linear_workspace_bytes(c.pattern, c["w_values"], c["x"], &c["bias"], c["y"]));
  return call;
}

std::unique_ptr<Call> make_sddmm(SddmmLayout layout) {
  const bool rows_first = layout == SddmmLayout::x_yt;
  auto call = rows_first ? with_values("values", {{"x", {70, 24}}, {"y", {100, 24}}})
                         : with_values("values", {{"x", {24, 70}}, {"y", {24, 100}}});
  call->sddmm.layout = layout;
  Call& c = *call;
  call->provide_workspace(sddmm_workspace_bytes(c.pattern, c["x"], c["y"], c["values"], c.sddmm));
  return call;
}

std::vector<Operation> operations() {
  const auto make_mask = [] {
    auto call = with_indices();
    call->tensors.clear();
    call->add("mask", kByte, {5, 7});
    return call;
  };
  const auto make_dense = [] { return with_values(nullptr, {{"matrix", {70, 100}}}); };
  const auto make_copy = [] { return with_values("values", {{"matrix", {70, 100}}}); };
  const auto make_packing = [] {
    auto call = with_values("values", {});
    call->add("packed", kFloat, {call->pattern.nnz_blocks(), 16, 16});
    return call;
  };
  const auto make_x_yt = [] { return make_sddmm(SddmmLayout::x_yt); };
  const auto make_xt_y = [] { return make_sddmm(SddmmLayout::xt_y); };
  return {
      {"from_bsr", with_indices, from_bsr, {"col_indices.0"}},
      {"from_mask", make_mask, from_mask, {}},
      {"from_dense", make_dense, from_dense, {"matrix.0", "matrix.1"}},
      {"update", with_indices, update, {}},
      {"gather_blocks", make_copy, gather, {}},
      {"scatter_blocks", make_copy, scatter, {}},
      {"spmm", make_spmm, run_spmm, {"b.1"}},
      {"spmm_workspace_bytes", make_spmm, query_spmm, {"b.1"}},
      {"linear", make_linear, run_linear, {"x.0"}},
      {"linear_workspace_bytes", make_linear, query_linear, {"x.0"}},
      {"sddmm x_yt", make_x_yt, run_sddmm, {"x.1"}},
      {"sddmm xt_y", make_xt_y, run_sddmm, {"x.0"}},
      {"sddmm_workspace_bytes", make_x_yt, query_sddmm, {"x.1"}},
      {"prepack", make_packing, run_prepack, {}},
  };
}

// Runs a broken call. Empty if it failed as it should, else what was wrong with the answer.
std::string judge(const Operation& operation, Call& call, ErrorCode code, const std::vector<std::string>& names) {
  std::vector<std::vector<char>> before;
  for (const Argument& argument : call.tensors) before.push_back(argument.memory);
  std::string complaint = "was accepted";
  try {
    operation.run(call);
  } catch (const Error& error) {
    const std::string sentence = error.what();
    bool named = names.empty();
    for (const std::string& name : names) named |= sentence.find(name) != std::string::npos;
    complaint.clear();
    if (error.code() != code)
      complaint = "got the code " + std::to_string(static_cast<int>(error.code())) + ": " + sentence;
    if (!named) complaint = "got a sentence that does not name the argument: " + sentence;
    if (sentence.size() < 20) complaint = "got hardly a sentence: " + sentence;
  }
  for (std::size_t i = 0; i < before.size(); i++) {
    if (before[i] != call.tensors[i].memory) complaint += " and wrote to " + call.tensors[i].name;
  }
  return complaint;
}

struct FieldMutation {
  std::string what;
  std::function<void(View&)> apply;
  std::string length;      // "0" or "1" if it changes that dimension to another sensible length
  bool names_any = false;  // another argument may be the one that no longer fits
};

// What can be wrong with a tensor of this shape.
std::vector<FieldMutation> field_mutations(const View& valid) {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  const int ndim = valid.fields.ndim;
  std::vector<FieldMutation> list;
  const auto add = [&](std::string what, std::function<void(View&)> apply) {
    list.push_back({what, apply, "", false});
  };
  for (const int wrong : {0, -1, 4, 100, ndim - 1}) {
    add("ndim " + std::to_string(wrong), [wrong](View& v) { v.fields.ndim = wrong; });
  }
  add("shape null", [](View& v) { v.fields.shape = nullptr; });
  add("data null", [](View& v) { v.fields.data = nullptr; });
  for (int d = 0; d < ndim; d++) {
    for (const std::int64_t wrong : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::min(), kHuge, kHuge / 2}) {
      add("shape[" + std::to_string(d) + "] " + std::to_string(wrong), [=](View& v) { v.shape[d] = wrong; });
    }
    for (const int by : {-1, 1}) {
      list.push_back({"shape[" + std::to_string(d) + "] by " + std::to_string(by), [=](View& v) { v.shape[d] += by; },
                      std::to_string(d), false});
    }
  }
  if (ndim > 1)
    add("all lengths 2^32",
        [](View& v) { v.shape.assign(v.shape.size(), std::int64_t{1} << 32), v.fields.shape = v.shape.data(); });
  for (const auto& [what, dtype] :
       std::map<std::string, DLDataType>{{"int8", {kDLInt, 8, 1}},
                                         {"uint32", {kDLUInt, 32, 1}},
                                         {"float8", {kDLFloat, 8, 1}},
                                         {"bfloat32", {kDLBfloat, 32, 1}},
                                         {"complex64", {kDLComplex, 64, 1}},
                                         {"code 77", {77, 32, 1}},
                                         {"4 lanes", {valid.fields.dtype.code, valid.fields.dtype.bits, 4}},
                                         {"0 lanes", {valid.fields.dtype.code, valid.fields.dtype.bits, 0}}}) {
    add(what, [dtype = dtype](View& v) { v.fields.dtype = dtype; });
  }
  if (valid.fields.dtype.code == kDLFloat) {
    list.push_back({"float16 among float32", [](View& v) { v.fields.dtype.bits = 16; }, "", true});
    list.push_back({"float64 among float32", [](View& v) { v.fields.dtype.bits = 64; }, "", true});
  }
  for (const int type : {0, -5, 7, 8, 10, 13, 99}) {
    add("device type " + std::to_string(type),
        [type](View& v) { std::memcpy(&v.fields.device.device_type, &type, sizeof(type)); });
  }
  if (valid.fields.dtype.bits > 8) {
    add("misaligned by byte_offset", [](View& v) { v.fields.byte_offset = 1; });
    add("misaligned data", [](View& v) { v.fields.data = static_cast<char*>(v.fields.data) + 1; });
  }
  const auto strides = [&](std::string what, std::vector<std::int64_t> wrong) {
    add("strides " + what, [wrong](View& v) {
      v.strides = wrong;
      v.fields.strides = v.strides.data();
    });
  };
  if (ndim == 1) {
    strides("2", {2});
    strides("0", {0});
    strides("-1", {-1});
  } else if (ndim == 2) {
    const std::int64_t cols = valid.shape[1];
    strides("inner 2", {2 * cols, 2});
    strides("inner 0", {cols, 0});
    strides("inner -1", {cols, -1});
    strides("transposed", {1, valid.shape[0]});
    strides("outer one short", {cols - 1, 1});
    strides("outer 0", {0, 1});
    strides("outer negative", {-cols, 1});
    strides("outer huge", {kHuge / 4, 1});
  } else {
    strides("blocks apart", {512, 16, 1});
    strides("rows apart", {256, 17, 1});
    strides("column-major blocks", {256, 1, 16});
  }
  return list;
}

TEST(ApiMutation, TensorFields) {
  int count = 0;
  for (const Operation& operation : operations()) {
    const std::unique_ptr<Call> sample = operation.make();
    ASSERT_NO_THROW(operation.run(*sample)) << operation.name << ": what is broken below must be valid first";
    for (std::size_t i = 0; i < sample->tensors.size(); i++) {
      for (const FieldMutation& mutation : field_mutations(*sample->tensors[i].view)) {
        const std::unique_ptr<Call> call = operation.make();
        const std::string name = call->tensors[i].name;
        std::vector<std::string> names{name};
        bool free_length = mutation.names_any && call->tensors.size() > 1;
        if (mutation.names_any && call->tensors.size() == 1) continue;  // legal
        for (const std::string& free : operation.free_lengths) free_length |= free == name + "." + mutation.length;
        if (free_length && call->tensors.size() == 1) continue;  // legal
        if (free_length) names.clear();
        mutation.apply(*call->tensors[i].view);
        EXPECT_EQ(judge(operation, *call, ErrorCode::invalid_argument, names), "")
            << operation.name << ", " << name << ", " << mutation.what;
        count++;
      }
    }
  }
  EXPECT_GE(count, 200);
  RecordProperty("mutations", count);
}

TEST(ApiMutation, TensorsElsewhere) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "with a CUDA device, host memory must not be passed off as its";
  for (const Operation& operation : operations()) {
    const std::unique_ptr<Call> sample = operation.make();
    for (std::size_t i = 0; i < sample->tensors.size(); i++) {
      const std::unique_ptr<Call> call = operation.make();
      call->tensors[i].view->fields.device = {kDLCUDA, 0};
      const bool alone = call->tensors.size() == 1;  // it decides on the device, which is not there
      const ErrorCode code = alone && TRIAGE_HAS_CUDA == 0 ? ErrorCode::unsupported : ErrorCode::invalid_argument;
      EXPECT_EQ(judge(operation, *call, code, {call->tensors[i].name}), "") << operation.name;
    }
  }
}

TEST(ApiMutation, SizesAndOptions) {
  struct Mutation {
    const char* operation;
    const char* name;
    std::function<void(Call&)> apply;
  };
  std::vector<Mutation> list;
  for (const char* operation : {"from_bsr", "from_mask"}) {
    for (const std::int64_t wrong : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::min(), std::int64_t{1} << 31,
                                     std::numeric_limits<std::int64_t>::max()}) {
      list.push_back({operation, "rows", [wrong](Call& c) { c.rows = wrong; }});
      list.push_back({operation, "cols", [wrong](Call& c) { c.cols = wrong; }});
    }
  }
  for (const char* operation : {"from_bsr", "from_mask", "from_dense"}) {
    for (const int wrong :
         {0, 1, -16, 8, 15, 17, 48, 256, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()}) {
      list.push_back({operation, "block_size", [wrong](Call& c) { c.block = wrong; }});
    }
  }
  // One block row more or less than the arrays describe; fewer block columns than the indices need.
  list.push_back({"from_bsr", "crow_indices", [](Call& c) { c.rows = 81; }});
  list.push_back({"from_bsr", "crow_indices", [](Call& c) { c.rows = 64; }});
  list.push_back({"from_bsr", "col_indices", [](Call& c) { c.cols = 16; }});
  list.push_back({"from_bsr", "col_indices", [](Call& c) { c.cols = 0; }});
  list.push_back({"from_mask", "mask", [](Call& c) { c.rows = 81; }});
  list.push_back({"from_mask", "mask", [](Call& c) { c.cols = 96; }});
  for (const int wrong : {-1, 2, 1000}) {
    for (const char* operation : {"spmm", "spmm_workspace_bytes"}) {
      list.push_back(
          {operation, "values_layout", [=](Call& c) { c.spmm.values_layout = static_cast<ValuesLayout>(wrong); }});
    }
    for (const char* operation : {"linear", "linear_workspace_bytes"}) {
      list.push_back(
          {operation, "values_layout", [=](Call& c) { c.linear.values_layout = static_cast<ValuesLayout>(wrong); }});
      list.push_back(
          {operation, "activation", [=](Call& c) { c.linear.activation = static_cast<Activation>(wrong * 7); }});
    }
    for (const char* operation : {"sddmm x_yt", "sddmm_workspace_bytes"}) {
      list.push_back({operation, "layout", [=](Call& c) { c.sddmm.layout = static_cast<SddmmLayout>(wrong); }});
    }
    list.push_back({"prepack", "packed_for", [=](Call& c) { c.packed_for = static_cast<PackedFor>(wrong); }});
  }
  for (const Operation& operation : operations()) {
    for (const Mutation& mutation : list) {
      if (operation.name != std::string(mutation.operation)) continue;
      const std::unique_ptr<Call> call = operation.make();
      mutation.apply(*call);
      EXPECT_EQ(judge(operation, *call, ErrorCode::invalid_argument, {mutation.name}), "")
          << operation.name << ", " << mutation.name;
    }
  }
}

TEST(ApiMutation, Overlaps) {
  struct Overlap {
    const char* operation;
    const char* output;
    const char* input;
  };
  const Overlap list[] = {{"spmm", "c", "b"},
                          {"spmm", "c", "a_values"},
                          {"linear", "y", "x"},
                          {"linear", "y", "w_values"},
                          {"linear", "y", "bias"},
                          {"sddmm x_yt", "values", "x"},
                          {"sddmm x_yt", "values", "y"},
                          {"gather_blocks", "values", "matrix"},
                          {"scatter_blocks", "matrix", "values"},
                          {"prepack", "packed", "values"}};
  for (const Operation& operation : operations()) {
    for (const Overlap& overlap : list) {
      if (operation.name != std::string(overlap.operation)) continue;
      // The output's last row over the input's first bytes, and the other way round: both in one buffer.
      for (const bool output_first : {true, false}) {
        const std::unique_ptr<Call> call = operation.make();
        Argument &output = call->find(overlap.output), &input = call->find(overlap.input);
        const std::size_t output_bytes = output.memory.size(), input_bytes = input.memory.size();
        std::vector<char> both(output_bytes + input_bytes - 4 + 64, 1);
        char* base = both.data() + (64 - reinterpret_cast<std::uintptr_t>(both.data()) % 64);
        output.view->fields.data = output_first ? base : base + input_bytes - 4;
        input.view->fields.data = output_first ? base + output_bytes - 4 : base;
        const std::vector<char> before = both;
        EXPECT_EQ(judge(operation, *call, ErrorCode::invalid_argument, {std::string(overlap.output) + " overlaps"}), "")
            << operation.name << ", " << overlap.output << " and " << overlap.input;
        EXPECT_EQ(both, before);
      }
    }
  }
}

TEST(ApiMutation, ColumnsOfOneBufferSideBySideAreNoOverlap) {
  const std::unique_ptr<Call> call = make_linear();
  std::vector<float> buffer(24 * 200, 1.0f);
  const auto place = [&](const char* name, std::int64_t column) {
    View& view = *call->find(name).view;
    view.fields.data = buffer.data() + column;
    view.strides = {200, 1};
    view.fields.strides = view.strides.data();
  };
  place("x", 0);
  place("y", 100);
  EXPECT_NO_THROW(run_linear(*call));
  place("y", 99);
  EXPECT_THROW(run_linear(*call), Error);
  place("y", 131);  // its rows' ends wrap into x's next rows
  EXPECT_THROW(run_linear(*call), Error);
  place("x", 71);
  place("y", 0);
  EXPECT_NO_THROW(run_linear(*call));
}

TEST(ApiMutation, Workspaces) {
  for (const Operation& operation : operations()) {
    const std::string name = operation.name;
    if (name != "spmm" && name != "linear" && name != "sddmm x_yt" && name != "sddmm xt_y") continue;
    const auto broken = [&](ErrorCode code, const char* word, const std::function<void(Call&)>& apply) {
      const std::unique_ptr<Call> call = operation.make();
      ASSERT_GT(call->workspace.bytes, 0u) << "the case is to need a workspace";
      apply(*call);
      EXPECT_EQ(judge(operation, *call, code, {word}), "") << name << ", " << word;
    };
    broken(ErrorCode::out_of_memory, "workspace.bytes", [](Call& c) { c.workspace = {}; });
    broken(ErrorCode::out_of_memory, "workspace.bytes", [](Call& c) { c.workspace.bytes--; });
    broken(ErrorCode::invalid_argument, "workspace.data", [](Call& c) { c.workspace.data = nullptr; });
    broken(ErrorCode::invalid_argument, "workspace.data",
           [](Call& c) { c.workspace.data = static_cast<char*>(c.workspace.data) + 16; });
    const std::unique_ptr<Call> sample = operation.make();
    for (std::size_t i = 0; i < sample->tensors.size(); i++) {
      broken(ErrorCode::invalid_argument, "workspace overlaps", [i](Call& c) {
        c.tensors[i].view->fields.data = static_cast<char*>(c.workspace.data) + (c.workspace.bytes - 4);
        c.scratch.resize(c.scratch.size());
      });
    }
  }
}

// Valid index arrays with a few entries changed: accepted exactly if they are still valid.
bool is_valid(const PatternCase& p, const std::vector<std::int64_t>& crow, const std::vector<std::int64_t>& col) {
  if (crow.front() != 0 || crow.back() != static_cast<std::int64_t>(col.size())) return false;
  for (std::size_t r = 0; r + 1 < crow.size(); r++) {
    if (crow[r] > crow[r + 1] || crow[r + 1] > static_cast<std::int64_t>(col.size())) return false;
    for (std::int64_t i = crow[r]; i < crow[r + 1]; i++) {
      if (col[i] < 0 || col[i] >= p.block_cols || (i > crow[r] && col[i] <= col[i - 1])) return false;
    }
  }
  return true;
}

TEST(ApiMutation, IndexArrays) {
  int refused = 0, accepted = 0;
  for (unsigned seed = 0; seed < 3000; seed++) {
    std::mt19937 random(seed);
    const PatternCase p = test::random_case(seed % 50, 20);
    std::vector<std::int64_t> crow(p.crow.begin(), p.crow.end()), col(p.col.begin(), p.col.end());
    for (unsigned changes = 1 + random() % 2; changes > 0; changes--) {
      std::vector<std::int64_t>& array = random() % 2 || col.empty() ? crow : col;
      std::int64_t& entry = array[random() % array.size()];
      switch (random() % 8) {
        case 0:
          entry = entry == std::numeric_limits<std::int64_t>::max() ? 0 : entry + 1;
          break;
        case 1:
          entry = entry == std::numeric_limits<std::int64_t>::min() ? 0 : entry - 1;
          break;
        case 2:
          entry = ~entry;
          break;
        case 3:
          entry = static_cast<std::int64_t>(random() % 40);
          break;
        case 4:
          entry ^= std::int64_t{1} << 32;
          break;  // looks right in 32 bits
        case 5:
          entry = std::numeric_limits<std::int64_t>::max();
          break;
        case 6:
          entry = std::numeric_limits<std::int64_t>::min();
          break;
        default:
          std::swap(entry, array[random() % array.size()]);
      }
    }
    const bool valid = is_valid(p, crow, col);
    try {
      BlockPattern::from_bsr(test::view(crow), test::view(col), p.rows, p.cols, p.block);
      EXPECT_TRUE(valid) << "seed " << seed;
      accepted++;
    } catch (const Error& error) {
      EXPECT_FALSE(valid) << "seed " << seed << ": " << error.what();
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(std::string(error.what()).find("_indices"), std::string::npos) << error.what();
      refused++;
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(accepted, 50);
}

}  // namespace
}  // namespace triage
