"""Whether predict.py and a served graph say the same of an image, whatever is in its file.

python benchmarks/mutated_images.py --output_dir=OUT [--images=10000] [--seed=0] [--saved_model=RUN/export/1]
    [--engine=openvino]

Writes a picture in every kind of file that Pillow can write, then mutates it: bytes are changed, cut out, put in, and
where a PNG's checksums would only give that away, mended. Each file is answered twice: as a path, as predict.py reads
it, and as bytes, as TensorFlow Serving's graph does. Prints, and writes to OUT/mutated_images.json and .md, how many
were answered both ways, one way or not at all, how far the probabilities are apart at most, and every file whose two
answers differ by more than 0.01, that is refused without a reason or that ends the process; those are kept in OUT.
With --engine the bytes are also answered by that engine, which must say the same: its probabilities within 0.01, and
the same words about a file that it refuses. Without --saved_model it exports a small network of random weights whose
answers tell pictures apart.
"""

import collections
import io
import multiprocessing
import os
import struct
import sys
import time
import warnings
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from PIL import Image, PngImagePlugin  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.choices import ENGINES  # noqa: E402
from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402

FLAGS = flags.FLAGS
TOLERANCE = 0.01
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F")
_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def main(_):
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    model = FLAGS.saved_model or _export_random(os.path.join(FLAGS.output_dir, "export"))
    start = time.monotonic()
    results = answer_all(model, FLAGS.engine, FLAGS.seed, FLAGS.images, FLAGS.output_dir)
    table, found = summarize(results)
    found |= {"seed": FLAGS.seed, "seconds": round(time.monotonic() - start), "kinds": len(kinds())}
    write_json(os.path.join(FLAGS.output_dir, "mutated_images.json"), found)
    with open(os.path.join(FLAGS.output_dir, "mutated_images.md"), "w", encoding="utf-8") as file:
        file.write(f"{table}\n")
    print(table)
    print({name: value for name, value in found.items() if name != "faults"})
    if found["faults"]:
        raise InputError(f"{len(found['faults'])} files have faults, such as {found['faults'][0]}.")


def define_flags():
    flags.DEFINE_string("output_dir", "", "Folder for the results, and for the files that show a fault.")
    flags.DEFINE_string("saved_model", "", "Folder of an exported model; by default one of random weights is made.")
    flags.DEFINE_enum("engine", ENGINES[0], ENGINES, "What answers beside TensorFlow.")
    flags.DEFINE_integer("images", 10_000, "Number of files.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the mutations.", lower_bound=0)


def picture():
    """uint8 (45, 60, 3): colours that differ under every turn, and fine detail in one corner."""
    rows, columns = np.mgrid[0:45, 0:60]
    pixels = np.stack([4 * columns, 5 * rows, 2 * columns + 3 * rows], axis=-1).astype(np.uint8)
    pixels[:15, :20] = np.random.default_rng(0).integers(0, 256, (15, 20, 3))
    return pixels


def kinds():
    """Every kind of file that Pillow can write of `picture`, and some that others write: dict, name -> bytes."""
    Image.init()
    images = {mode: _in_mode(mode) for mode in _MODES}
    wanted = [(f"{form} {mode}", form, image, {}) for form in sorted(Image.SAVE) for mode, image in images.items()]
    wanted += [(f"{form} {what}", form, images[mode], options) for form, mode, what, options in _options(images)]
    found = {}
    for name, form, image, options in wanted:
        file = io.BytesIO()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of modes that Pillow will no longer write
                image.copy().save(file, form, **options)
        except Exception:  # formats refuse modes and options with nearly any type
            continue
        if file.getvalue():
            found[name] = file.getvalue()
    cmyk = found["JPEG CMYK"]
    marker = cmyk.index(b"\xff\xee\x00\x0eAdobe")
    found["JPEG CMYK without Adobe's marker"] = cmyk[:marker] + cmyk[marker + 16 :]
    found["JPEG YCCK"] = cmyk[: marker + 15] + b"\x02" + cmyk[marker + 16 :]
    return found | _more_bmps(found["BMP RGB"], found["BMP RGBA"])


