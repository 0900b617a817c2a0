"""The part of YAML that merge recipes use, so that the tests need no package but numpy: block mappings and sequences,
flow lists, plain and quoted scalars, comments. Not a YAML reader for anything else."""

import re


def scalar(text):
    text = text.strip()
    if text[:1] == "[":
        inside = text[1:-1].strip()
        return [scalar(part) for part in inside.split(",")] if inside else []
    if text[:1] in "\"'" and text[:1] == text[-1:] and len(text) > 1:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def load(text):
    lines = []
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if line.strip() and line.strip() != "---":
            lines.append((len(line) - len(line.lstrip()), line.strip()))
    value, at = _block(lines, 0, lines[0][0])
    if at != len(lines):
        raise ValueError(f"cannot read from: {lines[at][1]}")
    return value


def _block(lines, at, indent):
    if lines[at][1].startswith("- ") or lines[at][1] == "-":
        items = []
        while at < len(lines) and lines[at][0] == indent and lines[at][1].startswith("-"):
            rest = lines[at][1][1:].strip()
            inner = indent + len(lines[at][1]) - len(rest)
            if re.match(r"[\w.]+:(\s|$)", rest):
                lines[at] = (inner, rest)
                value, at = _block(lines, at, inner)
            else:
                value, at = scalar(rest), at + 1
            items.append(value)
        return items, at
    mapping = {}
    while at < len(lines) and lines[at][0] == indent and not lines[at][1].startswith("- "):
        key, _, rest = lines[at][1].partition(":")
        at += 1
        if rest.strip():
            mapping[key] = scalar(rest)
        elif at < len(lines) and (lines[at][0] > indent or lines[at][0] == indent and lines[at][1].startswith("- ")):
            mapping[key], at = _block(lines, at, lines[at][0])
        else:
            mapping[key] = None
    return mapping, at


def dump(value, indent=0):
    pad = " " * indent
    text = ""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict) or _is_block(item):
                text += f"{pad}{key}:\n{dump(item, indent + 2)}"
            else:
                text += f"{pad}{key}: {_inline(item)}\n"
        return text
    for item in value:
        body = dump(item, indent + 2) if isinstance(item, dict) else pad + "  " + _inline(item) + "\n"
        text += pad + "- " + body[indent + 2 :]
    return text


def _is_block(item):
    return isinstance(item, list) and any(isinstance(part, (dict, list)) for part in item)


def _inline(item):
    if isinstance(item, list):
        return "[" + ", ".join(_inline(part) for part in item) + "]"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float):
        text = repr(item)
        # YAML 1.1 readers take 1e-05 for a string
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    return '"*"' if item == "*" else str(item)
