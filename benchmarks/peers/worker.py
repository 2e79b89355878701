"""One engine that answers batches of images, in a process of its own, so that engines can be timed in turn.

python worker.py ENGINE FOLDER THREADS

FOLDER holds images.npy (float32 (B, S, S, 3), RGB, 0 to 255, whole numbers), weights.npz and what the engine reads.
It is asked as `engines.serve` says: "run", N takes N batches; "answer", FILE writes the probabilities, float32 (B, C),
to FILE as .npy.
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from engines import seconds_of, serve  # noqa: E402


def saved_model(folder, threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serve_pixels"]

    def answer(images, keep=loaded):  # the signature alone does not keep the model alive
        return signature(pixels=tf.constant(images.astype(np.uint8)))["probabilities"].numpy()

    return answer


def torch_float32(folder, threads):
    return _torch(folder, threads, is_bfloat16=False, is_compiled=False)


def torch_bfloat16(folder, threads):
    return _torch(folder, threads, is_bfloat16=True, is_compiled=False)


def torch_compiled_float32(folder, threads):
    return _torch(folder, threads, is_bfloat16=False, is_compiled=True)


def torch_compiled_bfloat16(folder, threads):
    return _torch(folder, threads, is_bfloat16=True, is_compiled=True)


def _torch(folder, threads, is_bfloat16, is_compiled):
    import torch

    torch.set_num_threads(threads)
    module, _ = _torch_module(folder)
    module = module.to(memory_format=torch.channels_last)
    if is_compiled:
        from torch._inductor import config

        config.freezing = True
        module = torch.compile(module)

    def answer(images):
        batch = torch.from_numpy(images).permute(0, 3, 1, 2)  # NHWC in memory: channels_last
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
            return torch.sigmoid(module(batch)["y_hat"].float()).numpy()

    return answer


def _torch_module(folder):
    from srn_torch import SrnResNet101

    with np.load(os.path.join(folder, "weights.npz")) as file:
        num_labels = file["classifier/cls_logits/bias"].size
    images = np.load(os.path.join(folder, "images.npy"), mmap_mode="r")
    module = SrnResNet101(num_labels, side_px=images.shape[1]).eval()
    module.load_npz(os.path.join(folder, "weights.npz"))
    return module, len(images)


def onnxruntime_float32(folder, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_onnx(folder), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]


def openvino_float32(folder, threads):
    return _openvino(folder, threads, "f32")


def openvino_bfloat16(folder, threads):
    return _openvino(folder, threads, "bf16")


def _openvino(folder, threads, precision):
    request = _openvino_request(_onnx(folder), threads, precision)
    return lambda images: request.infer({0: np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0].copy()


def exported_openvino(folder, threads):
    """The file of our own export, which takes images as they come, for the engine in whose folder it is."""
    file = os.path.join(folder, "1", "assets.extra", "openvino", "model.xml")
    request = _openvino_request(file, threads, "bf16" if folder.endswith("bfloat16") else "f32")
    return lambda images: request.infer({0: images})[0].copy()


def _openvino_request(file, threads, precision):
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    return openvino.Core().compile_model(file, "CPU", settings).create_infer_request()


def _onnx(folder):
    """The PyTorch module as an ONNX file for this batch, image (B, 3, S, S) -> probabilities (B, C); written once."""
    import torch

    module, num_images = _torch_module(folder)
    path = os.path.join(folder, f"srn_torch_{num_images}.onnx")
    if not os.path.isfile(path):

        class Probabilities(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.module = module

            def forward(self, image):
                return torch.sigmoid(self.module(image)["y_hat"])

        images = torch.from_numpy(np.load(os.path.join(folder, "images.npy"))).permute(0, 3, 1, 2).contiguous()
        torch.onnx.export(Probabilities().eval(), (images,), f"{path}.writing", input_names=["image"], dynamo=False)
        os.replace(f"{path}.writing", path)
    return path


def main(engine, folder, threads):
    images = np.load(os.path.join(folder, "images.npy"))
    if engine.startswith("tensorflow"):
        answer = saved_model(os.path.join(folder, engine, "1"), int(threads))
    elif engine.startswith("exported_openvino"):
        answer = exported_openvino(os.path.join(folder, engine), int(threads))
    else:
        answer = globals()[engine](folder, int(threads))
    answer(images)  # compiles, allocates
    serve(
        run=lambda times: seconds_of(lambda: answer(images), times),
        answer=lambda file: np.save(file, answer(images)),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
