"""Client certificates of every kind, each shown to a node in a handshake of its own.

Each has a verdict that a person has written down. It must be OpenSSL's too, together with the rules of
SPIFFE as they are written here, and it must be the node's: two implementations that share no code."""

import datetime
import os
import re
import socket
import ssl
import subprocess
import tempfile
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import wire

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
HOUR = datetime.timedelta(hours=1)
SECOND = datetime.timedelta(seconds=1)

DOMAIN = "cluster.local"
GOOD = f"spiffe://{DOMAIN}/ns/default/sa/probe"

# A URI of SPIFFE is not longer (SPIFFE-ID section 2.3), a chain neither than a node keeps.
URI_BYTES_MAX = 2048
CHAIN_BYTES_MAX = 12 * 1024

# What the node wants to see within: its answer to a handshake.
PATIENCE_SECONDS = 10.0
# A node that was given a list takes it within so long.
LIST_SECONDS = 5.0

IDENTITY = re.compile(r"spiffe://([a-z0-9._-]+)/ns/([A-Za-z0-9._-]+)/sa/([A-Za-z0-9._-]+)")


def main():
    parser = wire.arguments(__doc__)
    parser.add_argument("--root-key", required=True)
    parser.add_argument("--list", required=True, help="where the node looks for the root's CRL")
    told = parser.parse_args()
    maker = Maker(told)
    cases = maker.cases()
    maker.publish(told.list)
    time.sleep(LIST_SECONDS)
    disagree, wrong, slowest = [], [], 0.0
    for name, chain, key, good in cases:
        if maker.judge(chain) != good:
            disagree.append(name)
        let_in, seconds = show(told, chain, key)
        slowest = max(slowest, seconds)
        if let_in != good:
            wrong.append(f"{name}: {'let in' if let_in else 'refused'}")
    wire.tell(
        certificates=len(cases),
        good=sum(good for _, _, _, good in cases),
        disagree=disagree,
        wrong=wrong,
        slowest_ms=round(slowest * 1000, 1),
    )


