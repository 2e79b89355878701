"""Image files of every kind that is served."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image


def encode(mode, size, file_format, **options):
    """A picture with gradients and some noise, as the bytes of a file; size is (width, height)."""
    width, height = size
    random = np.random.default_rng(width)
    down, across = np.mgrid[0:height, 0:width]
    planes = [down * 255 / height, across * 255 / width, 255 - down * 200 / height, across * 255 / width]
    rgba = np.stack([plane + random.uniform(0, 20, plane.shape) for plane in planes], axis=-1)
    image = Image.fromarray(rgba.clip(0, 255).astype(np.uint8), "RGBA").convert("RGBA" if "A" in mode else "RGB")
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format=file_format, **options)
    return buffer.getvalue()


def encode_16_bit(size, channels):
    width, height = size
    pixels = np.random.default_rng(height).integers(0, 65536, (height, width, channels), dtype=np.uint16)
    return tf.io.encode_png(tf.constant(pixels, tf.uint16)).numpy()


def encode_animation():
    frames = [Image.new("RGB", (45, 31), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def encode_rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode("RGB", (90, 40), "JPEG", exif=exif)


IMAGES = {
    "jpeg": encode("RGB", (97, 61), "JPEG"),
    "tall_png": encode("RGB", (13, 201), "PNG"),
    "grey_jpeg": encode("L", (33, 77), "JPEG"),
    "grey_png": encode("L", (57, 56), "PNG"),
    "rgba_png": encode("RGBA", (71, 45), "PNG"),
    "grey_alpha_png": encode("LA", (25, 63), "PNG"),
    "palette_png": encode("P", (80, 31), "PNG"),
    "palette_alpha_png": encode("P", (48, 31), "PNG", transparency=3),
    "one_bit_png": encode("1", (39, 40), "PNG"),
    "rgb_16_bit_png": encode_16_bit((43, 58), 3),
    "rgba_16_bit_png": encode_16_bit((44, 59), 4),
    "grey_16_bit_png": encode_16_bit((41, 60), 1),
    "cmyk_jpeg": encode("CMYK", (67, 82), "JPEG"),
    "bmp": encode("RGB", (35, 52), "BMP"),
    "gif": encode("P", (36, 51), "GIF"),
    "animated_gif": encode_animation(),
    "one_pixel": encode("RGB", (1, 1), "PNG"),
    "exif_rotated_jpeg": encode_rotated(),
}