def mutate(data, rng):
    """Changes a file in one to four places, most often in its header: bytes -> bytes."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        end = len(data) if rng.random() < 0.4 else min(len(data), 200)
        place = int(rng.integers(0, max(end, 1)))
        size = int(rng.integers(1, 5))
        change = rng.integers(0, 7)
        if change == 0:
            data[place : place + 1] = bytes([data[place] ^ (1 << int(rng.integers(8)))]) if data else b""
        elif change == 1:
            data[place : place + size] = rng.bytes(size)
        elif change == 2:
            data[place : place + size] = bytes([int(rng.choice([0, 1, 2, 4, 8, 16, 24, 32, 127, 128, 255]))]) * size
        elif change == 3:
            del data[place : place + size]
        elif change == 4:
            data[place:place] = rng.bytes(size)
        elif change == 5:
            data[place:place] = data[place : place + 20 * size]
        elif rng.random() < 0.2:
            del data[place:]
    if data[:4] == b"\x89PNG" and rng.random() < 0.7:
        _mend_checksums(data)
    return bytes(data)


def mutated(files, seed, index):
    """File number `index`: (name, bytes). The first of each kind is as Pillow wrote it."""
    names = list(files)
    if index < len(names):
        return names[index], files[names[index]]
    rng = np.random.default_rng([seed, index])
    if rng.random() < 0.7:  # most often one that the graph may read
        names = [name for name in names if name.startswith(("BMP", "GIF", "JPEG ", "MPO", "PNG"))]
    name = names[rng.integers(len(names))]
    return name, mutate(files[name], rng)


def answer_all(model, engine, seed, count, folder):
    """Answers all files in a process of its own, which is begun anew where a file ends it.

    Returns:
        list of dicts, one for each file: "index", "kind", "path" and "bytes" (probabilities, or the reason as str) and
        "fault" (None, or what is wrong).
    """
    context = multiprocessing.get_context("spawn")
    results = []
    while len(results) < count:
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=_answer, args=(model, engine, seed, len(results), count, folder, sender))
        worker.start()
        sender.close()
        try:
            while len(results) < count:
                results.append(receiver.recv())
        except EOFError:
            name, data = mutated(kinds(), seed, len(results))
            _keep(folder, len(results), data)
            results.append({"index": len(results), "kind": name, "path": "", "bytes": "", "fault": "ends the process"})
        worker.join()
    return results


def _answer(model, engine, seed, start, count, folder, sender):
    """The work of that process."""
    from srn_tf.serving.predictor import Predictor

    predictor = Predictor(model)
    other = Predictor(model, engine) if engine != ENGINES[0] else None
    files = kinds()
    for index in range(start, count):
        name, data = mutated(files, seed, index)
        path = os.path.join(folder, "image")
        with open(path, "wb") as file:
            file.write(data)
        answers, fault = {}, None
        for way, image in (("path", path), ("bytes", data)):
            try:
                answers[way] = predictor.predict([image])[0]
            except InputError as error:
                answers[way] = str(error)
            except Exception as error:
                answers[way], fault = "", f"{way}: {type(error).__name__}: {error}"
        if not fault and not any(isinstance(answer, str) for answer in answers.values()):
            difference = float(np.abs(answers["path"] - answers["bytes"]).max())
            if not difference <= TOLERANCE:
                fault = f"answers differ by {difference:.3f}"
        if not fault and other:
            fault = _difference(other, data, answers["bytes"])
        if fault:
            _keep(folder, index, data)
        sender.send({"index": index, "kind": name, **answers, "fault": fault})


def _difference(other, data, expected):
    """What another engine says otherwise of a file, None if nothing; `expected`: probabilities, or the refusal."""
    try:
        received = other.predict([data])[0]
    except InputError as error:
        received = str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(received, str) or isinstance(expected, str):
        is_same = isinstance(received, str) and isinstance(expected, str) and received == expected
        return None if is_same else f"the other engine says {received}"
    difference = float(np.abs(received - expected).max())
    return None if difference <= TOLERANCE else f"the other engine differs by {difference:.3f}"


def summarize(results):
    """Makes a table (str), a row for each format, and dict of the totals and the faults."""
    columns = ("both", "path alone", "bytes alone", "neither", "largest difference", "faults")
    rows = collections.defaultdict(lambda: dict.fromkeys(columns, 0))
    for result in results:
        path, data = (not isinstance(result[way], str) for way in ("path", "bytes"))
        outcome = {(1, 1): "both", (1, 0): "path alone", (0, 1): "bytes alone", (0, 0): "neither"}[path, data]
        for row in (rows[result["kind"].split()[0]], rows["all"]):
            row[outcome] += 1
            row["faults"] += result["fault"] is not None
            if outcome == "both":
                difference = float(np.abs(result["path"] - result["bytes"]).max())
                row["largest difference"] = max(row["largest difference"], difference)
    cells = [[name, *row.values()] for name, row in sorted(rows.items(), key=lambda row: row[0] == "all")]
    faults = [f"{r['index']} ({r['kind']}): {r['fault']}" for r in results if r["fault"]]
    return tabulate(cells, ["format", *columns], "github", floatfmt=".4f"), {**rows["all"], "faults": faults}


def _in_mode(mode):
    image = Image.fromarray(picture())
    if mode in ("I;16", "I", "F"):
        scale = {"I;16": 257, "I": 40_000, "F": 1 / 255}[mode]
        grey = np.asarray(image.convert("L"), np.float64)
        return Image.fromarray((grey * scale).astype({"F": "f4", "I": "i4"}.get(mode, "u2")))
    if mode in ("P", "PA"):
        return image.convert("P", palette=Image.Palette.ADAPTIVE, colors=60).convert(mode)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    image = image.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray((np.mgrid[0:45, 0:60][1] * 4).astype(np.uint8)))
    return image


def _options(images):
    """Yields format, mode, what is special, and the options of `save` that make it so."""
    grey, rgb = (np.asarray(images[mode])[20, 30].tolist() for mode in ("L", "RGB"))
    second = {"save_all": True, "append_images": [images["RGB"].rotate(180)]}
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", _XMP.decode())
    for orientation in range(2, 9):
        for form in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "MPO"):
            yield form, "RGB", f"orientation {orientation}", {"exif": _exif(orientation), "quality": 95}
    for form, mode in (("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16")):
        yield form, mode, f"{mode} orientation 6", {"exif": _exif(6)}
    for subsampling in (0, 1, 2):
        yield "JPEG", "RGB", f"subsampling {subsampling}", {"subsampling": subsampling, "quality": 80}
    yield "JPEG", "RGB", "progressive", {"progressive": True, "optimize": True}
    yield "JPEG", "RGB", "RGB stored", {"keep_rgb": True}
    yield "JPEG", "RGB", "restarts", {"restart_marker_blocks": 2}
    yield "JPEG", "RGB", "profile and comment", {"icc_profile": b"profile" * 50, "comment": b"comment", "dpi": (72, 72)}
    yield "JPEG", "RGB", "orientation in XMP", {"xmp": _XMP}
    yield "PNG", "RGB", "orientation in XMP", {"pnginfo": text}
    yield "PNG", "RGB", "transparent colour", {"transparency": tuple(rgb)}
    yield "PNG", "L", "transparent grey", {"transparency": grey}
    yield "PNG", "I;16", "transparent deep grey", {"transparency": int(np.asarray(images["I;16"])[20, 30])}
    yield "PNG", "1", "transparent black", {"transparency": 0}
    yield "PNG", "P", "transparent entry", {"transparency": 5}
    yield "PNG", "P", "alpha of entries", {"transparency": bytes(range(0, 240, 4))}
    yield "PNG", "RGB", "animated", second
    yield "PNG", "RGB", "animated behind a picture", {**second, "default_image": True}
    for bits in (1, 2, 4):
        few = Image.fromarray(picture()).quantize(2**bits)
        images[f"P{bits}"] = few
        yield "PNG", f"P{bits}", f"palette of {bits} bits", {"bits": bits}
        yield "PNG", f"P{bits}", f"palette of {bits} bits, one transparent", {"bits": bits, "transparency": 1}
        yield "BMP", f"P{bits}", f"palette of {bits} bits", {}
        yield "GIF", f"P{bits}", f"palette of {bits} bits", {}
    for form in ("GIF", "WEBP", "TIFF", "AVIF", "MPO"):
        yield form, "RGB", "animated", second
    yield "GIF", "P", "transparent entry", {"transparency": 5}
    yield "GIF", "P", "transparent entry, animated", {**second, "transparency": 5, "disposal": 2}
    yield "GIF", "P", "comment", {"comment": b"comment" * 60, "interlace": 0}
    yield "WEBP", "RGB", "lossless", {"lossless": True}
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield "TIFF", "RGB", compression, {"compression": compression}
    yield "TIFF", "1", "group4", {"compression": "group4"}


def _more_bmps(bmp, bmp_32):
    """BMPs of 24 and 32 bits as Pillow does not write them: dict, name -> bytes."""

    def masked(*masks):
        return (
            bmp_32[:10]
            + struct.pack("<II", 14 + 108, 108)
            + bmp_32[18:30]
            + struct.pack("<I20x4I52x", 3, *masks)
            + bmp_32[54:]
        )

    rows = np.frombuffer(bmp[54:], np.uint8).reshape(45, -1)[:, :180].reshape(45, 60, 3) // 8
    packed = (rows[..., 2].astype("<u2") << 10) + (rows[..., 1].astype("<u2") << 5) + rows[..., 0]
    turned = np.frombuffer(bmp[54:], np.uint8).reshape(45, -1)[::-1].tobytes()
    small = bmp[:10] + struct.pack("<IIHHHH", 26, 12, 60, 45, 1, 24)
    return {
        "BMP from the top": bmp[:22] + struct.pack("<i", -45) + bmp[26:54] + turned,
        "BMP of OS/2": small + bmp[54:],
        "BMP of 16 bits": bmp[:28] + struct.pack("<H", 16) + bmp[30:54] + packed.tobytes(),
        "BMP with alpha": masked(0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        "BMP with colours in another order": masked(0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    }


def _exif(orientation):
    exif = Image.Exif()
    exif[0x010F] = "maker of the camera"
    exif[0x0112] = orientation
    return exif


def _mend_checksums(data):
    """Writes the right checksums into the chunks of a PNG, as far as there are chunks."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4, "big")
        position = end + 4


def _keep(folder, index, data):
    with open(os.path.join(folder, f"fault_{index}"), "wb") as file:
        file.write(data)


def _export_random(path):
    """Exports a small network of random weights, scaled so that a grey level moves an answer by 0.003 or so."""
    import tensorflow as tf

    from srn_tf.models.registry import ModelConfig, build_model
    from srn_tf.serving.export import export

    tf.keras.utils.set_random_seed(0)
    model = build_model(ModelConfig("main_net", "small", 56), [f"label {index}" for index in range(8)])
    noise = np.random.default_rng(0).uniform(0, 255, (32, 4, 4, 3)).astype(np.float32)
    logits = model.network(tf.image.resize(noise, [56, 56]), training=False)[model.final].numpy()
    *_, kernel, bias = model.network.trainable_variables
    scale = 0.5 / logits.std(axis=0)
    kernel.assign(kernel * scale)
    bias.assign((bias - logits.mean(axis=0)) * scale)
    openvino = "float32" if FLAGS.engine == "openvino" else "none"
    is_onnx_wanted = FLAGS.engine == "onnxruntime"
    export(model, [f"label {index}" for index in range(8)], path, openvino=openvino, is_onnx_wanted=is_onnx_wanted)
    return path


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
