#!/bin/sh
# Scores a checkpoint by lm-eval (https://github.com/EleutherAI/lm-evaluation-harness), for `amalgam evaluate --command`:
#
#     amalgam evaluate --recipe configs/zoo-ties.toml --score-at results.zoo_math_ja.exact_match,none \
#         --command 'sh configs/evaluators/lm_eval.sh {model} --tasks zoo_math_ja --include_path configs/evaluators/lm_eval_tasks'
#
# What stands behind the model goes to lm_eval. LM_EVAL names the program, LM_EVAL_MODEL_ARGS what --model_args gets beside
# the model. lm_eval's own output goes to standard error, its results as JSON to standard output.
set -eu
model=$1
shift
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 143' TERM
${LM_EVAL:-lm_eval} --model hf --model_args "pretrained=$model,${LM_EVAL_MODEL_ARGS:-dtype=float32,add_bos_token=True}" \
    --output_path "$results" "$@" >&2
cat "$results"/*/results_*.json
