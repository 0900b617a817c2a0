#!/usr/bin/env python3
"""Writes a corpus of unusual and malformed safetensors files, and what is to be said of each.

    make_malformed.py FOLDER              one file a case, and FOLDER/verdicts.tsv
    make_malformed.py FOLDER --reference  also compares with the Python package safetensors (exit 77: not installed)

verdicts.tsv: file, verdict (accept, warn, reject), what the message must contain. `reference` in the table below says what
the reference reader (Hugging Face's safetensors) does where it differs.
"""
import json
import os
import struct
import sys

cases = []


def case(name, contents, verdict, message="", reference=None):
    """contents: bytes of the file. reference: None if the reference reader agrees."""
    cases.append((name, contents, verdict, message, reference))


def with_header(header, data=b"", length=None):
    if isinstance(header, str):
        header = header.encode("utf-8")
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def header(name, text, verdict, message="", data=b"\0" * 16, reference=None):
    case(name, with_header(text, data), verdict, message, reference)


def entry(dtype="F32", shape="[2,2]", offsets="[0,16]"):
    return '{"dtype":"%s","shape":%s,"data_offsets":%s}' % (dtype, shape, offsets)


def one(name="a", **fields):
    return '{"%s":%s}' % (name, entry(**fields))


def nested(levels):
    return "[" * levels + "]" * levels


def legal_files():
    dtypes = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1, "I16": 2,
              "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8}
    for dtype, size in dtypes.items():
        header("dtype_" + dtype.lower(), one(dtype=dtype, shape="[3]", offsets="[0,%d]" % (3 * size)), "accept", data=b"\1" * 3 * size)
    header("dtype_f4", one(dtype="F4", shape="[3,2]", offsets="[0,3]"), "accept", data=b"\1" * 3)
    for dtype in ("F6_E2M3", "F6_E3M2"):
        header("dtype_" + dtype.lower(), one(dtype=dtype, shape="[4]", offsets="[0,3]"), "accept", data=b"\1" * 3)
    header("plain", one(), "accept")
    header("no_tensors", "{}", "accept", data=b"")
    header("one_element_without_dimensions", one(shape="[]", offsets="[0,4]"), "accept", data=b"\0" * 4)
    header("empty_tensor_first", '{"e":%s,"a":%s}' % (entry(shape="[0]", offsets="[0,0]"), entry()), "accept")
    header("empty_tensor_last", '{"a":%s,"e":%s}' % (entry(), entry(shape="[5,0]", offsets="[16,16]")), "accept")
    header("empty_tensor_between",
           '{"e":%s,"b":%s,"a":%s}' % (entry(shape="[0]", offsets="[8,8]"), entry(shape="[2]", offsets="[8,16]"),
                                       entry(shape="[2]", offsets="[0,8]")), "accept")
    header("names_not_in_order_of_offsets",
           '{"a":%s,"b":%s}' % (entry(shape="[2]", offsets="[8,16]"), entry(shape="[2]", offsets="[0,8]")), "accept")
    header("metadata", '{"__metadata__":{"format":"pt","":"\\u00e9"},"a":%s}' % entry(), "accept")
    header("metadata_last", '{"a":%s,"__metadata__":{"format":"pt"}}' % entry(), "accept")
    header("metadata_empty", '{"__metadata__":{},"a":%s}' % entry(), "accept")
    header("metadata_null", '{"__metadata__":null,"a":%s}' % entry(), "accept")
    header("blanks_before", " \n\t\r " + one(), "accept")
    header("blanks_after", one() + " \n\t\r   ", "accept")
    header("blanks_within", '{ "a" : { "dtype" : "F32" , "shape" : [ 2 , 2 ] , "data_offsets" : [ 0 , 16 ] } }', "accept")
    header("fields_in_another_order", '{"a":{"data_offsets":[0,16],"shape":[2,2],"dtype":"F32"}}', "accept")
    header("padded_to_4096", one().ljust(4088), "accept")
    header("length_not_a_multiple_of_8", one(name="a" * 3) + " " * 5, "accept")
    header("f32_at_odd_offset", '{"b":%s,"a":%s}' % (entry("U8", "[1]", "[0,1]"), entry("F32", "[3]", "[1,13]")), "accept", data=b"\0" * 13)
    header("huge_dimension_of_empty_tensor", '{"e":%s,"a":%s}' % (entry(shape="[0,9223372036854775808]", offsets="[0,0]"), entry()), "warn",
           "9223372036854775808")
    header("huge_dimension_before_zero", one(shape="[4611686018427387904,2,0]", offsets="[0,0]", dtype="U8"), "accept", data=b"",)
    header("name_empty", one(name=""), "accept")
    header("name_path", one(name="../../etc/x"), "accept")
    header("name_absolute_path", one(name="/etc/x"), "accept")
    header("name_with_nul", one(name="a\\u0000b"), "accept")
    header("name_in_utf8", one(name="\u00fcber\U0001f600"), "accept")
    header("name_escaped_pair", one(name="\\ud83d\\ude00"), "accept")
    header("bool_other_than_0_and_1", one(dtype="BOOL", shape="[4]", offsets="[0,4]"), "accept", data=b"\0\1\2\xff")
    header("not_a_number_in_data", one(), "accept", data=b"\xff" * 16)
    header("unknown_field", '{"a":{"dtype":"F32","extra":{"x":[1,-2.5e3,null,true]},"shape":[2,2],"data_offsets":[0,16]}}', "warn",
           "unknown field")
    header("unknown_field_is_scalar", '{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16],"x":-0}}', "warn", "unknown field")


