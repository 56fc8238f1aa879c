#!/usr/bin/env python3
"""Writes the first seeds, one small honest input of each kind. Findings are added by hand."""

import base64
import datetime
import hashlib
import pathlib
import struct

HERE = pathlib.Path(__file__).parent / "seeds"


def name(text):
    return b"".join(bytes([len(label)]) + label for label in text.encode().split(b".") if label) + b"\0"


def opt(options=b"", flags=0x8000, version=0, octets=1232):
    return b"\0" + struct.pack("!HHBBHH", 41, octets, 0, version, flags, len(options)) + options


def query(qname="www.example.com", qtype=1, flags=0x0100, count=1, extra=None):
    additional = opt() if extra is None else extra
    header = struct.pack("!6H", 0x1234, flags, count, 0, 0, 1 if additional else 0)
    return header + (name(qname) + struct.pack("!HH", qtype, 1)) * count + additional


def record(owner, rtype, rdata, ttl=300):
    return owner + struct.pack("!HHIH", rtype, 1, ttl, len(rdata)) + rdata


def response(qtype, answer=(), authority=(), rcode=0, additional=None, qname="www.example.com"):
    additional = opt() if additional is None else additional
    counts = (1, len(answer), len(authority), 1 if additional else 0)
    header = struct.pack("!6H", 0x1234, 0x8180 | rcode, *counts)
    question = name(qname) + struct.pack("!HH", qtype, 1)
    return header + question + b"".join(answer) + b"".join(authority) + additional


POINTER = b"\xc0\x0c"
SIGNATURE = (
    struct.pack("!HBBIIIH", 1, 13, 3, 300, 1893456000, 1577836800, 4711) + name("example.com") + bytes(range(64))
)
SOA = name("ns.example.com") + b"\x04host\xc0\x10" + struct.pack("!5I", 1, 7200, 3600, 86400, 300)
COOKIE = struct.pack("!HH", 10, 8) + b"cookie!!"
ERROR = struct.pack("!HHH", 15, 6, 22) + b"text"

RESPONSES = {
    "address": response(1, [record(POINTER, 1, bytes([192, 0, 2, 1]))]),
    "signed": response(1, [record(POINTER, 1, bytes([192, 0, 2, 1])), record(POINTER, 46, SIGNATURE)]),
    "alias": response(
        1, [record(POINTER, 5, b"\x05other\xc0\x10"), record(b"\x05other\xc0\x10", 1, bytes([192, 0, 2, 2]))]
    ),
    "absent": response(1, authority=[record(b"\xc0\x10", 6, SOA)], rcode=3),
    "denied": response(
        28,
        authority=[
            record(b"\xc0\x10", 6, SOA),
            record(POINTER, 47, name("z.example.com") + b"\x00\x06\x40\x00\x00\x00\x00\x03"),
        ],
    ),
    "mail": response(15, [record(POINTER, 15, b"\x00\x0a\x04mail\xc0\x10")]),
    "failed": response(1, rcode=2, additional=opt(ERROR)),
    "service": response(65, [record(POINTER, 65, b"\x00\x01\x00\x00\x01\x00\x03\x02h2")]),
}

QUERIES = {
    "plain": query(extra=b""),
    "edns": query(),
    "cookie": query(extra=opt(COOKIE)),
    "padded": query(extra=opt(struct.pack("!HH", 12, 16) + bytes(16))),
    "keepalive": query(extra=opt(struct.pack("!HH", 11, 0))),
    "version": query(extra=opt(version=1)),
    "two": query(count=2),
    "none": query(count=0),
    "opcode": query(flags=0x2100),
    "root": query("", 2),
    "transfer": query(qtype=252),
    "case": query("WwW.eXaMpLe.CoM"),
    "loop": struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01",
}

CONFIG = """[listen]
dns = ["127.0.0.1:53", "[::1]:53"]
dot = []
doq = ["0.0.0.0:853"]
doh = ["0.0.0.0:443"]
doh_path = "/dns-query"
[tls]
names = ["router.lan", "192.168.1.1"]
[access]
allow = ["loopback", "private", "192.0.2.0/24"]
rate_limit = 10
[[upstream]]
url = "tls://192.0.2.1:853"
name = "office"
server_name = "dns.example"
pin = ["sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]
[[upstream]]
url = "quad9"
[forward]
timeout = "4s"
[cache]
size = "32MiB"
min_ttl = "0s"
max_ttl = "1d"
max_negative_ttl = "1h"
[state]
directory = "state"
[log]
level = "info"
format = "json"
"""


def stamp(protocol, *parts):
    octets = bytes([protocol]) + bytes(8) + b"".join(bytes([len(part)]) + part for part in parts)
    return "sdns://" + base64.urlsafe_b64encode(octets).decode().rstrip("=")


