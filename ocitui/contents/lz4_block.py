"""One block of LZ4, unpacked here (lz4 doc/lz4_Block_format.md): there is no lz4 in Python itself."""

from __future__ import annotations

from .tree import DamagedError

_SHORTEST_MATCH, _MORE, _ON = 4, 15, 255


def unpack_lz4(data: bytes, size: int, *, whole: bool = True) -> bytes:
    """The first ``size`` bytes of what a block holds; if ``whole``, it holds no more. Raises DamagedError."""
    try:
        out = _unpacked(data, size, whole)
    except IndexError:
        raise DamagedError("a block of lz4 ends too early") from None
    if len(out) < size or (whole and len(out) > size):
        raise DamagedError("a block of lz4 does not hold what it should")
    return bytes(out[:size])


def _unpacked(data: bytes, size: int, whole: bool) -> bytearray:
    """What it holds, at most its own length more than is wanted. Raises IndexError where it is cut."""
    out, at, end = bytearray(), 0, len(data)
    while whole or len(out) < size:
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
            out += data[at : at + count]
            at += count
        if at == end or (len(out) >= size and not whole):
            break
        distance = data[at] | data[at + 1] << 8
        at += 2
        count = token & 15
        if count == _MORE:
            more = _ON
            while more == _ON:
                more = data[at]
                at += 1
                count += more
        count += _SHORTEST_MATCH
        begin, room = len(out) - distance, size - len(out)
        if not distance or begin < 0 or (whole and count > room):
            raise DamagedError("a block of lz4 does not hold what it should")
        count = min(count, room)
        if distance >= count:
            out += out[begin : begin + count]
        else:
            # It repeats what it is about to write.
            out += (out[begin:] * (count // distance + 1))[:count]
    return out
