#!/bin/sh
# Compiler launcher of the sm90 files: runs the given nvcc command and fails if ptxas serialised the wgmma pipeline.
#
# Where ptxas cannot prove that accumulators stay untouched between wgmma and its wait, it inserts a wait after every
# instruction and says so in a line of "info" (C7510 to C7515, C7520) while the compile succeeds. Such a kernel is right
# and 1.3 to 6 times too slow, so it must not be built unnoticed. nvcc has no option that makes these lines errors.
# C7519 (a warpgroup.arrive was inserted) costs nothing and is left out of the output.
messages=$(mktemp) || exit 1
trap 'rm -f "$messages"' EXIT
"$@" 2>"$messages"
status=$?
grep -v 'ptxas info *: (C7519)' "$messages" >&2
if [ "$status" -eq 0 ] && grep -q -E '\(C(751[0-5]|7520)\)' "$messages"; then
  echo "error: ptxas serialised wgmma instructions (lines above): restructure the kernel so that it does not" >&2
  # The object must not look built to a later run of the build.
  while [ $# -gt 1 ]; do
    [ "$1" = -o ] && rm -f "$2"
    shift
  done
  status=1
fi
exit "$status"
