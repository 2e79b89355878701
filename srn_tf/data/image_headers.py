"""What a graph reads of an image file before it decodes it, with operations that every TensorFlow has.

TensorFlow's decoders show some files otherwise than a person sees them: they know no EXIF orientation, take the unused
byte of a BMP's pixel for transparency, and show a transparent colour of a GIF as black. From what stands here
`preprocessing` knows which files those are.

Everywhere below `octets` is what `octets_of` gives; a position is int64, counted from the first byte of the file.
"""

import tensorflow as tf

_PADDING = 16  # zeros behind a file, so that a number may be read that begins anywhere in it
_MOST_PARTS = 20_000  # segments, chunks or blocks that are looked at: a file of nothing else takes no longer than that

# Markers of ISO/IEC 10918-1 (JPEG), table B.1, without their first byte 0xFF.
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA))
_APP1 = 0xE1

_JPEG_EXIF = b"Exif\0\0"
_PNG_EXIF = b"eXIf"
_ORIENTATION, _SHORT = 0x0112, 3
# An entry of EXIF 2.32 in either byte order: the orientation, a short number, one of them, 2 to 8.
_TURNED = (
    r"(?s)\C*(?:\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08]"
    r"|\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]\x00)\C*"
)
_JPEG_HEAD = 2**17  # bytes in which EXIF begins: by its standard in the first segment, and those have 2**16 at most
_DIRECTORY = 4096  # bytes of EXIF data in which its first directory ends


of_file = tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
"""Decorates a function of a file's bytes: built once in a program, for all graphs that call it."""


def octets_of(data):
    """uint8 (bytes of the file + some zeros,) of a string scalar."""
    return tf.io.decode_raw(tf.strings.join([data, b"\0" * _PADDING]), tf.uint8)


def is_png(data):
    """bool scalar: whether a string scalar begins as a PNG."""
    return tf.equal(tf.strings.substr(data, 0, 8), b"\x89PNG\r\n\x1a\n")


def is_bmp(data):
    """bool scalar: whether a string scalar begins as a BMP."""
    return tf.equal(tf.strings.substr(data, 0, 2), b"BM")


def is_gif(data):
    """bool scalar: whether a string scalar begins as a GIF."""
    version = tf.strings.substr(data, 0, 6)
    return tf.logical_or(tf.equal(version, b"GIF87a"), tf.equal(version, b"GIF89a"))


def number_at(octets, position, size, is_little=False):
    """Reads unsigned numbers.

    Args:
        octets: see the module.
        position: int64, any shape; beyond the end it reads zeros.
        size: bytes of a number, at most 6.
        is_little: bool or bool scalar, whether its lowest byte comes first.
    Returns:
        int64, the shape of `position`.
    """
    position = tf.clip_by_value(tf.cast(position, tf.int64), 0, tf.size(octets, tf.int64) - _PADDING)
    digits = tf.cast(tf.gather(octets, position[..., tf.newaxis] + tf.range(size, dtype=tf.int64)), tf.int64)
    from_low = [256**i for i in range(size)]
    weights = tf.where(is_little, tf.constant(from_low, tf.int64), tf.constant(from_low[::-1], tf.int64))
    return tf.reduce_sum(digits * weights, axis=-1)


def jpeg_may_be_turned(data):
    """Whether EXIF data of a JPEG seem to say that it is stored turned or mirrored: bool scalar.

    So few files do that it pays not to walk through every one.
    """
    return _may_be_turned(tf.strings.substr(data, 0, _JPEG_HEAD), _JPEG_EXIF)


def png_may_be_turned(data):
    """As `jpeg_may_be_turned`, of a PNG."""
    return _may_be_turned(data, _PNG_EXIF)


@of_file
def jpeg_orientation(data):
    """Reads the EXIF orientation of a JPEG, of its first EXIF segment before the first scan.

    Args:
        data: string scalar.
    Returns:
        int64 scalar: 1 to 8 (EXIF 2.32, tag 0x0112); 1 as well if there is none, or one of another form.
    """

    def is_before_scan(position, exif, end):
        return position < tf.size(octets, tf.int64) - _PADDING

    def step(position, exif, end):
        segment = number_at(octets, position, 4)  # 0xFF, marker, length of two bytes
        first, marker, length = segment // 2**24, segment // 2**16 % 256, segment % 2**16
        is_marker = (first == 0xFF) & (marker != 0xFF)  # else junk, or a byte to fill up
        is_exif = (marker == _APP1) & (number_at(octets, position + 4, 6) == int.from_bytes(_JPEG_EXIF, "big"))
        is_first = is_marker & is_exif & (exif == 0)
        exif, end = tf.where(is_first, position + 10, exif), tf.where(is_first, position + 2 + length, end)
        length = tf.where(tf.reduce_any(marker == _WITHOUT_LENGTH), tf.constant(0, tf.int64), length)
        length = tf.where(marker == _START_OF_SCAN, tf.size(octets, tf.int64), length)
        return position + tf.where(is_marker, 2 + length, 1), exif, end

    octets = octets_of(data)
    start = tf.constant(2, tf.int64), tf.constant(0, tf.int64), tf.constant(0, tf.int64)
    _, exif, end = tf.while_loop(is_before_scan, step, start, maximum_iterations=_MOST_PARTS)
    return _orientation_of(octets[exif:end])


