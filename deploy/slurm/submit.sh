#!/usr/bin/env bash
# Scores benchmark tasks on many machines of a Slurm cluster, and puts the parts together.
#
#   PARTS=8 TASKS=arc_easy,piqa DATA=/shared/evaldata MODEL=/shared/2b.gguf RESULTS=/shared/results/2b \
#       deploy/slurm/submit.sh [OPTION OF SBATCH]...
#
# RESULTS, DATA and MODEL are paths that all nodes see. Without MODEL it is the built-in model, and TRILOBITE is the
# program where it is not in the PATH. EVAL_OPTIONS has further options of `trilobite eval`, such as "--limit 100".
# The same command again goes on where a part stopped. One part alone, with the same variables exported:
#   sbatch --array=3 deploy/slurm/eval.sbatch
set -euo pipefail
export PARTS=${PARTS:?the number of parts} TASKS=${TASKS:?the tasks, TASK,TASK} DATA=${DATA:?the folder of the data sets}
export RESULTS=${RESULTS:?the folder of the results} TRILOBITE=${TRILOBITE:-trilobite} MODEL=${MODEL:-} EVAL_OPTIONS=${EVAL_OPTIONS:-}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$RESULTS"

array=$(sbatch --parsable --array="1-$PARTS" --output="$RESULTS/part-%a.log" "$@" "$here/eval.sbatch")
merge=$(sbatch --parsable --dependency="afterok:$array" --kill-on-invalid-dep=yes --output="$RESULTS/merge.log" "$@" "$here/merge.sbatch")
echo "array $array, merge $merge"
