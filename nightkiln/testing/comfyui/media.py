"""Small files of the kinds that are not pictures: animations, videos, sound.

Animations can be played. Videos and sound are well-formed containers without a track: enough to
be told from their bytes, which is all that a client can ask of them without a codec.
"""

from __future__ import annotations

import hashlib
import io
import struct

from PIL import Image

_SIDE = 32  # pixels, of an animation
_FRAMES = 3


def animation(identity: str, kind: str) -> bytes:
    """Three frames as ``GIF``, ``WEBP`` or ``PNG`` (animated)."""
    digest = hashlib.sha256(identity.encode()).digest()
    frames = [Image.new("RGB", (_SIDE, _SIDE), tuple(digest[:3])) for _ in range(_FRAMES)]
    for number, frame in enumerate(frames):
        corner = number * _SIDE // _FRAMES
        frame.paste(tuple(digest[3:6]), (corner, corner, corner + 8, corner + 8))
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=200, loop=0)
    return file.getvalue()


def mp4(identity: str) -> bytes:
    """An ISO base media file with a movie header and the identity as its data."""
    times = struct.pack(">IIII", 0, 0, 1000, 0)
    matrix = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    header = bytes(4) + times + struct.pack(">IH", 0x10000, 0x100) + bytes(10) + matrix
    header += bytes(24) + struct.pack(">I", 1)
    return (
        _box(b"ftyp", b"isom" + struct.pack(">I", 512) + b"isommp41")
        + _box(b"moov", _box(b"mvhd", header))
        + _box(b"mdat", identity.encode())
    )


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def webm(identity: str) -> bytes:
    """A WebM file with the identity as its title."""
    head = _element(0x4286, b"\x01") + _element(0x42F7, b"\x01") + _element(0x42F2, b"\x04")
    head += _element(0x42F3, b"\x08") + _element(0x4282, b"webm")
    head += _element(0x4287, b"\x04") + _element(0x4285, b"\x02")
    facts = _element(0x2AD7B1, (1_000_000).to_bytes(3)) + _element(0x7BA9, identity.encode())
    facts += _element(0x4D80, b"nightkiln") + _element(0x5741, b"nightkiln")
    return _element(0x1A45DFA3, head) + _element(0x18538067, _element(0x1549A966, facts))


def _element(identifier: int, content: bytes) -> bytes:
    """EBML: the identifier, the length in eight bytes, the content."""
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8)
    return name + b"\x01" + len(content).to_bytes(7) + content


def flac(identity: str) -> bytes:
    """A FLAC file of no samples, with the identity as its title."""
    rate, channels, bits = 44100, 2, 16
    packed = rate << 44 | (channels - 1) << 41 | (bits - 1) << 36
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8) + bytes(16)
    title = f"TITLE={identity}".encode()
    vendor = b"nightkiln"
    comment = struct.pack("<I", len(vendor)) + vendor + struct.pack("<II", 1, len(title)) + title
    return b"fLaC" + _block(0, info) + _block(0x84, comment)


def _block(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3) + content


def mp3(identity: str) -> bytes:
    """An MP3 file of ten silent frames, with the identity as its title."""
    title = b"\x03" + identity.encode()
    frame = b"TIT2" + len(title).to_bytes(4) + bytes(2) + title
    tag = b"ID3\x04\x00\x00" + bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame
    silence = b"\xff\xfb\x90\x00" + bytes(413)  # MPEG 1 layer 3, 128 kbit/s, 44.1 kHz
    return tag + silence * 10