@of_file
def png_orientation(data):
    """Reads the EXIF orientation of a PNG, of its chunk eXIf: see `jpeg_orientation`."""
    octets = octets_of(data)
    exif = _find_png_chunk(octets, _PNG_EXIF)
    return _orientation_of(octets[exif : exif + number_at(octets, exif - 8, 4)])


@of_file
def png_has_transparency(data):
    """Whether the fourth channel that `tf.io.decode_png` gives is the file's own transparency: bool scalar.

    Of less than 8 bits a channel the decoder sets it to another value than 255 if the file has none.
    """
    octets = octets_of(data)
    is_deep = number_at(octets, 24, 1) >= 8  # of IHDR, the first chunk: bits a channel
    return tf.cond(is_deep, lambda: True, lambda: _find_png_chunk(octets, b"tRNS") > 0)


@of_file
def has_plain_bmp_pixels(data):
    """Whether `tf.io.decode_bmp` finds the colours of a BMP in its first three channels, or grey: bool scalar.

    That is so without compression in 24 or 32 bits a pixel, in blue, green, red and, of no meaning, a fourth byte; and
    in 8 bits if their palette is no other than the 256 greys in order.
    """
    octets = octets_of(data)
    header_size = number_at(octets, 14, 4, True)
    bits, compression, colours = (number_at(octets, *place, True) for place in ((28, 2), (30, 4), (46, 4)))
    greys = tf.range(256, dtype=tf.int64)
    palette = number_at(octets, 14 + header_size + 4 * greys, 3)
    pixels = number_at(octets, 10, 4, True)
    is_grey = tf.reduce_all(palette == greys * 0x010101) & ((colours == 0) | (colours == 256))
    is_grey &= pixels == 14 + header_size + 4 * 256
    is_known = (header_size >= 40) & (compression == 0) & (pixels >= 14 + header_size)
    return is_known & ((bits == 24) | (bits == 32) | ((bits == 8) & is_grey))


@of_file
def gif_header(data):
    """Reads a GIF (version 89a) up to its first frame.

    Returns:
        (size, is_whole): int64 (2,), height and width of the picture; bool, whether its first frame covers it and has
        no transparent colour.
    """

    def is_extension(position, is_label, is_transparent):
        return ~is_label | (number_at(octets, position, 1) == 0x21)

    def step(position, is_label, is_transparent):
        """From an extension to its first block, from a block to the next one, or behind them."""
        size = number_at(octets, position, 1)
        is_control = is_label & (number_at(octets, position, 2) == 0x21F9)
        is_transparent |= is_control & (number_at(octets, position + 3, 1) % 2 == 1)
        position += tf.where(is_label, tf.constant(2, tf.int64), 1 + size)
        return position, ~is_label & (size == 0), is_transparent

    octets = octets_of(data)
    flags = number_at(octets, 10, 1)
    palette = tf.where(flags >= 128, 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8), 0)
    start = (13 + palette, tf.constant(True), tf.constant(False))
    frame, _, is_transparent = tf.while_loop(is_extension, step, start, maximum_iterations=_MOST_PARTS)
    width, height = number_at(octets, 6, 2, True), number_at(octets, 8, 2, True)
    place = number_at(octets, frame + 1 + 2 * tf.range(4, dtype=tf.int64), 2, True)  # left, top, width, height
    covers = (number_at(octets, frame, 1) == 0x2C) & tf.reduce_all(place == tf.stack([0, 0, width, height]))
    return tf.stack([height, width]), covers & ~is_transparent


def _may_be_turned(data, mark):
    behind = tf.raw_ops.StringSplitV2(input=[data], sep=mark, maxsplit=1).values[-1]
    return tf.strings.regex_full_match(tf.strings.substr(behind, 0, _DIRECTORY), _TURNED)


def _find_png_chunk(octets, name):
    """Where the content of a PNG's (last) chunk of that name is: int64 scalar, 0 if there is none."""

    def is_inside(position, found):
        return position < tf.size(octets, tf.int64) - _PADDING

    def step(position, found):
        found = tf.where(number_at(octets, position + 4, 4) == int.from_bytes(name, "big"), position + 8, found)
        return position + 12 + number_at(octets, position, 4), found

    start = (tf.constant(8, tf.int64), tf.constant(0, tf.int64))
    return tf.while_loop(is_inside, step, start, maximum_iterations=_MOST_PARTS)[1]


def _orientation_of(exif):
    """Reads the orientation in the first directory of EXIF data, uint8 from its TIFF header on: `jpeg_orientation`."""
    octets = tf.concat([exif, tf.zeros([_PADDING], tf.uint8)], 0)
    byte_order = number_at(octets, 0, 4)
    is_little = byte_order == 0x49492A00
    first = number_at(octets, 4, 4, is_little) + 2
    count = number_at(octets, first - 2, 2, is_little)
    count = tf.where(is_little | (byte_order == 0x4D4D002A), count, tf.constant(0, tf.int64))
    end = tf.clip_by_value(tf.size(exif, tf.int64), first, first + 12 * count)
    entries = tf.range(first, end, 12)
    is_form = number_at(octets, entries, 2, is_little) == _ORIENTATION
    is_form &= number_at(octets, entries + 2, 2, is_little) == _SHORT
    is_form &= number_at(octets, entries + 4, 4, is_little) == 1
    value = number_at(octets, entries + 8, 2, is_little)
    found = tf.boolean_mask(value, is_form & (1 <= value) & (value <= 8))
    return tf.concat([[1], found], 0)[-1]
