"""What a graph reads of an image file before it decodes it, with operations that every TensorFlow has.

TensorFlow's decoders show some files otherwise than a person sees them: they know no EXIF orientation, take the unused
byte of a BMP's pixel for transparency, and show a transparent colour of a GIF as black. From what stands here
`preprocessing` knows which files those are.

Every program that loads a graph optimizes it anew, branches and loops above all. So these are few operations: the
fields of a header are read side by side, and a file that need not be walked through is walked in no steps.

Everywhere below `data` is a file, a string scalar; a position in it is int64, counted from its first byte.
"""

import numpy as np
import tensorflow as tf

_MOST_PARTS = 20_000  # segments, chunks or blocks that are looked at: a file of nothing else takes no longer than that

# Markers of ISO/IEC 10918-1 (JPEG), table B.1, without their first byte 0xFF.
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA))
_APP1 = 0xE1

_JPEG_EXIF = b"Exif\0\0"
_PNG_EXIF = b"eXIf"
_PNG_TRANSPARENCY = b"tRNS"
# The orientation among the entries of EXIF 2.32, in either byte order: tag 0x0112, a short number, one of them.
_BIG = r"\x01\x12\x00\x03\x00\x00\x00\x01\x00"
_LITTLE = r"\x12\x01\x03\x00\x01\x00\x00\x00"
_TURNED = rf"(?s)\C*(?:{_BIG}[\x02-\x08]|{_LITTLE}[\x02-\x08]\x00)\C*"
# Byte order and entries of 12 bytes each; the last that fits counts.
_ORIENTATION = (
    rf"(?s)^\C(?:MM\x00\*(?:\C{{12}})*{_BIG}([\x01-\x08])|II\*\x00(?:\C{{12}})*{_LITTLE}([\x01-\x08])\x00)\C*$"
)
_UPRIGHT = b"\x01"  # orientation 1
_JPEG_HEAD = 2**17  # bytes in which EXIF begins: by its standard in the first segment, and those have 2**16 at most
_DIRECTORY = 4096  # bytes of EXIF data in which its first directory ends


of_file = tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
"""Decorates a function of a file's bytes: built once in a program, for all graphs that call it."""


def is_png(data):
    """bool scalar: whether a file begins as a PNG."""
    return tf.equal(tf.strings.substr(data, 0, 8), b"\x89PNG\r\n\x1a\n")


def is_bmp(data):
    """bool scalar: whether a file begins as a BMP."""
    return tf.equal(tf.strings.substr(data, 0, 2), b"BM")


def is_gif(data):
    """bool scalar: whether a file begins as a GIF."""
    return tf.strings.regex_full_match(tf.strings.substr(data, 0, 6), "GIF8[79]a")


def numbers_at(data, position, sizes, is_little=False):
    """Reads unsigned numbers that follow one another.

    Args:
        data: see the module.
        position: int64 scalar, >= 0; beyond the end of the file it reads zeros.
        sizes: bytes of each number, at most 6.
        is_little: bool or bool scalar, whether the lowest byte of a number comes first.
    Returns:
        list of int64 scalars.
    """
    ends = np.cumsum(sizes)
    big, little = np.zeros([2, len(sizes), ends[-1]], np.int64)  # what each byte is worth in each number
    for row, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        little[row, end - size : end] = 256 ** np.arange(size)
        big[row, end - size : end] = little[row, end - size : end][::-1]
    worth = tf.where(is_little, little, big) if tf.is_tensor(is_little) else little if is_little else big
    octets = tf.cast(_octets_at(data, position, int(ends[-1])), tf.int64)
    return tf.unstack(tf.reduce_sum(octets * worth, axis=1))


def jpeg_may_be_turned(data):
    """Whether EXIF data of a JPEG seem to say that it is stored turned or mirrored: bool scalar.

    So few files do that it pays not to walk through every one.
    """
    return _may_be_turned(tf.strings.substr(data, 0, _JPEG_HEAD), _JPEG_EXIF)


@of_file
def jpeg_exif(data):
    """Finds the EXIF data of a JPEG that may be turned, its first EXIF segment before the first scan.

    Returns:
        string scalar, from its TIFF header on; empty if there is none.
    """

    def is_before(position, exif_size):
        return (position < size) & (exif_size < 0)

    def step(position, exif_size):
        first, marker, length, mark = numbers_at(data, position, (1, 1, 2, 6))
        is_marker = (first == 0xFF) & (marker != 0xFF)  # else junk, or a byte to fill up
        is_exif = is_marker & (marker == _APP1) & (mark == int.from_bytes(_JPEG_EXIF, "big"))
        has_length = is_marker & tf.reduce_all(marker != _WITHOUT_LENGTH)
        length = tf.where(has_length, 2 + length, tf.where(is_marker, _int(2), 1))
        length = tf.where(is_marker & (marker == _START_OF_SCAN), size, length)
        return (
            tf.where(is_exif, position + 10, position + length),
            tf.where(is_exif, tf.maximum(length - 10, 0), exif_size),
        )

    size = _length(data)
    start = tf.where(jpeg_may_be_turned(data), _int(2), size), _int(-1)
    position, exif_size = tf.while_loop(is_before, step, start, maximum_iterations=_MOST_PARTS)
    return tf.strings.substr(data, tf.minimum(position, size), tf.maximum(exif_size, 0))