class Maker:
    """Makes certificates under the mesh's root, and under others."""

    def __init__(self, told):
        with open(told.roots, "rb") as file:
            self.root = x509.load_pem_x509_certificate(file.read())
        with open(told.root_key, "rb") as file:
            self.root_key = serialization.load_pem_private_key(file.read(), None)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.revoked = []
        self.made = []

    def cases(self):
        self.names()
        self.purposes_and_times()
        self.chains()
        self.keys()
        return self.made

    def case(self, name, chain, good, key=None):
        self.made.append((name, chain, key or self.key, good))

    def leaf(self, uris=(GOOD,), key=None, issuer=None, change=None, begin=-HOUR, end=HOUR, names=(), extra=()):
        """A leaf as the authority would make it, but for what is said."""
        certificate, signer = issuer or (self.root, self.root_key)
        alternatives = [x509.UniformResourceIdentifier(uri) for uri in uris] + list(names)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(certificate.subject)
            .public_key((key or self.key).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + begin)
            .not_valid_after(NOW + end)
        )
        extensions = {"eku": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)}
        if alternatives:
            extensions["san"] = (x509.SubjectAlternativeName(alternatives), True)
        extensions.update(change or {})
        for value in extensions.values():
            if value is not None:
                builder = builder.add_extension(value[0], critical=value[1])
        for value, critical in extra:
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())

    def authority(self, issuer=None, ca=True, length=None, end=HOUR, extra=()):
        """An intermediate and its key."""
        certificate, signer = issuer or (self.root, self.root_key)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"intermediate {len(self.made)} {os.urandom(4).hex()}")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * HOUR)
            .not_valid_after(NOW + end)
            .add_extension(x509.BasicConstraints(ca, length if ca else None), critical=True)
        )
        for value, critical in extra:
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(signer, hashes.SHA256()), key

    def names(self):
        """What stands in the certificate as the name of its owner."""
        one = lambda name, uri, good: self.case(name, [self.leaf([uri])], good)
        at = lambda domain=DOMAIN, namespace="default", account="probe": (
            f"spiffe://{domain}/ns/{namespace}/sa/{account}"
        )
        one("as it should be", GOOD, True)
        for piece in ("a", "A-b_c.d", "x" * 253, "0", "..a", "-"):
            one(f"service account {piece[:9]}", at(account=piece), True)
            one(f"namespace {piece[:9]}", at(namespace=piece), True)
        for character in " !\"#$%&'()*+,:;<=>?@[\\]^`{|}~\t\n\x00\x7f":
            for place in ("domain", "namespace", "account"):
                given = {"domain": f"clus{character}ter.local"} if place == "domain" else {place: f"a{character}b"}
                one(f"{character!r} in the {place}", at(**given), False)
        for name, uri in [
            ("upper-case scheme", GOOD.replace("spiffe", "SPIFFE")),
            ("upper-case trust domain", GOOD.replace("cluster", "Cluster")),
            ("another trust domain", GOOD.replace("cluster.local", "cluster.example")),
            ("a trust domain with ours in it", GOOD.replace("cluster.local", "cluster.local.example")),
            ("another scheme", GOOD.replace("spiffe", "https")),
            ("no trust domain", at(domain="")),
            ("no namespace", at(namespace="")),
            ("no service account", at(account="")),
            ("dot as namespace", at(namespace=".")),
            ("dots as namespace", at(namespace="..")),
            ("dots as service account", at(account="...")),
            ("up and down again", f"spiffe://{DOMAIN}/ns/a/../default/sa/probe"),
            ("slash at the end", GOOD + "/"),
            ("two slashes", GOOD.replace("/sa/", "//sa/")),
            ("slash in percent", at(account="a%2fb")),
            ("nothing in percent", at(account="probe%00")),
            ("letter in percent", at(account="%70robe")),
            ("port", at(domain=f"{DOMAIN}:443")),
            ("user", at(domain=f"me@{DOMAIN}")),
            ("query", GOOD + "?a=b"),
            ("fragment", GOOD + "#a"),
            ("NS for ns", GOOD.replace("/ns/", "/NS/")),
            ("sa before ns", f"spiffe://{DOMAIN}/sa/probe/ns/default"),
            ("piece too many", GOOD + "/x"),
            ("pieces too few", f"spiffe://{DOMAIN}/ns/default"),
            ("only the trust domain", f"spiffe://{DOMAIN}"),
            ("no slashes", GOOD.replace("://", ":")),
            ("space before", " " + GOOD),
            ("newline after", GOOD + "\n"),
            ("one byte too long", GOOD + "x" * (URI_BYTES_MAX + 1 - len(GOOD))),
        ]:
            one(name, uri, False)
        one("as long as it may be", GOOD + "x" * (URI_BYTES_MAX - len(GOOD)), True)
        several = lambda name, uris, good, names=(): self.case(name, [self.leaf(uris, names=names)], good)
        several("no name at all", [], False)
        several("a name of DNS only", [], False, [x509.DNSName("probe.default.svc")])
        several("two identities", [GOOD, GOOD + "2"], True)
        several("ours after a foreign one", [GOOD.replace(DOMAIN, "example.org"), GOOD], True)
        several("two foreign ones", [GOOD.replace(DOMAIN, "example.org"), GOOD.replace(DOMAIN, "b.org")], False)
        several("ours after nonsense", ["spiffe:nonsense", GOOD], True)
        several("a page and an identity", ["https://example.org", GOOD], True)
        several("DNS and an identity", [GOOD], True, [x509.DNSName("probe.default.svc")])
        not_text = bytes.fromhex("860a") + b"spiffe://\xff"
        raw = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30" + bytes([len(not_text)]) + not_text)
        self.case("bytes that are no text", [self.leaf([], change={"san": (raw, True)})], False)

    def purposes_and_times(self):
        usage = lambda *of: {"eku": (x509.ExtendedKeyUsage(list(of)), False)}
        of = ExtendedKeyUsageOID
        for name, change, good in [
            ("no purpose", {"eku": None}, True),
            ("for servers and clients", usage(of.SERVER_AUTH, of.CLIENT_AUTH), True),
            ("for servers only", usage(of.SERVER_AUTH), False),
            ("for code", usage(of.CODE_SIGNING), False),
            ("for mail", usage(of.EMAIL_PROTECTION), False),
            ("for time stamps", usage(of.TIME_STAMPING), False),
            ("for anything", usage(of.ANY_EXTENDED_KEY_USAGE), False),
            ("an authority as a leaf", {"bc": (x509.BasicConstraints(True, None), True)}, False),
            ("says that it is no authority", {"bc": (x509.BasicConstraints(False, None), True)}, True),
        ]:
            self.case(name, [self.leaf(change=change)], good)
        for name, begin, end, good in [
            ("ended a second ago", -HOUR, -SECOND, False),
            ("ended an hour ago", -2 * HOUR, -HOUR, False),
            ("begins in an hour", HOUR, 2 * HOUR, False),
            ("began a second ago", -SECOND, HOUR, True),
            ("until the year 9999", -HOUR, datetime.datetime(9999, 12, 31, tzinfo=datetime.timezone.utc) - NOW, True),
        ]:
            self.case(name, [self.leaf(begin=begin, end=end)], good)
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
        unknown = x509.UnrecognizedExtension(oid, b"\x05\x00")
        self.case("something unknown", [self.leaf(extra=[(unknown, False)])], True)
        self.case("something unknown that matters", [self.leaf(extra=[(unknown, True)])], False)

    def chains(self):
        one = self.authority()
        self.case("an intermediate", [self.leaf(issuer=one), one[0]], True)
        self.case("its intermediate is not there", [self.leaf(issuer=one)], False)
        two = self.authority(one)
        self.case("two intermediates", [self.leaf(issuer=two), two[0], one[0]], True)
        self.case("out of order", [self.leaf(issuer=two), one[0], two[0]], True)
        self.case("with one that is not needed", [self.leaf(), one[0]], True)
        ends = self.authority(length=0)
        self.case("as long as allowed", [self.leaf(issuer=ends), ends[0]], True)
        below = self.authority(ends)
        self.case("longer than allowed", [self.leaf(issuer=below), below[0], ends[0]], False)
        no_authority = self.authority(ca=False)
        self.case("signed by a leaf", [self.leaf(issuer=no_authority), no_authority[0]], False)
        over = self.authority(end=-SECOND)
        self.case("its intermediate ended", [self.leaf(issuer=over), over[0]], False)
        servers = self.authority(extra=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)])
        self.case("its intermediate is for servers", [self.leaf(issuer=servers), servers[0]], False)
        only = x509.NameConstraints([x509.DNSName("example.org")], None)
        limited = self.authority(extra=[(only, True)])
        inside = [x509.DNSName("a.example.org")]
        self.case("within its constraints", [self.leaf(issuer=limited, names=inside), limited[0]], True)
        outside = [x509.DNSName("a.example.com")]
        self.case("outside of its constraints", [self.leaf(issuer=limited, names=outside), limited[0]], False)
        link, chain = None, []
        for _ in range(10):
            link = self.authority(link)
            chain.insert(0, link[0])
        self.case("ten intermediates", [self.leaf(issuer=link), *chain], False)
        name = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.2"), bytes(64 * 1024))
        self.case("64 KiB", [self.leaf(extra=[(name, False)])], False)
        other_key = ec.generate_private_key(ec.SECP256R1())
        self.case("signed with another key in the root's name", [self.leaf(issuer=(self.root, other_key))], False)
        own = self.leaf(issuer=(self.leaf(), self.key))
        self.case("signed by itself", [own], False)
        other = self.authority(ca=True)
        stranger = self.authority((other[0], other_key))
        self.case("under a stranger", [self.leaf(issuer=stranger), stranger[0]], False)
        spoiled = bytearray(self.leaf().public_bytes(serialization.Encoding.DER))
        spoiled[-1] ^= 1
        self.case("a bit of its signature", [x509.load_der_x509_certificate(bytes(spoiled))], False)
        taken_back = self.leaf()
        self.revoked.append(taken_back)
        self.case("taken back", [taken_back], False)

    def keys(self):
        for name, key, good in [
            ("P-384", ec.generate_private_key(ec.SECP384R1()), True),
            ("Ed25519", ed25519.Ed25519PrivateKey.generate(), True),
            ("RSA of 2048 bits", rsa.generate_private_key(65537, 2048), True),
            ("RSA of 3072 bits", rsa.generate_private_key(65537, 3072), True),
            ("RSA of 1024 bits", rsa.generate_private_key(65537, 1024), False),
        ]:
            self.case(name, [self.leaf(key=key)], good, key)

    def publish(self, place):
        """The root's list, where node and OpenSSL read it."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.root.subject)
        builder = builder.last_update(NOW - HOUR).next_update(NOW + HOUR)
        for certificate in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(NOW - SECOND).build())
        builder = builder.add_extension(x509.CRLNumber(int(NOW.timestamp())), critical=False)
        # As the root calls its key, or OpenSSL takes the list for another's.
        key = self.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key)
        builder = builder.add_extension(key, critical=False)
        signed = builder.sign(self.root_key, hashes.SHA256())
        with open(place + ".next", "wb") as file:
            file.write(signed.public_bytes(serialization.Encoding.PEM))
        os.rename(place + ".next", place)
        self.list = place

    def anchor(self):
        """The root's name and key, which is all that a trust anchor is (RFC 5280 section 6.1.1): how long its own
        certificate lets chains be is not part of it."""
        builder = x509.CertificateBuilder().subject_name(self.root.subject).issuer_name(self.root.subject)
        builder = builder.public_key(self.root.public_key()).serial_number(self.root.serial_number)
        builder = builder.not_valid_before(NOW - 24 * HOUR).not_valid_after(NOW + 24 * HOUR)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        key = self.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return builder.add_extension(key, critical=False).sign(self.root_key, hashes.SHA256())

    def judge(self, chain):
        """What OpenSSL says of the chain, and SPIFFE of the name."""
        if sum(len(one.public_bytes(serialization.Encoding.DER)) for one in chain) > CHAIN_BYTES_MAX:
            return False
        return is_leaf_of_ours(chain[0]) and self.openssl(chain)

    def openssl(self, chain):
        with tempfile.TemporaryDirectory() as home:
            leaf, pool, anchor = (os.path.join(home, name) for name in ("leaf.pem", "pool.pem", "anchor.pem"))
            write(leaf, chain[:1])
            write(pool, chain[1:])
            write(anchor, [self.anchor()])
            command = ["openssl", "verify", "-purpose", "sslclient", "-auth_level", "2", "-verify_depth", "6"]
            command += ["-CAfile", anchor, "-CRLfile", self.list]
            # Of the lists there is the root's only: it is asked where the root has signed.
            if chain[0].issuer == self.root.subject:
                command.append("-crl_check")
            if chain[1:]:
                command += ["-untrusted", pool]
            ran = subprocess.run([*command, leaf], capture_output=True, timeout=PATIENCE_SECONDS)
            return ran.returncode == 0


def is_leaf_of_ours(leaf):
    """An X.509-SVID of our trust domain, by the rules of SPIFFE."""
    try:
        constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
        if constraints.ca:
            return False
    except x509.ExtensionNotFound:
        pass
    except ValueError:
        return False
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        match = IDENTITY.fullmatch(uri)
        if len(uri) > URI_BYTES_MAX or not match:
            continue
        if match[1] == DOMAIN and all(piece.strip(".") for piece in match.groups()):
            return True
    return False


def write(path, certificates):
    with open(path, "wb") as file:
        for one in certificates:
            file.write(one.public_bytes(serialization.Encoding.PEM))


def show(told, chain, key):
    """Shakes hands with the node. Whether it goes on to HTTP/2, and how long that took."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.load_verify_locations(told.roots)
    made.set_alpn_protocols(["h2"])
    # What is too weak is the node's to refuse.
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    with tempfile.TemporaryDirectory() as home:
        certificates, private = os.path.join(home, "chain.pem"), os.path.join(home, "key.pem")
        write(certificates, chain)
        form = serialization.PrivateFormat.PKCS8
        with open(private, "wb") as file:
            file.write(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        made.load_cert_chain(certificates, private)
    began = time.monotonic()
    try:
        stream = wire.connect(told, made, PATIENCE_SECONDS)
        stream.sendall(wire.PREFACE + wire.EMPTY_SETTINGS)
        answer = stream.recv(9)
        stream.close()
    except socket.timeout:
        raise
    except (ssl.SSLError, OSError):
        answer = b""
    return len(answer) > 0, time.monotonic() - began


if __name__ == "__main__":
    main()
