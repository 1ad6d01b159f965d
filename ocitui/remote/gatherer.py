"""What runs on another host, sent there over ssh: it ships facts of a cache and judges nothing. Python 3.6 and newer,
the standard library alone, and nothing is written there. `mirror` takes what it sends. What few hosts need is imported
where it is needed: imports are half of its time."""

import hashlib
import json
import os
import pwd
import re
import stat
import struct
import sys
import time
import zlib

BATCH, WHOLE, HEAD, MOST_HEADERS = 1 << 20, 64 << 20, 4096, 200000
HEADS_ONLY = (b".ocitui/trash/", b".ocitui/staging/", b".ocitui/reserve/", b".ocitui/blobs/", b".ocitui/import/")
PACKED = (b".squashfs", b".erofs", b".tar")


class Sender:
    """Collects files and pieces of them into records: a length, JSON of so many bytes, and the pieces; deflated."""

    def __init__(self):
        self.out, self.count = sys.stdout.buffer, 0
        self.meta, self.pieces, self.size = {"files": [], "pieces": []}, [], 0

    def add(self, path, offset, data):
        for at in range(0, len(data), BATCH):
            piece = data[at : at + BATCH]
            self.meta["pieces"].append([path, offset + at, len(piece)])
            self.pieces.append(piece)
            self.size += len(piece) + 100
            if self.size >= BATCH:
                self.flush()

    def flush(self, **keys):
        told = json.dumps(dict(self.meta, **keys)).encode()
        data = zlib.compress(struct.pack(">I", len(told)) + told + b"".join(self.pieces), 1)
        self.out.write(("%d %s\n" % (len(data), hashlib.sha256(data).hexdigest())).encode() + data)
        self.count += 1
        self.meta, self.pieces, self.size = {"files": [], "pieces": []}, [], 0


def text(path):
    try:
        with open(path, "rb") as file:
            return file.read(1 << 16).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def program(tool, places=()):
    """The path of a tool that can be run; empty where there is none."""
    found = [os.path.join(place, tool) for place in os.environ.get("PATH", "").split(":") + list(places)]
    return next((path for path in found if os.path.isfile(path) and os.access(path, os.X_OK)), "")


def spelled(name):
    return name.decode("utf-8", "surrogateescape")


def tar_number(field):
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return -1


