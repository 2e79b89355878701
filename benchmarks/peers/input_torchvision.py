"""The paper's augmentation by torchvision in a DataLoader, as an engine of benchmarks/input_pipeline.py.

python input_torchvision.py FOLDER THREADS REPEAT HOW

HOW is "pillow" (transforms of images, torchvision's default) or "tensors" (transforms of uint8 tensors); Pillow
decodes for both. One thread is the loader's own process, more are so many worker processes. Questions as of
input_tensorflow.py.
"""

import glob
import io
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import engines  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

try:
    import torchvision  # noqa: F401
except RuntimeError:  # built with CUDA, beside a torch without it; the transforms need none of what is missing
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    missing = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        missing.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from torchvision.transforms.v2 import functional  # noqa: E402

RESIZED_PX, INPUT_PX, BATCH_SIZE = 256, 224, 16
CROP_PX = (256, 224, 192, 168, 128)
POSITIONS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def augment(image):
    image = functional.resize(image, [RESIZED_PX, RESIZED_PX])
    height, width = random.choice(CROP_PX), random.choice(CROP_PX)
    top, left = random.choice(POSITIONS)
    image = functional.crop(
        image, round(top * (RESIZED_PX - height)), round(left * (RESIZED_PX - width)), height, width
    )
    image = functional.resize(image, [INPUT_PX, INPUT_PX])
    return functional.horizontal_flip(image) if random.random() < 0.5 else image


def pillow(data):
    return functional.to_dtype(functional.pil_to_tensor(augment(decode(data))), torch.float32, scale=True)


def tensors(data):
    return functional.to_dtype(augment(functional.pil_to_tensor(decode(data))), torch.float32, scale=True)


class Images(torch.utils.data.Dataset):
    def __init__(self, folder, repeat, prepare):
        self._files = [open(path, "rb").read() for path in sorted(glob.glob(os.path.join(folder, "*.jpg")))]
        self._repeat, self._prepare = repeat, prepare

    def __len__(self):
        return len(self._files) * self._repeat

    def __getitem__(self, index):
        return self._prepare(self._files[index % len(self._files)])


def corner(data):
    return torch.tensor(decode(data).getpixel((0, 0)))


def main(folder, threads, repeat, how):
    torch.set_num_threads(1)
    loaders = {}

    def measure(prepare, name):
        if (prepare, name) not in loaders:
            images = Images(os.path.join(folder, name), int(repeat), prepare)
            workers = int(threads) if int(threads) > 1 else 0
            loaders[prepare, name] = torch.utils.data.DataLoader(
                images, BATCH_SIZE, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
            )
            next(iter(loaders[prepare, name]))
        return engines.seconds_of(lambda: sum(1 for _ in loaders[prepare, name]), 1)[0]

    prepare = {"pillow": pillow, "tensors": tensors}[how]
    engines.serve(batches=lambda name: measure(prepare, name), decode=lambda name: measure(corner, name))


if __name__ == "__main__":
    main(*sys.argv[1:])