def structure():
    case("file_empty", b"", "reject", "0 bytes")
    case("file_of_7_bytes", b"\2\0\0\0\0\0\0", "reject", "7 bytes")
    case("length_0", struct.pack("<Q", 0), "reject", "no bytes")
    case("length_0_with_data", struct.pack("<Q", 0) + b"{}", "reject", "no bytes")
    case("length_beyond_file", with_header("{}", length=3), "reject", "truncated")
    case("length_cuts_header", with_header(one(), b"\0" * 16, length=20), "reject", "JSON")
    case("length_takes_data", with_header(one(), b"\0" * 16, length=len(one()) + 1), "reject", "JSON")
    for name, length in (("100000001", 100_000_001), ("2_63", 2**63), ("2_64_1", 2**64 - 1), ("2_64_8", 2**64 - 8)):
        case("length_" + name, with_header(one(), b"\0" * 16, length=length), "reject", "the format allows")
    case("length_100000001_in_a_file_as_long", 100_000_001, "reject", "the format allows")
    case("length_at_the_limit", with_header(one(), b"\0" * 16, length=100_000_000), "reject", "truncated")
    case("git_lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "reject", "Git LFS")
    case("zip_archive", b"PK\3\4" + b"\0" * 60, "reject", "zip")
    case("gguf", b"GGUF\3\0\0\0" + b"\0" * 60, "reject", "GGUF")
    case("web_page", b"<!DOCTYPE html><html></html>", "reject", "web page")
    header("trailing_bytes", one(), "reject", "follow the last tensor", data=b"\0" * 17)
    header("short_data", one(), "reject", "truncated", data=b"\0" * 15)
    header("no_data", one(), "reject", "truncated", data=b"")
    header("no_tensors_but_data", "{}", "reject", "follow the last tensor", data=b"\0")


def json_text():
    header("utf8_ff", b'{"a\xff":' + entry().encode() + b"}", "reject", "JSON")
    header("utf8_overlong", b'{"a\xc0\xaf":' + entry().encode() + b"}", "reject", "JSON")
    header("utf8_surrogate", b'{"a\xed\xa0\x80":' + entry().encode() + b"}", "reject", "JSON")
    header("utf8_beyond_unicode", b'{"a\xf4\x90\x80\x80":' + entry().encode() + b"}", "reject", "JSON")
    header("utf8_cut", b'{"a\xe2\x82":' + entry().encode() + b"}", "reject", "JSON")
    header("byte_order_mark", b"\xef\xbb\xbf" + one().encode(), "reject", "byte order mark")
    header("nul_after", one() + "\0", "reject", "NUL")
    header("nul_before", "\0" + one(), "reject", "NUL")
    header("nul_in_name", one(name="a\0b"), "reject", "NUL")
    header("control_byte_in_name", one(name="a\1b"), "reject", "JSON")
    header("newline_in_name", one(name="a\nb"), "reject", "JSON")
    header("form_feed_as_blank", "\f" + one(), "reject", "JSON")
    header("junk_after", one() + "x", "reject", "JSON")
    header("second_object_after", one() + "{}", "reject", "JSON")
    header("blanks_only", "    ", "reject", "JSON", data=b"")
    header("root_array", "[]", "reject", "instead of an object", data=b"")
    header("root_null", "null", "reject", "instead of an object", data=b"")
    header("root_number", "1", "reject", "instead of an object", data=b"")
    header("root_string", '"a"', "reject", "instead of an object", data=b"")
    header("root_true", "true", "reject", "instead of an object", data=b"")
    header("trailing_comma", '{"a":%s,}' % entry(), "reject", "JSON")
    header("trailing_comma_in_shape", one(shape="[2,2,]"), "reject", "JSON")
    header("missing_comma", '{"a":%s"b":%s}' % (entry(), entry()), "reject", "JSON")
    header("comment", "/* */" + one(), "reject", "JSON")
    header("line_comment", one() + "// x", "reject", "JSON")
    header("not_a_number", one(shape="[NaN]"), "reject", "JSON")
    header("single_quotes", one().replace('"', "'"), "reject", "JSON")
    header("no_quotes", one().replace('"a"', "a"), "reject", "JSON")
    header("unfinished", one()[:-1], "reject", "JSON")
    header("unfinished_string", '{"a', "reject", "JSON")
    header("lone_surrogate_high", one(name="\\ud83d"), "reject", "JSON")
    header("lone_surrogate_low", one(name="\\ude00"), "reject", "JSON")
    header("unknown_escape", one(name="\\x61"), "reject", "JSON")
    header("short_escape", one(name="\\u61"), "reject", "JSON")
    deep = '{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16],"x":%s}}'
    header("nesting_127", deep % nested(125), "warn", "unknown field")
    header("nesting_128", deep % nested(126), "reject", "nested")
    header("nesting_200000", deep % nested(200_000), "reject", "nested")
    header("nesting_unfinished", "[" * 1_000_000, "reject", "instead of an object")


def names():
    two = '{"%s":%s,"%s":%s}'
    header("duplicate_name", two % ("a", entry(), "a", entry()), "reject", "twice", reference="accept")
    header("duplicate_name_other_dtype", two % ("a", entry(), "a", entry(dtype="I32")), "reject", "twice", reference="accept")
    header("duplicate_name_escaped", two % ("a", entry(), "\\u0061", entry()), "reject", "twice", reference="accept")
    header("duplicate_name_of_empty_tensors",
           two % ("a", entry(shape="[0]", offsets="[0,0]"), "a", entry(shape="[0]", offsets="[0,0]")), "reject", "twice", data=b"",
           reference="accept")
    header("duplicate_name_one_after_the_other",
           two % ("a", entry(shape="[2]", offsets="[0,8]"), "a", entry(shape="[2]", offsets="[8,16]")), "reject", "twice")
    header("duplicate_key_in_metadata", '{"__metadata__":{"x":"1","x":"2"},"a":%s}' % entry(), "reject", "twice", reference="accept")
    header("duplicate_key_in_metadata_escaped", '{"__metadata__":{"x":"1","\\u0078":"2"},"a":%s}' % entry(), "reject", "twice",
           reference="accept")
    header("duplicate_metadata", '{"__metadata__":{},"a":%s,"__metadata__":{}}' % entry(), "reject", "twice")
    header("duplicate_metadata_null", '{"__metadata__":null,"a":%s,"__metadata__":null}' % entry(), "reject", "twice")
    header("duplicate_metadata_escaped", '{"__metadata__":{},"a":%s,"\\u005f_metadata__":{}}' % entry(), "reject", "twice")
    for field, value in (("dtype", '"F32"'), ("shape", "[2,2]"), ("data_offsets", "[0,16]")):
        header("duplicate_field_" + field, '{"a":%s}' % entry().replace("{", '{"%s":%s,' % (field, value)), "reject", "twice")
    for what, value in (("number", "1"), ("object", "{}"), ("array", "[]"), ("null", "null"), ("true", "true"), ("float", "1.5")):
        header("metadata_value_" + what, '{"__metadata__":{"x":%s},"a":%s}' % (value, entry()), "reject", "only strings")
    for what, value in (("array", "[]"), ("string", '"x"'), ("number", "1"), ("true", "true")):
        header("metadata_" + what, '{"__metadata__":%s,"a":%s}' % (value, entry()), "reject", "__metadata__ is")


def entries():
    header("entry_array", '{"a":["F32",[2,2],[0,16]]}', "reject", "an array instead of an object", reference="accept")
    for what, value in (("null", "null"), ("number", "1"), ("string", '"F32"'), ("true", "true"), ("float", "0.5")):
        header("entry_" + what, '{"a":%s}' % value, "reject", "instead of an object", data=b"")
    header("entry_empty", '{"a":{}}', "reject", "missing", data=b"")
    whole = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    for field in whole:
        header("missing_" + field, json.dumps({"a": {k: v for k, v in whole.items() if k != field}}), "reject", field + " is missing")
        for what, value in (("null", None), ("string", "2"), ("number", 2), ("object", {}), ("array", ["x"]), ("true", True)):
            if (field, what) != ("dtype", "string"):
                header("%s_is_%s" % (field, what), json.dumps({"a": {**whole, field: value}}), "reject", "")
    for dtype in ("f32", "F33", "", "float32", "BF16 ", "bfloat16", "F4_E2M1", "I4", "\\u0000"):
        header("dtype_unknown_%d" % len(cases), one(dtype=dtype), "reject", "unknown dtype")
    header("dtype_escaped", one(dtype="F\\u0033\\u0032"), "accept")
    for count in (0, 1, 3):
        header("offsets_of_length_%d" % count, one(offsets=json.dumps([0, 16, 16][:count])), "reject", "data_offsets has")
    numbers = {"negative": "-1", "minus_zero": "-0", "fraction": "2.0", "exponent": "2e0", "string": '"2"', "leading_zero": "02",
               "plus": "+2", "2_64": "18446744073709551616", "huge": "1" + "0" * 400, "huge_exponent": "1e999", "hexadecimal": "0x2",
               "null": "null", "true": "true", "array": "[2]", "object": "{}", "infinity": "Infinity"}
    for what, number in numbers.items():
        header("dimension_" + what, one(shape="[%s,2]" % number), "reject", "")
        header("offset_" + what, one(offsets="[%s,16]" % number), "reject", "")
        header("offset_end_" + what, one(offsets="[0,%s]" % number), "reject", "")


def places():
    two = '{"a":%s,"b":%s}'
    header("hole", two % (entry(shape="[1]", offsets="[0,4]"), entry(shape="[2]", offsets="[8,16]")), "reject", "hole")
    header("hole_first", one(shape="[3]", offsets="[4,16]"), "reject", "hole")
    header("overlap", two % (entry(shape="[3]", offsets="[0,12]"), entry(shape="[2]", offsets="[8,16]")), "reject", "overlap")
    header("same_range_twice", two % (entry(), entry()), "reject", "overlap")
    header("inside_another", two % (entry(), entry(shape="[1]", offsets="[4,8]")), "reject", "overlap")
    header("reversed", one(offsets="[16,0]"), "reject", "reversed")
    header("end_beyond_file", one(shape="[5]", offsets="[0,20]"), "reject", "truncated")
    header("end_2_64", one(offsets="[0,18446744073709551615]"), "reject", "hold")
    header("offsets_near_2_64", one(dtype="U8", shape="[1]", offsets="[18446744073709551614,18446744073709551615]"), "reject", "hole")
    header("size_too_small", one(offsets="[0,12]"), "reject", "takes 16 bytes", data=b"\0" * 12)
    header("size_too_large", one(shape="[3]"), "reject", "takes 12 bytes")
    header("size_of_another_dtype", one(dtype="F16"), "reject", "takes 8 bytes")
    header("product_beyond_64_bits", one(shape="[4294967296,4294967296]"), "reject", "beyond 64 bits")
    header("product_wraps_to_size", one(shape="[4611686018427387905,4]", dtype="U8", offsets="[0,4]"), "reject", "beyond 64 bits", data=b"\0" * 4)
    header("product_beyond_64_bits_before_zero", one(shape="[9223372036854775808,9223372036854775808,0]", offsets="[0,0]"), "reject",
           "beyond 64 bits", data=b"")
    header("bits_beyond_64_bits", one(shape="[2305843009213693953]", dtype="U8", offsets="[0,1]"), "reject", "bits", data=b"\0")
    header("f4_odd_count", one(dtype="F4", shape="[3]", offsets="[0,1]"), "reject", "whole bytes", data=b"\0")
    header("f6_odd_count", one(dtype="F6_E2M3", shape="[5]", offsets="[0,3]"), "reject", "whole bytes", data=b"\0" * 3)
    header("empty_tensor_not_on_a_seam", two % (entry(), entry(shape="[0]", offsets="[8,8]")), "reject", "overlap")
    header("empty_tensor_beyond_end", two % (entry(), entry(shape="[0]", offsets="[20,20]")), "reject", "hole")


def many(count):
    return with_header(b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(count)) + b"}")