URLS = [
    "udp://192.0.2.1",
    "tcp://[2001:db8::1]:5353",
    "tls://192.0.2.1:853",
    "https://192.0.2.1/dns-query",
    "h3://192.0.2.1:443/q",
    "quic://192.0.2.1",
    "quad9",
    stamp(0, b"192.0.2.1:53"),
    stamp(2, b"192.0.2.1", bytes(32), b"dns.example", b"/dns-query"),
    stamp(3, b"192.0.2.1:853", bytes(32), b"dns.example"),
    stamp(4, b"[2001:db8::1]:853", b"", b"dns.example"),
    "https://dns.example/dns-query",
]

REQUESTS = [
    "GET\n/dns-query?dns=" + base64.urlsafe_b64encode(QUERIES["edns"]).decode().rstrip("=") + "\n",
    "GET\n/dns-query?a=b&dns=AAAA==\n",
    "POST\n/dns-query\napplication/dns-message; charset=x",
    "PUT\n/dns-query\n",
    "GET\n/\n",
]


def write(target, seeds):
    directory = HERE / target
    directory.mkdir(parents=True, exist_ok=True)
    for label, octets in seeds.items():
        (directory / label).write_bytes(octets)


# The conversation of the target "validate": the chains of RFC 9102, appendix A.

TYPES = {"CNAME": 5, "DNAME": 39, "DS": 43, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "NSEC3": 50, "TLSA": 52}
OTHER_TYPES = {"A": 1, "NS": 2, "SOA": 6, "AAAA": 28, "NSEC3PARAM": 51}


