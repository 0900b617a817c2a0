"""A worker as users might write it, good or bad. Each model's path says what it does with it. Standard library only.

worker_program.py [STARTS]     STARTS: a file that gets a line at every start
"""
import json
import os
import signal
import subprocess
import sys
import time


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if len(sys.argv) > 1:
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\n")
served = 0
for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    number, what = request["id"], os.path.basename(request["model"])
    served += 1
    print(f"asked for {what}", file=sys.stderr, flush=True)
    if what == "count":
        say(json.dumps({"id": number, "score": served}))
    elif what == "echo":
        say(json.dumps({"id": number, "score": len(request.get("set", [])), "items": [1, {"score": 0.25}]}))
    elif what == "pieces":
        for piece in ('{"id": ', str(number), ', "score"', ": 0.75}\n"):
            sys.stdout.write(piece)
            sys.stdout.flush()
            time.sleep(0.02)
    elif what == "blank":
        say("\n \n" + json.dumps({"id": number, "score": 0.5}))
    elif what == "error":
        say(json.dumps({"id": number, "error": "this model babbles"}))
    elif what == "nan":
        say(json.dumps({"id": number, "score": float("nan")}))
    elif what == "rubbish":
        say("loading checkpoint shards: 100%")
    elif what == "bytes":
        os.write(1, b'{"id": \xff\xfe\x00}\n')
    elif what == "other":
        say(json.dumps({"id": number + 1, "score": 1}))
    elif what == "long":
        sys.stdout.write("x" * (20 << 20))
        sys.stdout.flush()
    elif what == "chatty":
        sys.stderr.write("y" * (4 << 20) + "\nlast words\n")
        say(json.dumps({"id": number, "score": 0.5}))
    elif what == "dies":
        print("no memory left", file=sys.stderr, flush=True)
        os._exit(7)
    elif what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "dies_once":
        if not os.path.exists(request["model"]):
            open(request["model"], "w").close()
            os._exit(1)
        say(json.dumps({"id": number, "score": 1}))
    elif what == "last":
        say(json.dumps({"id": number, "score": 0.5}))
        os._exit(0)
    elif what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "1000"])
        with open(request["model"], "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        time.sleep(1000)
    elif what == "hangs":
        time.sleep(1000)
