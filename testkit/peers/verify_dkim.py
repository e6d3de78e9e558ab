"""Verifies DKIM with dkimpy: cases as JSON lines on standard input, results as JSON lines on standard output.

A case has `message` (base64, lines ending in CRLF), `signatures` (how many there are) and `keys`: names and their texts, each character
an octet. A result says of each signature, from the top, `pass`, `fail`, or why it cannot be verified.
"""

import base64
import json
import sys

import dkim


def check(case):
    keys = case["keys"]

    def lookup(name, timeout=5):
        name = name.decode() if isinstance(name, bytes) else name
        text = keys.get(name.rstrip(".").lower())
        return None if text is None else text.encode("latin-1")

    message = base64.b64decode(case["message"])
    results = []
    for number in range(case["signatures"]):
        try:
            results.append("pass" if dkim.DKIM(message).verify(idx=number, dnsfunc=lookup) else "fail")
        except Exception as error:  # What the peer fails at is a difference like others.
            results.append(f"{type(error).__name__}: {error}")
    return results


def main():
    for line in sys.stdin:
        print(json.dumps(check(json.loads(line))), flush=True)


main()
