#!/bin/bash
# A chain of jobs: a merge (or a search), its scores on tasks when that has ended well, and a report of both. On the login node:
#
#     TASKS="math.jsonl chat.jsonl" slurm/evaluate-after.sh [options of sbatch for the first job, as --nodes=8]
#
# Where a job fails, those behind it are cancelled. What is edited in the first job's file holds, for the jobs behind it too: OUT
# or RUN, AMALGAM, SITE. Its variables may be given here as well, as with sbatch: RECIPE=ties.toml OUT=merged ...

# Knobs. A variable that is set already stays.
FIRST=${FIRST:-slurm/merge.sbatch}    # <-- a copy of merge.sbatch or evolve.sbatch, edited
TASKS=${TASKS:-}                      # <-- task files (docs/tasks.md), blanks between
COMPARE=${COMPARE:-}                  # models to score too, for the report: the base, the sources
REPORT_TO=${REPORT_TO:-report}        # folder of scores and report
EVALUATE_WITH=${EVALUATE_WITH:---ntasks=1 --cpus-per-task=8 --time=01:00:00} # <-- options of sbatch for the second job
REPORT_WITH=${REPORT_WITH:---ntasks=1 --time=00:10:00} # <-- options of sbatch for the third
SCORE_OPTIONS=${SCORE_OPTIONS:-}      # more options of amalgam evaluate

set -euo pipefail
[ -r "$FIRST" ] || { echo "FIRST=$FIRST: there is no such file" >&2; exit 2; }
[ -n "$TASKS" ] || { echo "TASKS: which task files?" >&2; exit 2; }
for task in $TASKS; do # now, not when the merge is done
    [ -r "$task" ] || { echo "TASKS: $task: there is no such file" >&2; exit 2; }
done

# The lines of the first job's file that set its variables. They are run as the job runs them, because one may use another, and
# because those that are set already stay.
lines=$(sed '/^# ---- Below here nothing needs editing/,$d' "$FIRST")
what=''
if grep -q '^VARIANTS=' <<<"$lines"; then
    : # a sweep scores by itself
elif grep -q '^RUN=' <<<"$lines"; then
    what=RUN
elif grep -q '^OUT=' <<<"$lines"; then
    what=OUT
fi
if [ -z "$what" ] || [ "$lines" = "$(cat "$FIRST")" ]; then
    echo "FIRST=$FIRST: it must be a copy of merge.sbatch or evolve.sbatch, and keep their lines OUT= or RUN= and \"# ---- Below here\"" >&2
    exit 2
fi
settings() { # number of the job, names: a line for each value
    # shellcheck disable=SC2016  # expanded by the other shell
    SLURM_JOB_ID=$1 SLURM_SUBMIT_DIR=$PWD bash -c "$lines"$'\n''shift; for name; do printf "%s\n" "${!name-}" >&3; done' \
        "$FIRST" "$@" 3>&1 >&2
}
read_settings() { # number of the job, for names that hold it
    local values
    mapfile -t values < <(settings "$1" "$what" AMALGAM SITE REPORT)
    if [ ${#values[@]} != 4 ] || [ -z "${values[0]}" ]; then
        echo "FIRST=$FIRST: above \"# ---- Below here\" it sets no $what" >&2
        return 1
    fi
    result=${values[0]} AMALGAM=${values[1]} SITE=${values[2]} REPORT=${values[3]}
}
read_settings 0 || exit 2
[ -r "$SITE" ] || [ "$SITE" = slurm/environment.sh ] || { echo "SITE=$SITE: there is no such file" >&2; exit 2; }
mkdir -p "$REPORT_TO"
if [ "$what" = OUT ] && [ -z "$REPORT" ]; then export REPORT=$REPORT_TO/merge.json; fi

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
read_settings "${jobs[0]}" || submitted '' # a line may hold the number of the job

quoted() { printf '%q ' "$@"; }
scoring=()
for task in $TASKS; do scoring+=(--task "$task"); done

model=$result
[ "$what" = OUT ] || model+=/best
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
[ "$what" = OUT ] || report+="; $(quoted "$AMALGAM" report "$result" --out "$REPORT_TO/search.html")"
report+="; cat $(quoted "$REPORT_TO/scores.tsv")"

submitted "$(after "${jobs[0]}" evaluate "$EVALUATE_WITH" "$evaluate")"
submitted "$(after "${jobs[1]}" report "$REPORT_WITH" "$report")"
echo "${jobs[*]}"
