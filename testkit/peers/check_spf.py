"""Checks SPF with pyspf: cases as JSON lines on standard input, results as JSON lines on standard output.

A case has `ip`, `sender`, `helo`, and `zone`: names, each with a list of [type, value]. Values of type TXT are lists of strings, each
character an octet; the type `!` stands for a failure of all types.
"""

import json
import socket
import sys

import spf

ZONE = {}


def lookup(name, kind, strict=True, timeout=None):
    name = name.rstrip(".").lower()
    records = []
    for _ in range(9):
        entries = ZONE.get(name, [])
        if any(entry[0] == "!" for entry in entries):
            raise spf.TempError("DNS failure")
        found = [((name, kind), decode(kind, value)) for entry, value in entries if entry == kind]
        if found:
            return records + found
        alias = [value for entry, value in entries if entry == "CNAME"]
        if not alias:
            return records
        records.append(((name, "CNAME"), alias[0]))
        name = alias[0].rstrip(".").lower()
    raise spf.TempError("DNS failure")


def decode(kind, value):
    if kind == "TXT":
        return tuple(text.encode("latin-1") for text in value)
    if kind == "AAAA":
        return socket.inet_pton(socket.AF_INET6, value)
    if kind == "MX":
        return tuple(value)
    return value


def check(case):
    ZONE.clear()
    ZONE.update(case["zone"])
    query = spf.query(i=case["ip"], s=case["sender"], h=case["helo"], receiver="mx.example", strict=True)
    query.set_default_explanation("DEFAULT")
    result, _, explanation = query.check()
    reason = "" if result in ("pass", "fail", "softfail", "neutral") else explanation
    return {"result": result, "reason": reason, "explanation": explanation if result == "fail" else ""}


def main():
    spf.DNSLookup = lookup
    for line in sys.stdin:
        try:
            answer = check(json.loads(line))
        except Exception as error:  # A case that the peer fails at is a difference like others.
            answer = {"result": "crash", "reason": repr(error), "explanation": ""}
        print(json.dumps(answer), flush=True)


main()