@of_file
def orientation_of(exif):
    """Reads the orientation in the first directory of EXIF data.

    Args:
        exif: string scalar, from its TIFF header on.
    Returns:
        int64 scalar: 1 to 8 (EXIF 2.32, tag 0x0112); 1 as well if there is none, or one of another form.
    """
    byte_order = tf.strings.substr(exif, 0, 4)
    is_little = byte_order == b"II*\0"
    (first,) = numbers_at(exif, _int(4), (4,), is_little)
    (count,) = numbers_at(exif, first, (2,), is_little)
    padded = tf.strings.join([exif, b"\0" * 12])  # for an entry that is cut off
    entries = tf.strings.substr(padded, tf.minimum(first + 2, _length(exif)), 12 * count)
    found = tf.strings.regex_replace(
        tf.strings.join([_UPRIGHT, byte_order, entries]), _ORIENTATION, r"\1\2", replace_global=False
    )
    return tf.cast(_octets_at(found, _int(0), 1)[0], tf.int64)


@of_file
def png_chunks(data):
    """Reads what decides how the pixels of a PNG are seen; see `jpeg_exif`.

    Returns:
        (has_transparency, exif): bool scalar, whether the fourth channel that `tf.io.decode_png` gives is the file's
        own transparency: of less than 8 bits a channel the decoder sets it to another value than 255 if the file has
        none; string scalar, the EXIF data of one that may be turned, of its (last) chunk eXIf.
    """

    def is_inside(position, transparency, exif, exif_size):
        return position < size

    def step(position, transparency, exif, exif_size):
        length, name = numbers_at(data, position, (4, 4))
        is_exif = name == int.from_bytes(_PNG_EXIF, "big")
        return (
            position + 12 + length,
            transparency | (name == int.from_bytes(_PNG_TRANSPARENCY, "big")),
            tf.where(is_exif, position + 8, exif),
            tf.where(is_exif, length, exif_size),
        )

    size = _length(data)
    is_deep = numbers_at(data, _int(24), (1,))[0] >= 8  # of IHDR, the first chunk: bits a channel
    start = tf.where(is_deep & ~_may_be_turned(data, _PNG_EXIF), size, 8), is_deep, _int(0), _int(0)
    _, has_transparency, exif, exif_size = tf.while_loop(is_inside, step, start, maximum_iterations=_MOST_PARTS)
    return has_transparency, tf.strings.substr(data, tf.minimum(exif, size), exif_size)


@of_file
def has_plain_bmp_pixels(data):
    """Whether `tf.io.decode_bmp` finds the colours of a BMP in its first three channels, or grey: bool scalar.

    That is so without compression in 24 or 32 bits a pixel, in blue, green, red and, of no meaning, a fourth byte; and
    in 8 bits if their palette is no other than the 256 greys in order.
    """
    pixels, header_size = numbers_at(data, _int(10), (4, 4), True)
    bits, compression = numbers_at(data, _int(28), (2, 4), True)
    (colours,) = numbers_at(data, _int(46), (4,), True)
    palette = tf.reshape(_octets_at(data, 14 + header_size, 4 * 256), [256, 4])
    greys = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    is_grey = tf.reduce_all(palette[:, :3] == greys) & ((colours == 0) | (colours == 256))
    is_grey &= pixels == 14 + header_size + 4 * 256
    is_known = (header_size >= 40) & (compression == 0) & (pixels >= 14 + header_size)
    return is_known & ((bits == 24) | (bits == 32) | ((bits == 8) & is_grey))


@of_file
def gif_header(data):
    """Reads a GIF (version 89a) up to its first frame.

    Returns:
        (size, is_whole): int64 (2,), height and width of the picture; bool, whether it is a GIF whose first frame
        covers it and has no transparent colour.
    """

    def is_extension(position, is_label, is_transparent):
        return ~is_label | (numbers_at(data, position, (1,))[0] == 0x21)

    def step(position, is_label, is_transparent):
        """From an extension to its first block, from a block to the next one, or behind them."""
        size, label, _, flags = numbers_at(data, position, (1, 1, 1, 1), True)
        is_control = is_label & (size == 0x21) & (label == 0xF9)
        position += tf.where(is_label, _int(2), 1 + size)
        return position, ~is_label & (size == 0), is_transparent | (is_control & (flags % 2 == 1))

    width, height, flags = numbers_at(data, _int(6), (2, 2, 1), True)
    palette = tf.where(flags >= 128, 3 * tf.bitwise.left_shift(_int(2), flags % 8), 0)
    start = tf.where(is_gif(data), 13 + palette, _length(data)), tf.constant(True), tf.constant(False)
    frame, _, is_transparent = tf.while_loop(is_extension, step, start, maximum_iterations=_MOST_PARTS)
    mark, *place = numbers_at(data, frame, (1, 2, 2, 2, 2), True)  # left, top, width, height
    covers = (mark == 0x2C) & tf.reduce_all(tf.stack(place) == tf.stack([0, 0, width, height]))
    return tf.stack([height, width]), covers & ~is_transparent


def _int(value):
    return tf.constant(value, tf.int64)


def _length(data):
    return tf.cast(tf.strings.length(data), tf.int64)


def _octets_at(data, position, count):
    """uint8 (count,) from an int64 position on; beyond the end of the file they are zeros."""
    found = tf.strings.substr(data, tf.minimum(position, _length(data)), _int(count))
    return tf.io.decode_raw(found, tf.uint8, fixed_length=count)


def _may_be_turned(data, mark):
    behind = tf.raw_ops.StringSplitV2(input=[data], sep=mark, maxsplit=1).values[-1]
    return tf.strings.regex_full_match(tf.strings.substr(behind, 0, _DIRECTORY), _TURNED)
