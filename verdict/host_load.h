// Whether other programs used the CPU while something was timed.
#pragma once

namespace triage::verdict {

/// Watches the CPU from its construction on. Where the system does not tell (/proc/stat), nothing is seen.
class HostLoad {
 public:
  HostLoad();
  /// Cores that other programs (and, on a virtual machine, other guests) kept busy on average; 0 if that is not known.
  double other_cores() const;
  /// Whether that left `threads` threads of this process too little to be timed: less than three quarters of what they
  /// need.
  bool disturbs(int threads) const;

 private:
  struct Reading {
    double wall = 0, all_busy = 0, mine = 0;  // seconds
    bool known = false;
  };
  static Reading read();
  Reading start_;
};

}  // namespace triage::verdict
