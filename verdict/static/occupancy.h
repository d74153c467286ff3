// Whether a kernel fits on a multiprocessor, and how often.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "verdict/static/constants.h"
#include "verdict/static/model.h"
#include "verdict/static/source.h"

namespace triage::static_triage {

/// What the launches in the source say of a kernel, as far as their arguments are constants.
struct LaunchFacts {
  int line = 0;
  long dynamic_shared = 0;
  bool shared_known = false;  ///< a launch or a cudaFuncSetAttribute says how much
  bool opts_in = false;       ///< cudaFuncSetAttribute for more than 48 KB is called (for any kernel of the file)
  int threads = 0;            ///< of the largest block launched; 0: not known
  std::string shared_arithmetic;
};

/// @param kernel its name without template arguments and namespaces.
LaunchFacts find_launches(const SourceFile& file, const Constants& constants, const std::string& kernel);

/// Registers that a warp occupies: they come in units of 256.
int warp_registers(int registers_per_thread);
/// Registers that a launch asks for: the hardware counts the warps of a block in fours.
int block_registers(int registers_per_thread, int threads);

/// nullopt if the architecture's limits are not known or the block does not fit.
std::optional<Occupancy> occupancy(const Target& target, int threads, int registers, long shared_bytes);

}  // namespace triage::static_triage
