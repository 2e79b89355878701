"""PyTorch's training step of one stage of the same network, in a process of its own; `benchmarks/training.py` asks it.

python training_torch.py FOLDER STAGE PRECISION THREADS DEVICES

FOLDER holds batch.npz (image float32 (B, S, S, 3), y float32 (B, C)) and weights.npz. As in srn_tf's stages, what a
stage does not train is frozen with its BatchNorm statistics, and what its losses do not need is not computed.
There is one device.
"""

import os
import sys

import numpy as np
import torch
from srn_torch import SrnResNet101
from torch.nn import functional as F

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from engines import seconds_of, serve  # noqa: E402

# Stage -> beginnings of the names of the layers that it trains, and its losses.
STAGES = {
    "cls": (("conv", "post", "cls"), ("y_cls",)),
    "att": (("neck", "att", "conf"), ("y_att",)),
    "sr": (("sr",), ("y_sr",)),
    "all": (("",), ("y_att", "y_sr", "y_cls")),
}
PRODUCT_SIDE = 4096


def main(folder, stage, precision, threads, devices):
    torch.set_num_threads(int(threads))
    with np.load(os.path.join(folder, "batch.npz")) as file:
        image = torch.from_numpy(file["image"]).permute(0, 3, 1, 2)  # NHWC in memory: channels_last
        y = torch.from_numpy(file["y"])
    module = SrnResNet101(y.shape[1], side_px=image.shape[2])
    module.load_npz(os.path.join(folder, "weights.npz"))
    module = module.to(memory_format=torch.channels_last)
    trained, losses = STAGES[stage]
    for name, layer in module.layers.items():
        is_trained = name.startswith(trained)
        layer.train(is_trained).requires_grad_(is_trained)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4, fused=True)
    is_bfloat16 = precision == "mixed_bfloat16"

    def take_step():
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            outputs = module(image, losses)
        loss = sum(F.binary_cross_entropy_with_logits(outputs[name].float(), y, reduction="sum") for name in losses)
        loss = loss / len(y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def profile(times):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            seconds = seconds_of(take_step, times)
        found = {event.key: event.self_cpu_time_total / 1000 / times for event in profiler.key_averages()}
        return {**found, "all": 1000 * sum(wall for wall, _ in seconds) / times}

    factor = torch.randn(PRODUCT_SIDE, PRODUCT_SIDE).to(torch.bfloat16 if is_bfloat16 else torch.float32)
    serve(
        losses=lambda times: [take_step() for _ in range(times)],
        step=lambda times: seconds_of(take_step, times),
        profile=profile,
        product=lambda times: seconds_of(lambda: factor @ factor, times),
        version=lambda: f"PyTorch {torch.__version__} {precision}",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
