#!/bin/sh
# The shell function that docs/building.md shows gives the hashes that the build put into the library, for every file.
#   source_hash_test.sh SOURCE_DIR GENERATED_SOURCE
set -eu
cd "$1"
generated=$2
function=$(sed -n '/^source_sha256() (/,/^)/p' docs/building.md)
[ -n "$function" ] || { echo "docs/building.md no longer shows source_sha256()"; exit 1; }
eval "$function"

count=0
for source in $(find src -name '*.cpp' -o -name '*.cu' | LC_ALL=C sort); do
  built=$(sed -n "s|.*== \"$source\") return \"\([0-9a-f]\{64\}\)\".*|\1|p" "$generated")
  recomputed=$(source_sha256 "$source")
  if [ "$built" != "$recomputed" ]; then
    echo "$source: the build says '$built', the documented function '$recomputed'"
    exit 1
  fi
  count=$((count + 1))
done
listed=$(grep -c 'return "' "$generated")
[ "$count" -gt 0 ] && [ "$count" -eq "$listed" ] || { echo "$count sources, but $listed hashes"; exit 1; }

# A change of a header that is reached only through another one changes the hash.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/src/a" "$work/include/triage"
echo '  #  include "a/one.h"' >"$work/src/a/source.cpp"
printf '#include <vector>\n#if 0\n#include "triage/two.h"\n#endif\n' >"$work/src/a/one.h"
echo '#include "a/one.h"' >"$work/include/triage/two.h"
cd "$work"
before=$(source_sha256 src/a/source.cpp)
expected=$(sha256sum include/triage/two.h src/a/one.h src/a/source.cpp | sha256sum | cut -d ' ' -f 1)
[ "$before" = "$expected" ] || { echo "the three files are not what is hashed"; exit 1; }
echo '// changed' >>"$work/include/triage/two.h"
[ "$before" != "$(source_sha256 src/a/source.cpp)" ] || { echo "a changed header went unnoticed"; exit 1; }
echo "$count hashes agree"
