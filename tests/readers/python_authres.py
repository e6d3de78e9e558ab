"""Reads Authentication-Results with the Python package authres.

The values of fields come on standard input, a NUL behind each. For each goes a line to standard output: method=result of each result,
and domain names that were read; or error, and why.
"""

import re
import sys

import authres

context = authres.all_features()
for value in sys.stdin.read().split("\0")[:-1]:
    try:
        header = context.parse_value(re.sub(r"\r?\n(?=[ \t])", "", value))
        words = [header.authserv_id]
        for result in header.results:
            words.append(result.method + "=" + result.result)
            words += [
                p.type + "." + p.name + "=" + p.value for p in result.properties if (p.type, p.name) in [("header", "d"), ("header", "from")]
            ]
        print(*words)
    except Exception as error:
        print("error", type(error).__name__, str(error).replace("\n", " "))
