#include "verdict/static/instruction_facts.h"

#include <cctype>
#include <cstring>
#include <sstream>

namespace triage::static_triage {

const std::vector<InstructionFact>& instruction_facts() {
  // More special rows stand before more general ones: the first match counts. Registers of the examples: %r .b32,
  // %d .b64, %f .f32, %g .f64, %h .b16, %p .pred, %q .b128; `tile` is shared memory.
  static const std::vector<InstructionFact> kFacts = {
      // ---- matrix multiply ----
      {"wgmma", "wgmma", "warpgroup matrix multiply",
       Role::matrix, "wgmma", "", "", "90a", "8.0",
       "9.7.15.5 wgmma.mma_async",
       "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0,%f1,%f2,%f3}, %d0, %d1, 1, 1, 1, 0, 0;"},
      {"tcgen05_i8", "tcgen05 on int8", "fifth-generation tensor core on int8",
       Role::matrix, "tcgen05.mma", "kind::i8", "", "100a 110a", "8.6",
       "9.7.16.10.9.1 tcgen05.mma", "tcgen05.mma.cta_group::1.kind::i8 [%r0], %d0, %d1, %r1, %p0;"},
      {"tcgen05_shift", "tcgen05.shift", "shift of tensor memory",
       Role::matrix, "tcgen05.shift", "", "", "100a 103a 110a", "8.6",
       "9.7.16.9.3 tcgen05.shift", "tcgen05.shift.cta_group::1.down [%r0];"},
      {"tcgen05", "tcgen05", "fifth-generation tensor core and tensor memory",
       Role::matrix, "tcgen05", "", "",
       "100f 110f", "8.6", "9.7.16.10 tcgen05.mma", "tcgen05.mma.cta_group::1.kind::f16 [%r0], %d0, %d1, %r1, %p0;"},
      {"mma_block_scaled", "block-scaled mma", "warp-level matrix multiply with block scales",
       Role::matrix, "mma",
       "block_scale kind::mxf8f6f4 kind::mxf4 kind::mxf4nvf4", "", "120f", "8.7", "9.7.14.3 Block Scaling for mma.sync",
       "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0 "
       "{%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, {%f0,%f1,%f2,%f3}, %r6, {0,0}, %r7, {0,0};"},
      {"mma_fp4_fp6", "fp4/fp6 mma", "warp-level matrix multiply on fp4 and fp6",
       Role::matrix, "mma", "kind::f8f6f4 e2m1 e3m2 e2m3", "", "120f", "8.7",
       "9.7.14.5.14 mma",
       "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e2m1.e2m1.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, "
       "{%r4,%r5}, {%f0,%f1,%f2,%f3};"},
      {"mma_fp8", "fp8 mma", "warp-level matrix multiply on fp8",
       Role::matrix, "mma", "e4m3 e5m2", "", "89+", "8.4", "9.7.14.5.14 mma",
       "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, "
       "{%f0,%f1,%f2,%f3};"},
      {"mma_f64_large", "fp64 mma", "warp-level matrix multiply on fp64 with 16 rows",
       Role::matrix, "mma", "f64&m16n8k4 f64&m16n8k8 f64&m16n8k16", "",
       "90+", "7.8", "9.7.14.5.14 mma",
       "mma.sync.aligned.m16n8k4.row.col.f64.f64.f64.f64 {%g0,%g1,%g2,%g3}, {%g4,%g5}, {%g6}, {%g0,%g1,%g2,%g3};"},
      {"mma_sparse", "sparse mma", "warp-level matrix multiply with a 2:4 sparse operand",
       Role::matrix, "mma.sp mma.sp::ordered_metadata", "", "", "80+", "7.0",
       "9.7.14.6.3 mma.sp",
       "mma.sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1}, "
       "{%r2,%r3}, {%f0,%f1,%f2,%f3}, %r4, 0x0;"},
      {"mma_ampere", "mma of 8.0", "warp-level matrix multiply with the shapes and types of 8.0",
       Role::matrix, "mma",
       "bf16 tf32 f64 m16n8k4 m16n8k16 m16n8k32 m16n8k64 m16n8k128 m16n8k256", "", "80+", "7.0", "9.7.14.5.14 mma",
       "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1,%r2,%r3}, {%r4,%r5}, "
       "{%f0,%f1,%f2,%f3};"},
      {"mma", "mma", "warp-level matrix multiply",
       Role::matrix, "mma", "m16n8k8 m8n8k16 m8n8k32 m8n8k128", "", "75+", "6.5",
       "9.7.14.5.14 mma",
       "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0,%f1,%f2,%f3}, {%r0,%r1}, {%r2}, {%f0,%f1,%f2,%f3};"},
      {"wmma_ampere", "wmma of 8.0", "wmma on bf16, tf32 or fp64",
       Role::matrix, "wmma", "bf16 tf32 f64", "", "80+", "7.0",
       "9.7.14.4.5 wmma.mma", "wmma.load.a.sync.aligned.row.m16n16k16.bf16 {%r0,%r1,%r2,%r3}, [%d0];"},
      {"wmma", "wmma", "wmma on fp16",
       Role::matrix, "wmma", "", "", "75+", "6.0", "9.7.14.4.5 wmma.mma",
       "wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, [%d0];"},
      {"ldmatrix_b8", "8-bit ldmatrix", "matrix load of 8-bit and narrower types",
       Role::copy, "ldmatrix", "m16n16 m8n16 b8", "",
       "100f 110f 120f", "8.6", "9.7.14.5.15 ldmatrix",
       "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0,%r1}, [%r2];"},
      {"ldmatrix", "ldmatrix", "matrix load from shared memory",
       Role::copy, "ldmatrix", "", "", "75+", "6.5", "9.7.14.5.15 ldmatrix",
       "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r0}, [%r1];"},
      {"stmatrix_b8", "8-bit stmatrix", "matrix store of 8-bit types",
       Role::copy, "stmatrix", "m16n8 b8", "", "100f 110f 120f", "8.6",
       "9.7.14.5.16 stmatrix", "stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [%r0], {%r1};"},
      {"stmatrix", "stmatrix", "matrix store to shared memory",
       Role::copy, "stmatrix", "", "", "90+", "7.8", "9.7.14.5.16 stmatrix",
       "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r0], {%r1};"},
      // ---- asynchronous copies ----
      {"tma_sm100", "TMA modes of 10.0", "tensor copy with 2-CTA, gather4, scatter4 or im2col::w::128 modes",
       Role::copy,
       "cp.async.bulk.tensor cp.async.bulk.prefetch.tensor",
       "cta_group::1 cta_group::2 tile::scatter4 im2col::w::128 tile::gather4&shared::cluster", "", "100f 110f", "8.6",
       "9.7.9.27.1.2 cp.async.bulk.tensor",
       "cp.async.bulk.tensor.2d.cta_group::2.shared::cluster.global.mbarrier::complete_tx::bytes [%r0], "
       "[%d0, {%r1,%r2}], [%r3];"},
      {"tma", "TMA", "tensor memory accelerator copy",
       Role::copy,
       "cp.async.bulk.tensor cp.async.bulk.prefetch.tensor cp.reduce.async.bulk.tensor prefetch.tensormap", "", "",
       "90+", "8.0", "9.7.9.27.1.2 cp.async.bulk.tensor",
       "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r0], [%d0, {%r1,%r2}], [%r3];"},
      {"bulk_copy", "bulk copy", "bulk copy through the asynchronous proxy",
       Role::copy, "cp.async.bulk cp.reduce.async.bulk", "", "", "90+", "8.0",
       "9.7.9.25.4.1 cp.async.bulk",
       "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r0], [%d0], %r1, [%r2];"},
      {"cp_async", "cp.async", "asynchronous copy to shared memory",
       Role::copy, "cp.async", "", "", "80+", "7.0", "9.7.9.25.3.1 cp.async",
       "cp.async.cg.shared.global [%r0], [%d0], 16;"},
      {"tensormap_replace", "tensormap.replace", "change of a tensor map on the device",
       Role::copy, "tensormap.replace", "", "", "90a 100f 110f 120f", "8.3",
       "9.7.9.28 tensormap.replace", "tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%d0], %d1;"},
      {"st_bulk", "st.bulk", "bulk initialisation of shared memory",
       Role::copy, "st.bulk", "", "", "100+", "8.6", "9.7.9.13 st.bulk",
       "st.bulk.shared::cta [%d0], %d1, 0;"},
      {"wide_load", "256-bit access", "256-bit load or store",
       Role::copy, "ld st",
       "v8&b32 v8&f32 v8&u32 v8&s32 v4&b64 v4&f64 v4&u64 v4&s64", "", "100+", "8.8", "9.7.9.8 ld",
       "ld.global.v8.b32 {%r0,%r1,%r2,%r3,%r4,%r5,%r6,%r7}, [%d0];"},
      {"st_async", "st.async", "asynchronous store or reduction to another block of the cluster",
       Role::cluster, "st.async red.async", "", "", "90+", "8.1",
       "9.7.9.12 st.async", "st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r0], %r1, [%r2];"},
      // ---- barriers and fences ----
      {"mbarrier_tx", "mbarrier of 9.0", "mbarrier with transaction counts, try_wait, relaxed or cluster scope",
       Role::barrier,
       "mbarrier.try_wait mbarrier.expect_tx mbarrier.complete_tx", "", "", "90+", "8.0",
       "9.7.13.15.16 mbarrier.try_wait", "mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r0], %r1;"},
      {"mbarrier_tx", "mbarrier of 9.0", "mbarrier with transaction counts, try_wait, relaxed or cluster scope",
       Role::barrier, "mbarrier",
       "expect_tx cluster shared::cluster relaxed", "", "90+", "8.0", "9.7.13.15.13 mbarrier.arrive",
       "mbarrier.arrive.expect_tx.shared::cta.b64 %d0, [%r0], %r1;"},
      {"mbarrier", "mbarrier", "barrier object in shared memory",
       Role::barrier, "mbarrier", "", "", "80+", "7.0", "9.7.13.15.9 mbarrier.init",
       "mbarrier.init.shared.b64 [%r0], 1;"},
      {"fence_async", "async fence", "fence of the asynchronous or tensor-map proxy, or of a cluster",
       Role::barrier, "fence",
       "proxy&async proxy&async::global proxy&async::shared::cta proxy&async::shared::cluster mbarrier_init "
       "proxy&tensormap::generic cluster",
       "", "90+", "8.0", "9.7.13.4 membar, fence", "fence.proxy.async.shared::cta;"},
      {"elect_sync", "elect.sync", "election of one lane",
       Role::barrier, "elect.sync", "", "", "90+", "8.0", "9.7.13.14 elect.sync",
       "elect.sync %r0|%p0, -1;"},
      // ---- clusters ----
      {"cluster_launch_control", "cluster launch control", "work stealing between clusters",
       Role::cluster, "clusterlaunchcontrol", "", "", "100+", "8.6",
       "9.7.13.17 clusterlaunchcontrol.try_cancel",
       "clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [%r0], [%r1];"},
      {"cluster", "clusters", "thread block clusters and distributed shared memory",
       Role::cluster, "barrier.cluster mapa getctarank", "", "", "90+", "7.8",
       "9.7.13.3 barrier.cluster", "barrier.cluster.arrive.aligned;"},
      {"cluster", "clusters", "thread block clusters and distributed shared memory",
       Role::cluster, "", "shared::cluster", "", "90+", "7.8",
       "9.7.9.8 ld", "ld.shared::cluster.u32 %r0, [%r1];"},
      {"cluster", "clusters", "thread block clusters and distributed shared memory",
       Role::cluster, "", "", "%cluster_", "90+", "7.8",
       "10.16 %cluster_ctarank", "mov.u32 %r0, %cluster_ctarank;"},
      {"cluster", "clusters", "thread block clusters and distributed shared memory",
       Role::cluster, ".reqnctapercluster .explicitcluster .maxclusterrank", "", "",
       "90+", "7.8", "11.7.1 .reqnctapercluster", ""},
      {"multimem", "multimem", "access to several devices at once",
       Role::atomic, "multimem", "", "", "90+", "8.1", "9.7.9.14 multimem",
       "multimem.red.global.add.u32 [%d0], %r0;"},
      // ---- registers, launch ----
      {"setmaxnreg", "setmaxnreg", "redistribution of registers between warps",
       Role::registers, "setmaxnreg", "", "",
       "90a 100f 110f 120f", "8.0", "9.7.19.5 setmaxnreg", "setmaxnreg.inc.sync.aligned.u32 232;"},
      {"griddepcontrol", "griddepcontrol", "programmatic dependent launch",
       Role::launch, "griddepcontrol", "", "",
       "90+", "7.8", "9.7.13.13 griddepcontrol", "griddepcontrol.wait;"},
      // ---- reductions, atomics ----
      {"redux_f32", "fp32 redux.sync", "warp reduction on fp32",
       Role::math, "redux.sync", "f32", "", "100f", "8.6", "9.7.13.12 redux.sync",
       "redux.sync.max.f32 %f0, %f1, -1;"},
      {"redux", "redux.sync", "warp reduction",
       Role::math, "redux.sync", "", "", "80+", "7.0", "9.7.13.12 redux.sync",
       "redux.sync.add.s32 %r0, %r1, -1;"},
      {"atomic_vector", "vector atomics", "atomics on vectors and 128 bits",
       Role::atomic, "atom red", "v2 v4 v8 b128", "", "90+", "8.1",
       "9.7.13.5 atom", "red.global.add.v2.f32 [%d0], {%f0,%f1};"},
      {"atomic_bf16", "bf16 atomics", "atomics on bf16",
       Role::atomic, "atom red", "bf16 bf16x2", "", "90+", "7.8", "9.7.13.5 atom",
       "red.global.add.noftz.bf16x2 [%d0], %r0;"},
      // ---- conversions and arithmetic ----
      {"cvt_fp4_fp6", "fp4/fp6 conversion", "conversion to or from fp4, fp6 or ue8m0",
       Role::convert, "cvt",
       "e2m1x2 e2m3x2 e3m2x2 ue8m0x2", "", "100f 110f 120f", "8.6", "9.7.9.21 cvt",
       "cvt.rn.satfinite.e2m3x2.f32 %h0, %f0, %f1;"},
      {"cvt_fp8", "fp8 conversion", "conversion to or from fp8",
       Role::convert, "cvt", "e4m3x2 e5m2x2", "", "89+", "8.1",
       "9.7.9.21 cvt", "cvt.rn.satfinite.e4m3x2.f32 %h0, %f0, %f1;"},
      {"f32x2", "f32x2", "packed fp32 arithmetic",
       Role::math, "add sub mul fma", "f32x2", "", "100+", "8.6",
       "9.7.3.6 fma", "fma.rn.f32x2 %d0, %d1, %d2, %d3;"},
      {"ex2_bf16", "bf16 ex2", "exponential on bf16",
       Role::math, "ex2", "bf16 bf16x2", "", "90+", "7.8", "9.7.4.10 ex2",
       "ex2.approx.ftz.bf16x2 %r0, %r1;"},
  };
  return kFacts;
}

namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

// What stands in front of the opcode: braces, a label, a predicate.
std::string strip_prefix(const std::string& statement) {
  std::size_t at = 0;
  const auto skip_space = [&] {
    while (at < statement.size() && std::isspace(static_cast<unsigned char>(statement[at]))) ++at;
  };
  for (;;) {
    skip_space();
    if (at >= statement.size()) return "";
    if (statement[at] == '{' || statement[at] == '}') {
      ++at;
      continue;
    }
    if (statement[at] == '@') {
      while (at < statement.size() && !std::isspace(static_cast<unsigned char>(statement[at]))) ++at;
      continue;
    }
    std::size_t end = at;
    while (end < statement.size() && (std::isalnum(static_cast<unsigned char>(statement[end])) ||
                                      std::strchr("_$%", statement[end]))) {
      ++end;
    }
    // "label:" but not the "::" of a qualifier
    if (end > at && end < statement.size() && statement[end] == ':' &&
        (end + 1 >= statement.size() || statement[end + 1] != ':')) {
      at = end + 1;
      continue;
    }
    return statement.substr(at);
  }
}

// A qualifier list "b8 m16n8&x1" against the opcode's own qualifiers.
bool has_qualifiers(const std::vector<std::string>& own, const char* wanted) {
  if (!*wanted) return true;
  for (const std::string& alternative : split(wanted, ' ')) {
    bool all = true;
    for (const std::string& one : split(alternative, '&')) {
      bool found = false;
      for (const std::string& q : own) found = found || q == one;
      all = all && found;
    }
    if (all) return true;
  }
  return false;
}

bool has_head(const std::string& opcode, const char* heads) {
  if (!*heads) return true;
  for (const std::string& head : split(heads, ' ')) {
    if (opcode.rfind(head, 0) == 0 && (opcode.size() == head.size() || opcode[head.size()] == '.')) return true;
  }
  return false;
}

bool token_allows(const std::string& token, const Target& target) {
  const char last = token.back();
  const int sm = std::stoi(token);
  if (last == '+') return target.sm >= sm;
  if (last == 'a') return target.sm == sm && target.suffix == 'a';
  return target.suffix != 0 && target.sm >= sm && same_family(target.sm, sm);  // 'f'
}

std::string capability_text(int sm) { return std::to_string(sm / 10) + "." + std::to_string(sm % 10); }

}  // namespace

