#!/bin/sh
# cmake/refuse_serialized_wgmma.sh: fails on what it must, passes the rest through.
#   serialized_wgmma_test.sh SCRIPT [NVCC]: with NVCC, also on a kernel that ptxas really serialises
set -eu
script=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >compiler <<'SCRIPT'
#!/bin/sh
# compiler MESSAGE STATUS -o OBJECT
[ -z "$1" ] || echo "$1" >&2
touch "$4"
exit "$2"
SCRIPT
chmod +x compiler

expect() {  # DESCRIPTION STATUS OBJECT_EXISTS MESSAGE COMPILER_STATUS
  status=0
  "$script" ./compiler "$4" "$5" -o object.o 2>err || status=$?
  exists=no
  [ ! -e object.o ] || exists=yes
  if [ "$status" != "$2" ] || [ "$exists" != "$3" ]; then
    echo "FAILED: $1: status $status, object: $exists"
    exit 1
  fi
  rm -f object.o
}

for number in 7510 7511 7512 7513 7514 7515 7520; do
  expect "C$number" 1 no "ptxas info    : (C$number) Potential Performance Loss: wgmma instructions are serialized" 0
done
expect "no message" 0 yes "" 0
expect "another message" 0 yes "ptxas info    : (C7517) warpgroup.wait is injected" 0
grep -q C7517 err
expect "the harmless one" 0 yes "ptxas info    : (C7519) warpgroup.arrive is injected" 0
! grep -q C7519 err
expect "a compile error" 2 yes "error: no" 2
grep -q "error: no" err

if [ $# -gt 1 ]; then
  # The accumulator is scaled between wgmma and its wait.
  cat >kernel.cu <<'CUDA'
__global__ void kernel(float* out, unsigned long long a, unsigned long long b, int n) {
  float d0 = 0, d1 = 0, d2 = 0, d3 = 0;
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  for (int i = 0; i < n; ++i) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
                 : "+f"(d0), "+f"(d1), "+f"(d2), "+f"(d3) : "l"(a), "l"(b));
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    d0 *= 1.5f;
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  out[threadIdx.x] = d0 + d1 + d2 + d3;
}
CUDA
  if "$script" "$2" --generate-code=arch=compute_90a,code=sm_90a -c kernel.cu -o kernel.o 2>err; then
    cat err
    echo "FAILED: ptxas of $2 serialises this kernel, and the script let it pass"
    exit 1
  fi
  grep -q 'error: ptxas serialised wgmma' err || { cat err; exit 1; }
fi
echo "all refused that must be"
