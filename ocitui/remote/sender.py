"""What runs on another host, sent there over ssh: it sends bytes of one file of a cache, or the sha256 of them, and
judges nothing. Python 3.6 and newer, the standard library alone, and nothing is written there. `far_files` takes it.

It is told the directory, a name in it, and where the pieces begin: at ``start``, and each ``step`` behind that. First
comes what the file is; then its pieces, or where ``hashes`` is set the hash of all of them, with a sign of life each
so many pieces; and at last what has that name by then.
"""

import hashlib
import json
import os
import stat
import sys


class Records:
    """What is sent, each behind its length and sha256."""

    def __init__(self):
        self.out, self.count = sys.stdout.buffer, 0

    def send(self, data):
        self.out.write(("%d %s\n" % (len(data), hashlib.sha256(data).hexdigest())).encode())
        self.out.write(data)
        self.out.flush()
        self.count += 1

    def tell(self, **told):
        self.send(json.dumps(told).encode())

    def tell_file(self, found):
        facts = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]
        self.tell(file=facts, regular=stat.S_ISREG(found.st_mode))


def read(fd, size, at):
    """So many bytes, fewer only where the file ends."""
    data = os.pread(fd, size, at)
    while data and len(data) < size:
        more = os.pread(fd, size - len(data), at + len(data))
        if not more:
            break
        data += more
    return data


def send_pieces(records, fd, end, request):
    hashing, hashes = hashlib.sha256(), request["hashes"]
    for number, at in enumerate(range(request["start"], end, request["step"])):
        data = read(fd, min(request["piece"], end - at), at)
        if not data:
            return
        if not hashes:
            records.send(data)
            continue
        hashing.update(data)
        if (number + 1) % hashes == 0:
            records.send(b".")
    if hashes:
        records.send(hashing.hexdigest().encode())


def main(asked):
    request, records = json.loads(asked), Records()
    records.out.write(b"\nocitui 1\n")
    try:
        root = os.open(request["directory"].encode("utf-8", "surrogateescape"), os.O_RDONLY | os.O_DIRECTORY)
        name = os.path.basename(request["name"])
        # No link leads elsewhere, and no pipe has it wait.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=root)
        found = os.fstat(fd)
        records.tell_file(found)
        if stat.S_ISREG(found.st_mode):
            send_pieces(records, fd, found.st_size, request)
            records.tell_file(os.stat(name, dir_fd=root, follow_symlinks=False))
    except OSError as error:
        records.tell(failed=error.errno)
    records.out.write(("end %d\n" % records.count).encode())
    records.out.flush()
