"""Signs messages with dkimpy: a list of jobs as JSON on standard input, the list of field values on standard output.

A job has `message` (base64), `key` (PEM file), `algorithm`, `headers` (names for h=), and either `selector`, `domain`,
`canonicalization` and `length` (whether to add l=), for dkimpy's own way of signing; or `tags`, the whole field with `{bh}`, `{h}` and
`{length}` to fill in, and an empty `b=` at its end, for signatures that dkimpy would not make by itself.
"""

import base64
import json
import sys

import dkim
from dkim.canonicalization import CanonicalizationPolicy
from dkim.crypto import HASH_ALGORITHMS, RSASSA_PKCS1_v1_5_sign, parse_pem_private_key
from nacl.signing import SigningKey


def seed(pem):
    """The private key of an Ed25519 key in PKCS #8, which it ends with."""
    lines = [line for line in pem.decode().splitlines() if not line.startswith("-")]
    return base64.b64decode("".join(lines))[-32:]


def sign(job, message, pem, headers):
    is_rsa = job["algorithm"].startswith("rsa")
    signer = dkim.DKIM(message, signature_algorithm=job["algorithm"].encode(), linesep=b"\r\n")
    field = signer.sign(
        job["selector"].encode(),
        job["domain"].encode(),
        pem if is_rsa else base64.b64encode(seed(pem)),
        canonicalize=tuple(part.encode() for part in job["canonicalization"].split("/")),
        include_headers=headers,
        length=job["length"],
    )
    return field.split(b":", 1)[1]


def sign_tags(job, message, pem, headers):
    tags = job["tags"]
    parts = dict(part.strip().split("=", 1) for part in tags.split(";") if "=" in part)
    policy = CanonicalizationPolicy.from_c_value(parts.get("c", "simple/simple").encode())
    fields, body = dkim.rfc822_parse(message)
    body = policy.canonicalize_body(body)
    length = int(parts["l"]) if parts.get("l", "").isdigit() else len(body)
    hasher = HASH_ALGORITHMS[job["algorithm"].encode()]
    hashed = base64.b64encode(hasher(body[:length]).digest()).decode()
    names = ":".join(name.decode() for name in headers)
    value = " " + tags.replace("{bh}", hashed).replace("{h}", names).replace("{length}", str(length))
    digest = hasher()
    own = (b"DKIM-Signature", value.encode())
    dkim.hash_headers(digest, policy, policy.canonicalize_headers(fields), [name.lower() for name in headers], own, {b"b": b""})
    if job["algorithm"].startswith("rsa"):
        signature = RSASSA_PKCS1_v1_5_sign(digest, parse_pem_private_key(pem))
    else:
        signature = SigningKey(seed(pem)).sign(digest.digest()).signature
    return (value + base64.b64encode(bytes(signature)).decode()).encode()


def main():
    values = []
    for job in json.load(sys.stdin):
        message = base64.b64decode(job["message"])
        with open(job["key"], "rb") as file:
            pem = file.read()
        headers = [name.encode() for name in job["headers"]]
        value = (sign_tags if "tags" in job else sign)(job, message, pem, headers)
        values.append(base64.b64encode(value.rstrip(b"\r\n")).decode())
    json.dump(values, sys.stdout)


main()