def base32hex(text):
    digits = "0123456789abcdefghijklmnopqrstuv"
    value = int("".join(f"{digits.index(digit):05b}" for digit in text.lower()), 2)
    return value.to_bytes(len(text) * 5 // 8, "big")


def bitmap(types):
    bits = bytearray(32)
    for one in types:
        number = (TYPES | OTHER_TYPES)[one]
        bits[number // 8] |= 0x80 >> number % 8
    bits = bytes(bits).rstrip(b"\0")
    return bytes([0, len(bits)]) + bits


def seconds(text):
    moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=datetime.timezone.utc)
    return int(moment.timestamp())


def rdata(kind, words):
    if kind in ("CNAME", "DNAME"):
        return name(words[0])
    if kind == "NSEC":
        return name(words[0]) + bitmap(words[1:])
    if kind == "NSEC3":
        following = base32hex(words[4])
        fixed = struct.pack("!BBHBB", int(words[0]), int(words[1]), int(words[2]), 0, len(following))
        return fixed + following + bitmap(words[5:])
    if kind == "TLSA":
        return bytes(int(word) for word in words[:3]) + bytes.fromhex(words[3])
    if kind in ("DS", "DNSKEY"):
        tail = bytes.fromhex(words[3]) if kind == "DS" else base64.b64decode(words[3])
        return struct.pack("!HBB", *(int(word) for word in words[:3])) + tail
    numbers = (TYPES[words[0]], *(int(word) for word in words[1:4]), seconds(words[4]), seconds(words[5]), int(words[6]))
    return struct.pack("!HBBIIIH", *numbers) + name(words[7]) + base64.b64decode(words[8])


def zone_records():
    path = pathlib.Path(__file__).parent.parent / "src/dnssec/tests/rfc9102.zone"
    for line in path.read_text().splitlines():
        if line and not line.startswith(";"):
            owner, ttl, kind, *words = line.split()
            covered = words[0] if kind == "RRSIG" else kind
            yield (owner, covered), record(name(owner), TYPES[kind], rdata(kind, words), int(ttl))


def conversation():
    sets = {}
    for key, octets in zone_records():
        sets.setdefault(key, []).append(octets)

    def said(owner, kind, answer=(), authority=(), rcode=0, made=()):
        of = lambda keys: [octets for key in keys for octets in sets[key]]
        answer = of(answer) + list(made)
        return response(TYPES[kind], answer, of(authority), rcode, b"", qname=owner)

    tlsa = lambda owner, *more, **others: said(owner, "TLSA", *more, **others)
    www, mail = "_443._tcp.www.example.", "_25._tcp.example."
    hashed = lambda *labels: [(f"{label}.example.org.", "NSEC3") for label in labels]
    dlm7 = "dlm7rss9pejqnh0ev6h7k1ikqqcl5mae"
    smtp = ("vkv62jbv85822q8rtmfnbhfnmnat9ve3", dlm7, "a73bi8coh6dvf1arqdeuogf95r0828mk")
    cut = ("c1kgc91hrn9nqi2qjh1ms78ki8p7s75o.example.", "shn05itmoa45mmnv74lc4p0nnfmimtjt.example.")
    made = record(name(www + "net."), TYPES["CNAME"], name(www + "com."), 3600)
    yield tlsa(www + "com.", [(www + "com.", "TLSA")])
    yield tlsa(mail + "com.", [(mail + "com.", "TLSA")], [("*._tcp.example.com.", "NSEC")])
    yield tlsa(mail + "org.", [(mail + "org.", "TLSA")], hashed(dlm7))
    yield tlsa(www + "org.", [(www + "org.", "CNAME"), ("dane311.example.org.", "TLSA")])
    yield tlsa(www + "net.", [("example.net.", "DNAME"), (www + "com.", "TLSA")], made=[made])
    yield tlsa("_25._tcp.smtp.example.com.", [], [("smtp.example.com.", "NSEC")], 3)
    yield tlsa("_25._tcp.smtp.example.org.", [], hashed(*smtp), 3)
    yield tlsa("_443._tcp.www.insecure.example.", [], [(owner, "NSEC3") for owner in cut])
    for zone in ("com.", "example.com.", "org.", "example.org.", "net.", "example.net.", "example."):
        for kind in ("DS", "DNSKEY"):
            yield said(zone, kind, [(zone, kind)])
    yield said(".", "DNSKEY", [(".", "DNSKEY")])


def changes():
    """One seed for each question as it is, and for each kind of change to each question."""
    for question in range(8):
        yield f"{question}-honest", bytes([question])
        for what in range(10):
            yield f"{question}-{what}", bytes([question, question, what, 0, 9 + what, 5])
    yield "own", bytes([0, 0, 0xFF, 0, 0, 0]) + RESPONSES["address"]
    # Signatures, keys and DS, one octet each; another zone's proofs; records without signature.
    for message in range(8, 23):
        yield f"chain-{message}", bytes([message % 8, message, 9, message % 3, 20, 1])
    yield "mixed", bytes([0, 0, 0, 0, 7, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 3])
    yield "bare", bytes([0, 0, 4, 1, 0, 0, 5, 4, 1, 0, 0])


def numbered(texts):
    return {f"{number:02}": text.encode() for number, text in enumerate(texts)}


def stored(flags, transport):
    asked = QUERIES["edns"]
    return {
        f"{label}-{transport}-{flags}": bytes([0, flags, 1, 9, transport, len(asked)]) + asked + octets
        for label, octets in RESPONSES.items()
    }


def frame(message):
    return struct.pack("!H", len(message)) + message


# Files of the cache, see src/cache/file.rs and src/cache/entry.rs.

SAVED_S = 1 << 30


def entry(message, flags, qtype, text=b"", ttl_s=300):
    """What src/cache/entry.rs makes of the records behind the question of a message."""
    asked = name("www.example.com") + struct.pack("!HH", qtype, 1)
    counts = struct.unpack("!6H", message[:12])
    records = message[12 + len(asked) : len(message) - len(opt())]
    times = struct.pack("!I", SAVED_S - 10) + struct.pack("!I", ttl_s)[1:] + bytes(3)
    head = times + struct.pack("!BBH", flags, (message[3] & 15) << 4, len(asked) + 1)
    signed = struct.pack("!H", 1440) if flags & 0x01 else b""
    form = struct.pack("!BB", counts[3], counts[4])
    if flags & 0x0A:
        form += struct.pack("!H", len(records))
    return head + signed + form + asked + b"\0" + records + text


def cache_file(*entries, layout=3):
    head = b"truename cache\r\n" + struct.pack("!HHQI", 1, layout, 1_800_000_000, SAVED_S) + bytes(48)
    body = b"".join(struct.pack("!I", len(entry)) + entry for entry in entries)
    octets = head + body + struct.pack("!IQ", 0, len(entries))
    return octets + hashlib.sha256(octets).digest()


ENTRIES = [
    entry(RESPONSES["address"], 0x00, 1),
    entry(RESPONSES["signed"], 0x89, 1, b"\0\x04stale"),
    entry(RESPONSES["absent"], 0x01, 1),
]
write(
    "cache_file",
    {
        "empty": cache_file(),
        "three": cache_file(*ENTRIES),
        "one": cache_file(ENTRIES[1]),
        "failure": cache_file(entry(RESPONSES["absent"], 0x04, 1)),
        "ttl": cache_file(entry(RESPONSES["address"], 0x00, 1, ttl_s=86_400)),
        "layout": cache_file(*ENTRIES, layout=0),
        "cut": cache_file(*ENTRIES)[:-40],
        "foreign": b"[listen]\n",
    },
)
write("query_peek", QUERIES)
write("response", RESPONSES)
write("entry", stored(0x00, 0) | stored(0x11, 2) | stored(0x06, 0))
write("doh_request", numbered(REQUESTS))
write("stamp_url", numbered(URLS))
write("config", numbered([CONFIG, "", "[cache]\nsiez = 1\n", "[listen\n"]))
write("framing", {"two": frame(QUERIES["plain"]) + frame(QUERIES["edns"]), "part": frame(b"12345")[:-2]})
write(
    "name",
    {
        "plain": b"\0" + name("www.example.com"),
        "pointer": bytes([17]) + name("www.example.com") + b"\x01a\xc0\x04",
        "odd": b"\0" + b"\x05a.b\\\x00\x02\xc3\xa9\0",
        "text": b"\xffwww.ex\\097mple.com.",
    },
)
write("validate", dict(changes()))
(HERE.parent / "rfc9102.hex").write_text("".join(octets.hex() + "\n" for octets in conversation()))
