"""One block of LZ4, unpacked here (lz4 doc/lz4_Block_format.md): there is no lz4 in Python itself."""

from __future__ import annotations

from .tree import DamagedError

_SHORTEST_MATCH, _MORE, _ON = 4, 15, 255


def unpack_lz4(data: bytes, size: int, *, whole: bool = True) -> bytes:
    """The first ``size`` bytes of what a block holds; if ``whole``, it holds no more. Raises DamagedError."""
    try:
        out, at = _unpacked(data, size)
    except IndexError:
        raise DamagedError("a block of lz4 ends too early") from None
    if len(out) != size or (whole and at != len(data)):
        raise DamagedError("a block of lz4 does not hold what it should")
    return bytes(out)


def _unpacked(data: bytes, size: int) -> tuple[bytearray, int]:
    """What it holds, as far as wanted, and where that ended in it. Raises IndexError where it is cut."""
    out, at, end = bytearray(), 0, len(data)
    while True:
        token = data[at]
        at += 1
        count = token >> 4
        if count == _MORE:
            more = _ON
            while more == _ON:
                more = data[at]
                at += 1
                count += more
        if count:
            out += data[at : at + min(count, size - len(out))]
            at += count
        if at >= end or len(out) >= size:
            return out, at
        distance = data[at] | data[at + 1] << 8
        at += 2
        count = token & 15
        if count == _MORE:
            more = _ON
            while more == _ON:
                more = data[at]
                at += 1
                count += more
        count = min(count + _SHORTEST_MATCH, size - len(out))
        begin = len(out) - distance
        if not distance or begin < 0:
            raise DamagedError("a block of lz4 refers to what is before it")
        if distance >= count:
            out += out[begin : begin + count]
        else:
            # It repeats what it is about to write.
            out += (out[begin:] * (count // distance + 1))[:count]