def write(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "verdicts.tsv"), "w") as verdicts:
        for name, contents, verdict, message, _ in cases:
            with open(os.path.join(folder, name + ".safetensors"), "wb") as file:
                if isinstance(contents, int):  # as many zeros behind a length word, as a hole of the file system
                    file.write(struct.pack("<Q", contents))
                    file.truncate(8 + contents)
                else:
                    file.write(contents)
            verdicts.write("%s.safetensors\t%s\t%s\n" % (name, verdict, message))


def compare_with_reference(folder):
    try:
        from safetensors import safe_open
    except ImportError:
        sys.exit(77)
    wrong = 0
    for name, _, verdict, _, reference in cases:
        expected = reference or ("reject" if verdict == "reject" else "accept")
        try:
            with safe_open(os.path.join(folder, name + ".safetensors"), "np") as file:
                file.keys()
            found = "accept"
        except Exception as error:
            found, reason = "reject", error
        if found != expected:
            wrong += 1
            print("%s: the reference reader says %s, the table says %s" % (name, found, expected), reason if found == "reject" else "")
    print("%d cases, %d differ from the table" % (len(cases), wrong))
    return 1 if wrong else 0


legal_files()
structure()
json_text()
names()
entries()
places()
case("tensors_beyond_limit", many(1_000_001), "reject", "more than 1000000 tensors", reference="accept")

if __name__ == "__main__":
    assert len({name for name, *_ in cases}) == len(cases), "two cases of one name"
    write(sys.argv[1])
    if "--reference" in sys.argv[2:]:
        sys.exit(compare_with_reference(sys.argv[1]))