def tar_pieces(fd, size):
    """The headers of a tar with the bodies of its extended ones, up to where it ends or makes no sense."""
    at, pax = 0, None
    for _ in range(MOST_HEADERS):
        header = os.pread(fd, 512, at)
        yield at, header
        if len(header) < 512 or not any(header):
            yield at + 512, os.pread(fd, 512, at + 512)
            return
        kind, length, more = header[156:157], tar_number(header[124:136]), header[156:157] == b"S" and header[482]
        at += 512
        while more:
            block = os.pread(fd, 512, at)
            yield at, block
            at, more = at + 512, len(block) == 512 and block[504]
        if length < 0 or at > size:
            return
        if kind in (b"x", b"g", b"L", b"K") and length <= 1 << 24:
            body = os.pread(fd, length, at)
            yield at, body
            if kind == b"x":
                found = re.search(rb"\d+ size=(\d{1,19})\n", body)
                pax = int(found.group(1)) if found else None
        elif kind in b"123456":
            length, pax = 0, None
        elif pax is not None:
            length, pax = pax, None
        at += -(-length // 512) * 512


def pieces_of(fd, name, size):
    """Of a packed file what says whether it is whole; of any other all of it."""
    if not name.endswith(PACKED) and not name.startswith(HEADS_ONLY):
        at = 0
        while at < min(size, WHOLE):
            data = os.pread(fd, BATCH, at)
            if not data:
                return
            yield at, data
            at += len(data)
        return
    head = os.pread(fd, HEAD, 0)
    bits = head[1036] if len(head) > 1036 and head[1024:1028] == b"\xe2\xe1\xf5\xe0" else 0
    yield 0, head[:96] if head[:4] == b"hsqs" else os.pread(fd, 1 << bits, 0) if 12 < bits < 17 else head
    if head[257:262] == b"ustar" or name.endswith(b".tar"):
        yield from tar_pieces(fd, size)


def send_file(sender, root, path, known, kept, told=""):
    """A name of the cache: what it is, and what is read of it unless that is known; gives whether it is a directory."""
    told = told or spelled(path)
    try:
        found = os.lstat(os.path.join(root, path))
    except FileNotFoundError:
        return False
    except OSError as error:
        sender.meta["files"].append([told, "", [0] * 9, error.errno, ""])
        return False
    facts = [found.st_mode, found.st_ino, found.st_dev, found.st_nlink, found.st_uid, found.st_gid, found.st_size]
    facts += [found.st_mtime_ns, found.st_ctime_ns]
    mark = hashlib.sha256(repr((path, facts)).encode()).hexdigest()[:16]
    kept.add(mark)
    if mark in known:
        return stat.S_ISDIR(found.st_mode)
    failed, leads, pieces = 0, "", []
    if stat.S_ISLNK(found.st_mode):
        target = os.path.realpath(os.path.join(root, path))
        if os.path.dirname(target) == os.path.realpath(os.path.dirname(os.path.join(root, path))):
            leads = spelled(os.path.basename(target))
        elif os.path.isfile(target):
            leads = "/"
    if stat.S_ISREG(found.st_mode) or leads == "/":
        try:
            fd = os.open(os.path.join(root, path), os.O_RDONLY | os.O_NONBLOCK)
            try:
                pieces = list(pieces_of(fd, path, os.fstat(fd).st_size))
            finally:
                os.close(fd)
        except OSError as error:
            failed = error.errno
    sender.meta["files"].append([told, mark, facts, failed, leads])
    sender.size += 300
    for at, data in pieces:
        sender.add(told, at, data)
    if sender.size >= BATCH:
        sender.flush()
    return stat.S_ISDIR(found.st_mode)


def walk(sender, root, known):
    """All of the cache, the index first and what is ours in it too; gives the marks of what is there."""
    kept = set()
    waiting = sorted(os.listdir(root), key=lambda name: (name == b"index.json", name))
    while waiting:
        path = waiting.pop()
        is_folder = send_file(sender, root, path, known, kept)
        if is_folder and path.split(b"/")[0] == b".ocitui" and path.count(b"/") < 3:
            waiting += [os.path.join(path, name) for name in names(os.path.join(root, path))]
    return kept


def daemons(store):
    found = []
    for process in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        place = "/proc/%d/" % process
        if text(place + "comm").strip() != "kratad":
            continue
        serves = ""
        for fd in names(place + "fd"):
            try:
                target = os.readlink(place + "fd/" + fd)
                if os.path.basename(target.replace(" (deleted)", "")) == "krata.db":
                    database = os.path.join(spelled(store), "krata.db")
                    gone = target == database + " (deleted)"
                    same = not gone and os.path.exists(database) and os.path.samefile(place + "fd/" + fd, database)
                    serves = "deleted" if gone else "same" if same else serves or "other"
            except OSError:
                continue
        found.append([process, text(place + "stat"), text(place + "status"), text(place + "wchan"), serves])
    return found


def loops(root):
    found = []
    mounts = text("/proc/self/mountinfo").splitlines()
    for block in ["/sys/block/" + name for name in names("/sys/block") if name.startswith("loop")]:
        path = text(block + "/loop/backing_file").rstrip("\n")
        if path.startswith(spelled(root) + "/"):
            dev = text(block + "/dev").strip()
            told = {name: text(block + "/" + name) for name in ("size", "ro", "dev", "loop/offset")}
            at = [line for line in mounts if dev and (" %s " % dev) in line]
            found.append([os.path.basename(block), path[len(spelled(root)) + 1 :], told, names(block + "/holders"), at])
    return found


def xen():
    """What the tools of Xen print of the nodes that krata wrote, as `ocitui.host` asks for them."""
    if not program("xenstore-list"):
        return None
    import subprocess

    def lines(tool, paths):
        if not paths:
            return []
        out = subprocess.check_output([tool, "-p", *paths], stderr=subprocess.DEVNULL, timeout=5)
        return out.decode("latin-1").split("\n")[:-1]

    try:
        domains = lines("xenstore-list", ["/local/domain"])
        if "/local/domain/0" not in domains:
            return None
        nodes = lines("xenstore-list", [one for one in lines("xenstore-list", domains) if one.endswith("/krata")])
        nodes = [one for one in nodes if re.match(r"/local/domain/[1-9][0-9]*/krata/(uuid|loops|name)$", one)]
        return [nodes, lines("xenstore-read", nodes)]
    except (OSError, subprocess.SubprocessError):
        return None


def listens(path):
    import socket

    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        asking.connect(path)
        return True
    except ConnectionRefusedError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        asking.close()


def version():
    """That of an ocitui that is installed, by its record; it is not run."""
    path = program("ocitui", ["/usr/local/bin", os.path.expanduser("~/.local/bin")])
    if not path:
        return ""
    python = text(path).split("\n")[0][2:].split(" ")[0]
    below = [os.path.dirname(os.path.dirname(one)) for one in (python, os.path.realpath(path))]
    for lib in [os.path.join(place, "lib") for place in below]:
        for folder in [name for name in names(lib) if name.startswith("python3")]:
            for found in names(os.path.join(lib, folder, "site-packages")):
                if found.startswith("ocitui-") and found.endswith(".dist-info"):
                    return found[7:-10]
    return "unknown"


def locked(root):
    try:
        found = os.lstat(os.path.join(root, b".ocitui/lock"))
    except OSError:
        return False
    place = "%02x:%02x:%d" % (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)
    return any(" FLOCK " in line and place in line.split() for line in text("/proc/locks").splitlines())


def facts_of(root):
    real, store = os.path.realpath(root), os.path.dirname(os.path.dirname(os.path.realpath(root)))
    at = os.path.join(spelled(store), "daemon.socket")
    space = os.statvfs(root)
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = "uid %d" % os.geteuid()
    return {
        "node": os.uname().nodename,
        "user": user,
        "uid": os.geteuid(),
        "now": time.time(),
        "directory": spelled(real),
        "device": os.stat(root).st_dev,
        "space": list(space)[:10],
        "writable": os.access(root, os.W_OK | os.X_OK),
        "locked": locked(root),
        "boot": "".join(line + "\n" for line in text("/proc/stat").splitlines() if line.startswith("btime ")),
        "daemons": daemons(store),
        "socket": os.path.exists(at),
        "listens": listens(at) if os.path.exists(at) else None,
        "krata": os.path.exists(os.path.join(store, b"host.uuid")),
        "loops": loops(real),
        "xen": xen(),
        "version": version(),
    }


def main(asked):
    request, sender = json.loads(asked), Sender()
    root = request["directory"].encode("utf-8", "surrogateescape")
    sender.out.write(b"\nocitui 1\n")
    try:
        os.listdir(root)
        sender.flush(host=facts_of(root))
    except OSError as error:
        sender.flush(failed=[error.errno, error.strerror])
        sender.out.write(b"end 1\n")
        return
    known = set(request["known"])
    for _ in range(3):
        before = os.path.exists(os.path.join(root, b"index.json")) and os.stat(os.path.join(root, b"index.json"))
        kept = walk(sender, root, known)
        after = os.path.exists(os.path.join(root, b"index.json")) and os.stat(os.path.join(root, b"index.json"))
        gone, known = known - kept, kept
        sender.flush(gone=sorted(gone))
        if (before and (before.st_ino, before.st_mtime_ns, before.st_size)) == (
            after and (after.st_ino, after.st_mtime_ns, after.st_size)
        ):
            break
    store = os.path.dirname(os.path.dirname(os.path.realpath(root)))
    send_file(sender, store, b"krata.db", set(), set(), "/krata.db")
    sender.flush()
    sender.out.write(("end %d\n" % sender.count).encode())
    sender.out.flush()
