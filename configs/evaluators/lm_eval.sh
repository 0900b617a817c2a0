#!/bin/sh
# Scores a checkpoint by lm-eval (https://github.com/EleutherAI/lm-evaluation-harness), for `amalgam evaluate --command`:
#
#     amalgam evaluate --recipe configs/zoo-ties.toml --score-at results.zoo_math_ja.exact_match,none \
#         --command 'sh configs/evaluators/lm_eval.sh {model} --tasks zoo_math_ja --include_path configs/evaluators/lm_eval_tasks'
#
# What stands behind the model goes to lm_eval. LM_EVAL names the program, LM_EVAL_MODEL_ARGS what --model_args gets beside
# the model. lm_eval's own output goes to standard error, its results as JSON to standard output. Under mpirun or
# srun each rank's lm_eval sees one GPU, by AMALGAM_LOCAL_RANK.
set -eu
model=$1
shift
# Evaluators of one machine share out its GPUs.
if [ "${AMALGAM_LOCAL_RANKS:-1}" -gt 1 ]; then
    gpus=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, -)}
    count=$(printf %s "$gpus" | tr ',' '\n' | grep -c .) || true
    if [ "$count" -gt 1 ]; then
        CUDA_VISIBLE_DEVICES=$(printf %s "$gpus" | cut -d, -f$((AMALGAM_LOCAL_RANK % count + 1)))
        export CUDA_VISIBLE_DEVICES
    fi
fi
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
trap 'exit 143' TERM
${LM_EVAL:-lm_eval} --model hf --model_args "pretrained=$model,${LM_EVAL_MODEL_ARGS:-dtype=float32,add_bos_token=True}" \
    --output_path "$results" "$@" >&2
cat "$results"/*/results_*.json
