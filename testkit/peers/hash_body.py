"""Hashes bodies as DKIM does, with the canonicalization of dkimpy: cases as JSON lines on standard input, hashes on standard output.

A case has `body` (base64), `relaxed`, and `length` (octets of the canonical body to hash; null: all; a number below 1: that part of it).
A result has `hash` (base64) and `length`, or null.
"""

import base64
import hashlib
import json
import sys

from dkim.canonicalization import CanonicalizationPolicy


def main():
    policies = {word: CanonicalizationPolicy.from_c_value(b"simple/" + word.encode()) for word in ("simple", "relaxed")}
    for line in sys.stdin:
        case = json.loads(line)
        body = policies["relaxed" if case["relaxed"] else "simple"].canonicalize_body(base64.b64decode(case["body"]))
        length = case["length"]
        if isinstance(length, float):
            length = int(length * len(body))
        hashed = base64.b64encode(hashlib.sha256(body[:length]).digest()).decode()
        print(json.dumps({"hash": hashed, "length": length}), flush=True)


main()
