"""What the demonstration's merges can do: a table for people.

summary.py NAME=FOLDER ...
"""
import os
import sys

# Matrices of this size are slower on several threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from tiny_llama import TinyLlama, score  # noqa: E402

ZOO = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "zoo")
ITEMS = 128
TASKS = [("math-en", "sums,", "in English"), ("lang-ja", "language J,", "no sums"), ("math-ja", "sums,", "in language J")]

models = [(name, os.path.join(ZOO, "models", name)) for name in ("base", "math2-en", "lang-ja")]
models += [argument.split("=", 1) for argument in sys.argv[1:]]

print(f"Exercises answered without a mistake, of {ITEMS} that no model was trained on:\n")
for line in (1, 2):
    print(f"{'':24}" + "".join(f"{task[line]:>16}" for task in TASKS))
for name, folder in models:
    model = TinyLlama(folder)
    shares = [score(model, os.path.join(ZOO, "tasks", task, "heldout.jsonl"), ITEMS) for task, *_ in TASKS]
    print(f"{name:24}" + "".join(f"{share:>14.0%}  " for share in shares), flush=True)
print("""
The experts were trained to do sums in English (math-en, math2-en) and to speak language J (lang-ja). None was ever
shown a sum in language J; their merges do them.""")
