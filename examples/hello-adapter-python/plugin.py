"""The smallest adapter: a backend that paints its pictures itself, with no network and no config.

A picture is a gradient between two colours that follow from prompt and seed, so the same request gives the same bytes.
What can be imported is the contract, interface by interface: `wit_world.imports`.
"""

import json
import struct
import zlib

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import blobs, easel_plugin_types, images

DEFAULT_SIZE = (256, 256)

# The most bytes that go into the host at once.
PIECE = 64 * 1024


class Backend(exports.Backend):
    """The interface `backend` of the world `adapter`."""

    def models(self):
        """The models, as the contract's `schema/models.json` says."""
        width, height = DEFAULT_SIZE
        sizes = {
            "least_side": 8,
            "most_side": 512,
            "multiple": 8,
            "max_pixels": 512 * 512,
            "default": f"{width}x{height}",
        }
        model = {
            "id": "hello-gradient",
            "name": "Hello, gradients",
            "family": "hello",
            "tasks": ["text-to-image"],
            "sizes": {"range": sizes},
            "max_count": 4,
            "formats": ["png"],
            "negative_prompt": "ignored",
            "seed": "honoured",
            "steps": "ignored",
            "guidance": "ignored",
            "samplers": "ignored",
            "options": [],
            "determinism": "exact",
            "price": None,
        }
        return json.dumps({"models": [model]})

    def generate(self, ctx, req, p):
        """Makes the pictures of a request that fits one of the models. An `Err` is the answer's error."""
        size = req.size() or DEFAULT_SIZE
        result = images.ImageResult()
        for index in range(req.count()):
            if not p.step(index, 0, 1):
                raise Err(error(easel_plugin_types.ErrorKind.CANCELLED, "the client has gone"))
            seed = (req.seed() or 0) + index
            colours = [colour(req.prompt(), seed, number) for number in (0, 1)]
            file = png(size, colours)
            result.add_image(blob("image/png", file), images.PictureInfo(seed=seed, revised_prompt=None))
        return result


def error(kind, message):
    """An error value; the kind becomes the status of the answer."""
    return easel_plugin_types.PluginError(
        kind=kind,
        message=message,
        param=None,
        retry_after=None,
        provider_status=None,
        provider_code=None,
        billed=None,
    )


def blob(media_type, data):
    """Copies bytes into the host."""
    writer = blobs.BlobWriter(media_type)
    for at in range(0, len(data), PIECE):
        writer.write(data[at : at + PIECE])
    return blobs.BlobWriter.finish(writer)


def png(size, colours):
    """A gradient along the diagonal, as a file."""
    width, height = size
    whole = max(width + height - 2, 1)
    # Each diagonal has one colour, so a row is a window on the row of all of them.
    blend = [
        bytes((a * (whole - way) + b * way) // whole for a, b in zip(*colours)) for way in range(width + height - 1)
    ]
    diagonals = b"".join(blend)
    rows = b"".join(b"\0" + diagonals[3 * y : 3 * (y + width)] for y in range(height))

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    # Eight bits a channel, colour type 2: red, green, blue.
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def colour(prompt, seed, number):
    """A colour that follows from prompt, seed and its number, by the hash FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in bytes([number]) + prompt.encode() + seed.to_bytes(8, "little"):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value.to_bytes(8, "big")[:3]
