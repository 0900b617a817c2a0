#!/bin/bash
# A chain of jobs: a merge (or a search), its scores on tasks when that has ended well, and a report of both. On the login node:
#
#     TASKS="math.jsonl chat.jsonl" slurm/evaluate-after.sh [options of sbatch for the first job, as --nodes=8]
#
# Where a job fails, those behind it are cancelled. Variables of the first job's file go to it: RECIPE=ties.toml OUT=merged ...

# Knobs. A variable that is set already stays.
FIRST=${FIRST:-slurm/merge.sbatch}    # <-- merge.sbatch or evolve.sbatch, edited; its name says which of the two it is
TASKS=${TASKS:-}                      # <-- task files (docs/tasks.md), blanks between
COMPARE=${COMPARE:-}                  # models to score too, for the report: the base, the sources
REPORT_TO=${REPORT_TO:-report}        # folder of scores and report
EVALUATE_WITH=${EVALUATE_WITH:---ntasks=1 --cpus-per-task=8 --time=01:00:00} # <-- options of sbatch for the second job
REPORT_WITH=${REPORT_WITH:---ntasks=1 --time=00:10:00} # <-- options of sbatch for the third
SCORE_OPTIONS=${SCORE_OPTIONS:-}      # more options of amalgam evaluate
AMALGAM=${AMALGAM:-amalgam}           # <-- the program
SITE=${SITE:-slurm/environment.sh} # <-- modules of this cluster; may be missing

set -euo pipefail
export AMALGAM SITE
[ -r "$FIRST" ] || { echo "FIRST=$FIRST: there is no such file" >&2; exit 2; }
[ -n "$TASKS" ] || { echo "TASKS: which task files?" >&2; exit 2; }
[ -r "$SITE" ] || [ "$SITE" = slurm/environment.sh ] || { echo "SITE=$SITE: there is no such file" >&2; exit 2; }
for task in $TASKS; do # now, not when the merge is done
    [ -r "$task" ] || { echo "TASKS: $task: there is no such file" >&2; exit 2; }
done
case $(basename "$FIRST") in
    *evolve*) model=${RUN:=run}/best search=$RUN ;;
    *) model=${OUT:=merged} search='' ;;
esac
mkdir -p "$REPORT_TO"
if [ -z "$search" ]; then export OUT REPORT=${REPORT:-$REPORT_TO/merge.json}; else export RUN; fi

quoted() { printf '%q ' "$@"; }
scoring=()
for task in $TASKS; do scoring+=(--task "$task"); done

# What the second and third job run; with everything that it needs written into it.
prepare="cd $(quoted "$PWD") || exit 1"
[ ! -r "$SITE" ] || prepare+="; . $(quoted "$(realpath "$SITE")") || exit 2"
prepare+="; set -eu"
evaluate=$prepare
number=0
# shellcheck disable=SC2086  # several words
for scored in "$model" $COMPARE; do
    evaluate+="; $(quoted "$AMALGAM" evaluate "$scored" "${scoring[@]}" $SCORE_OPTIONS --json "$REPORT_TO/scores-$number.json")"
    number=$((number + 1))
done

# Names, scores and tasks from what amalgam evaluate writes.
# shellcheck disable=SC2016  # of awk
table='FNR == 1 { flush_line() } /^  "model":/ { model = $0; sub(/^  "model": "/, "", model); sub(/",$/, "", model) } /^  "score":/ { whole = $2 } /^      "name":/ { name = $2 }
    /^      "score":/ { tasks = tasks "\t" name "=" $2 } END { flush_line() }
    function flush_line() { if (model) { line = whole tasks; gsub(/[",]/, "", line); gsub(/\\"/, "\"", model); print model "\t" line }; model = whole = tasks = "" }'
report="$prepare; { echo $(quoted $'model\tscore\ttasks'); awk $(quoted "$table")"
for ((i = 0; i < number; ++i)); do report+=" $(quoted "$REPORT_TO/scores-$i.json")"; done
report+="; } >$(quoted "$REPORT_TO/scores.tsv")"
[ -z "$search" ] || report+="; $(quoted "$AMALGAM" report "$search" --out "$REPORT_TO/search.html")"
report+="; cat $(quoted "$REPORT_TO/scores.tsv")"

after() { # job, name, options, command
    # shellcheck disable=SC2086  # several words
    sbatch --parsable --dependency="afterok:$1" --kill-on-invalid-dep=yes --job-name="$2" --output="$2-%j.log" $3 <<<"#!/bin/bash"$'\n'"$4"
}
jobs=()
submitted() { # what sbatch said: the number, and with several clusters the cluster's name
    if [ -n "$1" ]; then
        jobs+=("${1%%;*}")
        return
    fi
    [ ${#jobs[@]} = 0 ] || scancel "${jobs[@]}"
    echo "the chain cannot be submitted; cancelled: ${jobs[*]:-nothing}" >&2
    exit 1
}
submitted "$(sbatch --parsable "$@" "$FIRST")"
submitted "$(after "${jobs[0]}" evaluate "$EVALUATE_WITH" "$evaluate")"
submitted "$(after "${jobs[1]}" report "$REPORT_WITH" "$report")"
echo "${jobs[*]}"
