#!/bin/sh
# Code compiled for AVX2 or AVX-512 shares no function with the rest: an inline function that two object files hold is
# kept once by the linker, and an older CPU would die of the copy with newer instructions. So every weak symbol of
# src/cpu/*_kernel.cpp must lie in the namespace of its instruction set. (DW.ref.* are data: addresses, alike everywhere.)
#   isa_test.sh BUILD_DIR
set -eu
checked=0
for isa in avx2 avx512; do
  for object in $(find "$1/src/CMakeFiles/triage_cpu_$isa.dir" -name '*.o'); do
    shared=$(nm -C --defined-only "$object" | grep -E '^[0-9a-f]* [WVu] ' | grep -v -e "::$isa::" -e ' DW\.ref\.' || true)
    if [ -n "$shared" ]; then
      echo "$object defines functions that other object files may define too, outside of namespace $isa:"
      echo "$shared"
      exit 1
    fi
    checked=$((checked + 1))
  done
done
[ "$checked" -gt 0 ] || { echo "no object files of src/cpu/*_kernel.cpp under $1"; exit 1; }
echo "$checked object files share nothing"