std::string opcode_of(const std::string& statement) {
  const std::string rest = strip_prefix(statement);
  std::size_t end = 0;
  while (end < rest.size() && (std::isalnum(static_cast<unsigned char>(rest[end])) || std::strchr("._:", rest[end]))) {
    ++end;
  }
  return rest.substr(0, end);
}

const InstructionFact* find_fact(const std::string& id) {
  for (const InstructionFact& fact : instruction_facts()) {
    if (id == fact.id) return &fact;
  }
  return nullptr;
}

const InstructionFact* match_instruction(const std::string& statement) {
  const std::string opcode = opcode_of(statement);
  if (opcode.empty()) return nullptr;
  const std::vector<std::string> qualifiers = split(opcode, '.');
  for (const InstructionFact& fact : instruction_facts()) {
    if (!has_head(opcode, fact.heads) || !has_qualifiers(qualifiers, fact.qualifiers)) continue;
    if (*fact.operand && statement.find(fact.operand) == std::string::npos) continue;
    return &fact;
  }
  return nullptr;
}

const InstructionFact* match_name(const std::string& identifier) {
  static const std::vector<std::pair<const char*, const char*>> kNames = {
      {"this_cluster", "cluster"},          {"cluster_group", "cluster"},
      {"__cluster_dims__", "cluster"},      {"__clusterGridDimInCluster", "cluster"},
      {"map_shared_rank", "cluster"},       {"__reduce_add_sync", "redux"},
      {"__reduce_max_sync", "redux"},       {"__reduce_min_sync", "redux"},
      {"cudaGridDependencySynchronize", "griddepcontrol"},
  };
  for (const auto& [name, id] : kNames) {
    if (identifier == name) return find_fact(id);
  }
  const std::string prefix = "__cuda_ptx_", suffix = "_is_not_supported_before_SM";
  const std::size_t end = identifier.find(suffix);
  if (identifier.rfind(prefix, 0) != 0 || end == std::string::npos) return nullptr;
  const std::string wrapper = identifier.substr(prefix.size(), end - prefix.size());
  const InstructionFact* best = nullptr;
  std::size_t best_length = 0;
  for (const InstructionFact& fact : instruction_facts()) {
    for (std::string head : split(fact.heads, ' ')) {
      for (char& c : head) c = c == '.' ? '_' : c;
      if (head.size() > best_length && wrapper.rfind(head, 0) == 0) best = &fact, best_length = head.size();
    }
  }
  return best;
}

bool multiplies_matrices(const std::string& statement) {
  return has_head(opcode_of(statement), "mma wmma.mma wgmma.mma_async tcgen05.mma");
}

bool available(const InstructionFact& fact, const Target& target) {
  for (const std::string& token : split(fact.available, ' ')) {
    if (token_allows(token, target)) return true;
  }
  return false;
}

std::string unlocking_target(const InstructionFact& fact, int sm) {
  const Target specific{sm, 'a'};
  return available(fact, specific) ? specific.name() : "";
}

std::string availability_text(const InstructionFact& fact) {
  std::string list;
  for (const std::string& token : split(fact.available, ' ')) {
    const int sm = std::stoi(token);
    if (token.back() == '+') return capability_text(sm) + " and later";
    if (!list.empty()) list += ", ";
    list += capability_text(sm);
    if (token.back() == 'f' && (sm == 100 || sm == 120)) list += " (and " + capability_text(sm == 100 ? 103 : 121) + ")";
  }
  return list + " alone, and there on a target with suffix a such as " + std::to_string(std::stoi(fact.available)) + "a";
}

std::string reference_text(const InstructionFact& fact) { return std::string("PTX ISA 9.1, section ") + fact.section; }

}  // namespace triage::static_triage
