#!/usr/bin/env bash
# The Python tests over a library that was built: run.sh LIBTRIAGE.SO cpu|gpu [PYTEST ARGUMENTS]. TRIAGE_PYTHON names an
# interpreter other than python3. Ends with 77 (CTest: skipped) where it lacks NumPy or pytest, and says so.
set -euo pipefail
library=$(realpath "$1") label=$2
python=${TRIAGE_PYTHON:-python3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

command -v "$python" >/dev/null || { echo "skipped: there is no $python"; exit 77; }
for module in numpy pytest; do
  "$python" -c "import $module" 2>/dev/null || { echo "skipped: $python cannot import $module"; exit 77; }
done
if [[ $label == gpu ]]; then
  "$python" -c "import torch; raise SystemExit(not torch.cuda.is_available())" 2>/dev/null ||
    { echo "skipped: $python has no PyTorch that sees a GPU"; exit 77; }
fi
tests=("$here"/test_*.py)
[[ $label == gpu ]] && tests=("$here/test_gpu.py")
export TRIAGE_LIBRARY=$library PYTHONDONTWRITEBYTECODE=1
exec "$python" -m pytest -q -rs -p no:cacheprovider --rootdir "$here" "${tests[@]}" "${@:3}"
