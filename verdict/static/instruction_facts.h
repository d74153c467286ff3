// Which PTX instruction exists on which architecture: the one table that every verdict of static triage comes from.
// A test holds each row against the installed ptxas.
#pragma once

#include <string>
#include <vector>

#include "verdict/static/architectures.h"

namespace triage::static_triage {

/// What an instruction is for; decides what a kernel without it has lost.
enum class Role { matrix, copy, barrier, cluster, registers, atomic, convert, math, launch };

struct InstructionFact {
  const char* id;         ///< stable, for --json: "wgmma"
  const char* name;       ///< for people, as short as the matrix needs it
  const char* meaning;
  Role role;
  const char* heads;      ///< opcodes, space-separated; "mbarrier" also matches "mbarrier.init"; "": any opcode
  const char* qualifiers;  ///< at least one of these must follow the opcode; "a&b": both; "": none needed
  const char* operand;    ///< text that the operands must hold; "": none
  /// Targets that have it: "80+" any target from 8.0 on; "90a" that target alone; "100f" targets of its family from
  /// that capability on, with suffix f or a.
  const char* available;
  const char* introduced;  ///< PTX ISA version
  const char* section;     ///< of the PTX ISA (numbers of version 9.1)
  const char* example;     ///< one statement that uses it (registers: see the test)
};

const std::vector<InstructionFact>& instruction_facts();

/// @return nullptr if there is no such row.
const InstructionFact* find_fact(const std::string& id);

/// The first row that matches one PTX statement ("@%p1 wgmma.fence.sync.aligned"); predicates, labels and braces in
/// front are skipped. Directives (".reqnctapercluster 2") match too. nullptr: a statement that every target has.
const InstructionFact* match_instruction(const std::string& statement);

/// The row that a name of the CUDA C++ headers stands for: "this_cluster", or the undefined function that a
/// `cuda::ptx` wrapper leaves behind ("__cuda_ptx_mbarrier_try_wait_is_not_supported_before_SM_90__").
const InstructionFact* match_name(const std::string& identifier);

/// Whether a statement multiplies matrices itself: no fence, no copy, no allocation around it.
bool multiplies_matrices(const std::string& statement);

bool available(const InstructionFact& fact, const Target& target);

/// Whether another suffix of the same compute capability would have it: what "NEEDS `a` TARGET" means.
/// @return "90a", or "" if no target of this capability has the instruction.
std::string unlocking_target(const InstructionFact& fact, int sm);

/// "9.0a only", "8.0 and later", "10.0, 10.3 and 11.0 (targets with suffix a or f)"
std::string availability_text(const InstructionFact& fact);

/// "PTX ISA 9.1, section 9.7.15.5 wgmma.mma_async"
std::string reference_text(const InstructionFact& fact);

/// The opcode of a statement with its qualifiers ("wgmma.fence.sync.aligned"); "" for none.
std::string opcode_of(const std::string& statement);

}  // namespace triage::static_triage
