"""Reads From fields with Python's own readers: values as JSON strings, one a line, each character an octet; results as JSON lines.

A result has the addresses that `email.utils.getaddresses` finds, and those of `email.headerregistry`.
"""

import email.utils
import json
import sys
from email.headerregistry import HeaderRegistry


def clean(addresses):
    """Without the halves of characters that Python keeps of what it cannot decode."""
    return [address.encode("utf-8", "replace").decode() for address in addresses]


def main():
    registry = HeaderRegistry()
    for line in sys.stdin:
        text = json.loads(line).encode("latin-1").decode("utf-8", "replace").replace("\r\n", "\n")
        unfolded = text.replace("\n", "")
        plain = [address for _, address in email.utils.getaddresses([unfolded])]
        try:
            field = registry("From", unfolded.strip())
            strict = [address.addr_spec for address in field.addresses]
            defects = len(field.defects)
        except Exception as error:  # What the peer fails at is a difference like others.
            strict, defects = [], -1
        print(json.dumps({"plain": clean(plain), "strict": clean(strict), "defects": defects}), flush=True)


main()
