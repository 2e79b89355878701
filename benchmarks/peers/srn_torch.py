"""ResNet-101 (v2, as in keras.applications) with the released SRN heads, in PyTorch: the peer of the measurements.

Layers carry the names of srn_tf's, so that a file of weights of this project loads, and both can be shown to compute
the same.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

BLOCKS = (3, 4, 23, 3)  # residual blocks of the stages conv2 to conv5
BLOCK_NAMES = [f"conv{stage}_block{block + 1}" for stage, blocks in enumerate(BLOCKS, 2) for block in range(blocks)]
X_BLOCK = "conv4_block23"  # X is its pre-activation
OUTPUTS = ("y_hat", "y_cls", "y_att", "y_sr")


class SrnResNet101(nn.Module):
    """image float32 (B, 3, S, S), RGB, 0 to 255 -> dict of logits y_hat, y_cls, y_att, y_sr, each (B, C)."""

    def __init__(self, num_labels, head_channels=512, side_px=224):
        super().__init__()
        self.layers = nn.ModuleDict()
        self._grid = side_px // 16
        self._conv("conv1_conv", 3, 64, 7, stride=2, padding=3, bias=True)
        channels = 64
        for stage, (blocks, width) in enumerate(zip(BLOCKS, (64, 128, 256, 512), strict=True), 2):
            for block in range(1, blocks + 1):
                stride = 2 if block == blocks and stage < 5 else 1
                self._block(f"conv{stage}_block{block}", channels, width, stride, block == 1)
                channels = 4 * width
        self._bn("post_bn", channels)
        self.layers["cls_logits"] = nn.Linear(channels, num_labels)

        depth = 1024  # channels of X
        for block in ("neck_block1", "neck_block2"):
            self._bn(f"{block}_pre_bn", depth)
            self._conv_bn(f"{block}_1", depth, depth // 4, 1)
            self._conv_bn(f"{block}_2", depth // 4, depth // 4, 3)
            self._conv(f"{block}_3_conv", depth // 4, depth, 1)
        self._bn("neck_last_bn", depth)
        self._conv_bn("att_1", depth, head_channels, 1)
        self._conv_bn("att_2", head_channels, head_channels, 3)
        self._conv("att_3_conv", head_channels, num_labels, 1, bias=True)
        self._conv_bn("conf_1", depth, head_channels, 1)
        self._conv("conf_2_conv", head_channels, num_labels, 1, bias=True)
        self._conv_bn("sr_conv2", num_labels, head_channels, 1)
        self._conv_bn("sr_conv3", head_channels, head_channels, 1)
        self.layers["sr_conv4"] = nn.Conv2d(
            head_channels, 4 * head_channels, self._grid, groups=head_channels, bias=False
        )
        self._bn("sr_conv4_bn", 4 * head_channels)
        self.layers["sr_logits"] = nn.Linear(4 * head_channels, num_labels)

    def _conv(self, name, inputs, outputs, kernel, stride=1, padding=None, bias=False):
        padding = kernel // 2 if padding is None else padding
        self.layers[name] = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)

    def _bn(self, name, channels):
        # keras.applications' own values in its layers, the project's in the heads.
        eps, momentum = (1.001e-5, 0.01) if name.startswith(("conv", "post")) else (1e-5, 0.1)
        self.layers[name] = nn.BatchNorm2d(channels, eps=eps, momentum=momentum)

    def _conv_bn(self, name, inputs, outputs, kernel):
        self._conv(f"{name}_conv", inputs, outputs, kernel)
        self._bn(f"{name}_bn", outputs)

    def _block(self, name, inputs, width, stride, has_projection):
        self._bn(f"{name}_preact_bn", inputs)
        if has_projection:
            self._conv(f"{name}_0_conv", inputs, 4 * width, 1, stride, bias=True)
        self._conv(f"{name}_1_conv", inputs, width, 1)
        self._bn(f"{name}_1_bn", width)
        self._conv(f"{name}_2_conv", width, width, 3, stride)
        self._bn(f"{name}_2_bn", width)
        self._conv(f"{name}_3_conv", width, 4 * width, 1, bias=True)

    def _apply_block(self, x, name, preact):
        get = self.layers
        stride = get[f"{name}_2_conv"].stride[0]
        if f"{name}_0_conv" in get:
            shortcut = get[f"{name}_0_conv"](preact)
        else:
            shortcut = F.max_pool2d(x, 1, stride) if stride > 1 else x
        y = F.relu(get[f"{name}_1_bn"](get[f"{name}_1_conv"](preact)))
        y = F.relu(get[f"{name}_2_bn"](get[f"{name}_2_conv"](y)))
        return shortcut + get[f"{name}_3_conv"](y)

    def _norm_relu(self, x, name):
        return F.relu(self.layers[f"{name}_bn"](x))

    def _conv_norm_relu(self, x, name):
        return self._norm_relu(self.layers[f"{name}_conv"](x), name)

    def forward(self, image, names=OUTPUTS):
        """image -> dict of the named logits; what they do not need is not computed."""
        X, x = self._trunk(image)
        outputs = {}
        if "y_cls" in names or "y_hat" in names:
            outputs["y_cls"] = self._classify(X, x)
        if set(names) - {"y_cls"}:
            outputs["y_att"], U = self._attend(X)
        if "y_sr" in names or "y_hat" in names:
            outputs["y_sr"] = self._regularize(U)
        if "y_hat" in names:
            outputs["y_hat"] = 0.5 * outputs["y_cls"] + 0.5 * outputs["y_sr"]
        return {name: outputs[name] for name in names}

    def _trunk(self, image):
        """image -> X and the sum before its pre-activation."""
        x = F.max_pool2d(F.pad(self.layers["conv1_conv"](image / 127.5 - 1.0), (1, 1, 1, 1)), 3, 2)
        for name in BLOCK_NAMES:
            preact = self._norm_relu(x, f"{name}_preact")
            if name == X_BLOCK:
                return preact, x
            x = self._apply_block(x, name, preact)

    def _classify(self, X, x):
        """X and the sum before it -> y_cls."""
        x = self._apply_block(x, X_BLOCK, X)
        for name in BLOCK_NAMES[BLOCK_NAMES.index(X_BLOCK) + 1 :]:
            x = self._apply_block(x, name, self._norm_relu(x, f"{name}_preact"))
        return self.layers["cls_logits"](self._norm_relu(x, "post").mean((2, 3)))

    def _attend(self, X):
        """X -> y_att and U."""
        get = self.layers
        n = X
        for block in ("neck_block1", "neck_block2"):
            y = self._conv_norm_relu(self._norm_relu(n, f"{block}_pre"), f"{block}_1")
            n = n + get[f"{block}_3_conv"](self._conv_norm_relu(y, f"{block}_2"))
        n = self._norm_relu(n, "neck_last")
        Z = get["att_3_conv"](self._conv_norm_relu(self._conv_norm_relu(n, "att_1"), "att_2"))
        A = Z.flatten(2).softmax(2).view_as(Z)
        S = get["conf_2_conv"](self._conv_norm_relu(n, "conf_1"))
        return (A * S).sum((2, 3)), torch.sigmoid(S) * A

    def _regularize(self, U):
        """U -> y_sr."""
        r = self._conv_norm_relu(self._conv_norm_relu(U * self._grid**2, "sr_conv2"), "sr_conv3")
        # conv4's kernels are as large as the map: a product of matrices for each channel, which is ten times as fast as
        # the grouped convolution is on a CPU.
        kernels = self.layers["sr_conv4"].weight.unflatten(0, (r.shape[1], -1)).squeeze(2)  # (channels, 4, H, W)
        r = torch.einsum("bchw,cmhw->bcm", r, kernels).flatten(1)[:, :, None, None]
        r = self._norm_relu(r, "sr_conv4")
        return self.layers["sr_logits"](r.flatten(1))

    def load_npz(self, path):
        """Takes the weights of a file whose arrays are named <part>/<layer>/<weight>, as srn_tf writes them.

        Raises:
            ValueError: a weight of the file or of this module has no partner.
        """
        with np.load(path) as file:
            arrays = {tuple(name.split("/")[1:]): file[name] for name in file.files if "/" in name}
        expected = set(self.state_dict())
        for (layer, weight), array in arrays.items():
            module = self.layers[layer]
            tensor = _as_torch(module, weight, array)
            name = _NAMES[weight]
            with torch.no_grad():
                getattr(module, name).copy_(tensor)
            expected.discard(f"layers.{layer}.{name}")
        missing = sorted(name for name in expected if not name.endswith("num_batches_tracked"))
        if missing:
            raise ValueError(f"The weights in {path} lack {missing[:3]}.")


_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _as_torch(module, weight, array):
    """Keras' axes to PyTorch's."""
    if weight == "kernel" and getattr(module, "groups", 1) > 1:  # depthwise, (H, W, inputs, multiplier)
        array = array.transpose(2, 3, 0, 1).reshape(module.weight.shape)  # (inputs * multiplier, 1, H, W)
    elif weight == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return torch.from_numpy(np.ascontiguousarray(array))
