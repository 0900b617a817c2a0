#!/usr/bin/env python3
"""Runs a fuzzer for a while, from seeds made here.

    run.py header|index PROGRAM SECONDS FOLDER

FOLDER keeps what the fuzzer finds, so that a next run starts from there. Exit code 0: nothing was found.
"""
import os
import subprocess
import sys

kind, program, seconds, folder = sys.argv[1:5]
tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

words = ['"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"F32"', '"BF16"', '"F4"', '"F6_E2M3"', '"I64"', '"weight_map"', '"metadata"',
         '"model.safetensors"', "..", "/", "./", "\\u0061", "\\ud83d\\ude00", "\\u0000", "18446744073709551615", "18446744073709551616",
         "9223372036854775808", "-0", "2e0", "null", "true", "[0,0]", "{}", "[]", ",", ":", "NaN", "Infinity"]
indexes = ['{"metadata":{"total_size":12},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"sub/x.safetensors"}}',
           '{"weight_map":{"model.layers.10.w":"./x//y","a":"x"}}', '{"weight_map":{"a":"../x"}}', '{"weight_map":{"a":"/x"}}',
           '{"weight_map":{"a":1}}', '{"weight_map":{"a":"x","\\u0061":"y"}}', '{"weight_map":[]}', '{"weight_map":{}}', "[]", "",
           '{"x":[[[{}]]],"weight_map":{"a":"x"}}', '{"limit":[0.0,Infinity],"eps":-Infinity,"n":NaN,"s":"NaN\\\\\\"Infinity"}']


def write_seeds(seeds):
    if kind == "header":
        subprocess.run([sys.executable, os.path.join(tests, "checkpoint", "make_malformed.py"), seeds], check=True)
        for name in os.listdir(seeds):  # the few of many megabytes teach nothing that the small ones do not
            if os.path.getsize(os.path.join(seeds, name)) > 4096 or not name.endswith(".safetensors"):
                os.remove(os.path.join(seeds, name))
    else:
        for i, text in enumerate(indexes):
            with open(os.path.join(seeds, "index_%d.json" % i), "w") as file:
                file.write(text)


seeds, found = os.path.join(folder, kind + "_seeds"), os.path.join(folder, kind + "_found")
for path in (seeds, found):
    os.makedirs(path, exist_ok=True)
write_seeds(seeds)
dictionary = os.path.join(folder, kind + ".dict")
with open(dictionary, "w") as file:
    for word in words:
        file.write('"%s"\n' % word.replace("\\", "\\\\").replace('"', '\\"'))
sys.exit(subprocess.run([program, found, seeds, "-dict=" + dictionary, "-max_total_time=" + seconds, "-max_len=4096", "-rss_limit_mb=1024",
                         "-timeout=10", "-print_final_stats=1", "-artifact_prefix=" + os.path.join(folder, kind + "_")]).returncode)
