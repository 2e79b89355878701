"""A network as a plain graph that only answers: rewritten once, when it is exported, so that it is faster when served.

Everything here works on the operations of a graph, whatever model they come from. In a GraphDef a tensor's name is
its operation's, with ":1" and so on for outputs after the first.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf

PRECISIONS = ("float32", "bfloat16")
WEIGHTS = ("variables", "constants")

_INPUT = "image"
_PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
# What may run in bfloat16 between two products. The others, such as softmax, sigmoid and means, keep float32.
_BETWEEN_PRODUCTS = ("AddV2", "BiasAdd", "FusedBatchNormV3", "Identity", "MaxPool", "Pad", "Relu")
# Constants of fewer elements (biases, shapes) stay in the graph.
_SMALLEST_VARIABLE = 1024


@dataclasses.dataclass(frozen=True)
class InferenceGraph:
    """Operations from an image to named outputs.

    Attributes:
        nodes: list of NodeDef, each after those it reads; weights are constants among them. Operations read "image",
            float32 (B, S, S, 3) RGB, 0 to 255, which is none of them.
        outputs: name -> tensor in `nodes`, float32.
        library: FunctionDefLibrary, functions that the operations call.
        variables: name read by `nodes` -> variable whose handle it is; only for those that functions read.
        image_size: S.
        source: function, float32 (B, S, S, 3) -> dict of the outputs: the network it was made of, as a graph in which
            nothing is rewritten.
        others: tuple of TensorSpec, float32 (B, ...): what operations read besides the image. Functions of the graph
            take them after the image, or without them: all is then -1, not known.
    """

    nodes: list
    outputs: dict
    library: object
    variables: dict
    image_size: int
    source: object
    others: tuple = ()

    def as_function(self, weights="variables", smallest=_SMALLEST_VARIABLE):
        """Makes a function of it that can be called, and saved, in TensorFlow.

        Args:
            weights: "variables" are shared by all signatures of a SavedModel. "constants" are laid out for the
                processor once, not in every call, which is faster, above all for one image; but every signature that
                is called has constants of its own, and TensorFlow several copies of those (of ResNet-101, gigabytes).
            smallest: elements that a variable has at least; what has fewer stays a constant. With 1 TensorFlow cannot
                fold BatchNorms by itself, as it does where all they read is constant.
        Returns:
            (network, variables): a function, float32 (B, S, S, 3) -> dict of the outputs; its tf.Variables, which the
            caller must keep.
        """
        lifted = {
            node.name: tf.Variable(_value(node), trainable=False, name=node.name)
            for node in self.nodes
            if weights == "variables" and _is_float_constant(node) and _value(node).size >= smallest
        }
        graph_def = tf.compat.v1.GraphDef(node=[node for node in self.nodes if node.name not in lifted])
        graph_def.library.CopyFrom(self.library)
        graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
        image = tf.TensorSpec([None, self.image_size, self.image_size, 3], tf.float32, name=_INPUT)

        @tf.function(input_signature=[image, *self.others], autograph=False)
        def network(image, *others):
            inputs = {_INPUT: image, **{spec.name: value for spec, value in zip(self.others, others, strict=True)}}
            inputs |= {name: variable.read_value() for name, variable in lifted.items()}
            inputs |= {name: tf.identity(variable.handle) for name, variable in self.variables.items()}
            tensors = [f"{name}:0" if ":" not in name else name for name in self.outputs.values()]
            return dict(zip(self.outputs, tf.import_graph_def(graph_def, inputs, tensors, name="")))

        return _without_others(network, self.others), [*lifted.values(), *self.variables.values()]

    def as_graph_def(self, output):
        """Makes a graph of one answer for converters, as TensorFlow 1 had it: from "image" to "probabilities" alone.

        Args:
            output: name of the logits that the probabilities are of.
        Returns:
            GraphDef.
        """
        size = [None, self.image_size, self.image_size, 3]
        image = tf.compat.v1.NodeDef(name=_INPUT, op="Placeholder")
        image.attr["dtype"].type = tf.float32.as_datatype_enum
        image.attr["shape"].shape.CopyFrom(tf.TensorShape(size).as_proto())
        answer = tf.compat.v1.NodeDef(name="probabilities", op="Sigmoid", input=[self.outputs[output]])
        answer.attr["T"].type = tf.float32.as_datatype_enum
        needed = _without_unread(dataclasses.replace(self, outputs={output: self.outputs[output]})).nodes
        graph_def = tf.compat.v1.GraphDef(node=[image, *needed, answer], library=self.library)
        graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
        return graph_def


def trace(network, image_size, joins_batch_norms=True):
    """Turns a Keras network into a graph for inference.

    Whatever does not depend on the inputs is computed once, and becomes a constant.

    Args:
        network: keras.Model, image, or a dict of "image" and others -> dict of outputs; it may have been built under a
            tf.distribute strategy.
        image_size: side S of its square input, pixels.
        joins_batch_norms: whether a BatchNorm that Keras computes as a product and a sum becomes FusedBatchNormV3, as
            others are, which rounds otherwise. False leaves every operation as it is.
    Returns:
        InferenceGraph.
    """
    inputs = network.inputs if len(network.inputs) > 1 else []  # an image alone may have another name
    others = tuple(tf.TensorSpec([None, *x.shape[1:]], x.dtype, x.name) for x in inputs if x.name != _INPUT)
    given = {_INPUT, *(spec.name for spec in others)}

    def answer(image, *values):
        read = {_INPUT: image, **{spec.name: value for spec, value in zip(others, values, strict=True)}}
        return network(read if others else image, training=False)

    spec = tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name=_INPUT)
    traced = tf.compat.v1.wrap_function(answer, [spec, *others])
    operations = traced.graph.get_operations()  # each after those it reads
    kept = set(given)  # operations that depend on inputs, or give what is no array (the lists that loops fill)
    constants = {}
    for operation in operations:
        is_array = all(tensor.dtype != tf.variant for tensor in operation.outputs)
        if not is_array or any(tensor.op.name in kept for tensor in operation.inputs):
            kept.add(operation.name)
            constants |= {tensor.name: tensor for tensor in operation.inputs if tensor.op.name not in kept}
    results = traced.structured_outputs
    constants |= {tensor.name: tensor for tensor in results.values() if tensor.op.name not in kept}
    handles = {name: tensor for name, tensor in constants.items() if tensor.dtype == tf.resource}
    constants = {name: tensor for name, tensor in constants.items() if name not in handles}
    values = traced.prune([], list(constants.values()))()
    values = {name: value.numpy() for name, value in zip(constants, values, strict=True)}
    node_of = {node.name: node for node in traced.graph.as_graph_def().node}
    # A constant is an operation of its own, also where it was one of several outputs of another.
    names = {name: _short(name).replace(":", "/output_") for name in values}
    nodes = [_constant(names[name], value) for name, value in values.items()]
    for operation in operations:
        if operation.name in kept and operation.name not in given:
            node = node_of[operation.name]
            node.input[:] = [names.get(tensor.name, _short(tensor.name)) for tensor in operation.inputs]
            node.device = ""  # that of the training
            nodes += (joins_batch_norms and _as_batch_norm(operation, values)) or [node]
    outputs = {name: _short(tensor.name) for name, tensor in results.items()}
    for name, tensor in results.items():
        if tensor.op.name not in kept:  # an operation of its own, since a constant may become a variable
            nodes.append(_identity(f"{names[tensor.name]}/output", names[tensor.name], tensor.dtype))
            outputs[name] = nodes[-1].name
    library = traced.graph.as_graph_def().library
    variables, source = _variables_of(traced, handles), _without_others(traced, others)
    return _without_unread(InferenceGraph(nodes, outputs, library, variables, image_size, source, others))


def _without_others(function, specs):
    """A function of an image and others as one that may also be given the image alone, see `InferenceGraph.others`."""
    if not specs:
        return function

    def answer(image, *others):
        if not others:
            others = [tf.fill([tf.shape(image)[0], *spec.shape[1:]], tf.constant(-1.0, spec.dtype)) for spec in specs]
        return function(image, *others)

    return answer


def _as_batch_norm(operation, constants):
    """A sum that ends a BatchNorm as Keras 3 computes it, scale * x + shift on a map, as one operation that is both.

    Args:
        operation: tf.Operation.
        constants: name of a tensor -> its value, of all that the image does not decide.
    Returns:
        list of NodeDef, the last of them under the sum's name; empty if the operation is another.
    """
    output = operation.outputs[0] if operation.type == "AddV2" else None
    product = operation.inputs[0].op if output is not None else None
    if product is None or product.type != "Mul" or output.shape.rank != 4 or output.dtype != tf.float32:
        return []
    values = [constants.get(tensor.name) for tensor in (product.inputs[1], operation.inputs[1])]
    channels = output.shape[-1]
    if any(value is None or value.size != channels for value in values):
        return []
    scale, shift = (value.reshape(channels) for value in values)
    parts = {"scale": scale, "shift": shift, "mean": np.zeros_like(scale), "variance": np.ones_like(scale)}
    nodes = [_constant(f"{operation.name}/{name}", value) for name, value in parts.items()]
    inputs = [_short(product.inputs[0].name), *(node.name for node in nodes)]
    node = tf.compat.v1.NodeDef(name=operation.name, op="FusedBatchNormV3", input=inputs)
    node.attr["T"].type = node.attr["U"].type = tf.float32.as_datatype_enum
    node.attr["epsilon"].f = 0.0
    node.attr["is_training"].b = False
    return [*nodes, node]


def fold_batch_norms(graph):
    """Writes every BatchNorm into the convolution before it, where nothing else reads that convolution.

    With scale s = gamma / sqrt(variance + epsilon), kernel * s and beta + (bias - mean) * s compute the same.

    Args:
        graph: InferenceGraph of `trace`.
    Returns:
        InferenceGraph.
    """
    node_of = {node.name: node for node in graph.nodes}
    readers = collections.Counter(name for node in graph.nodes for name in node.input)
    readers.update(graph.outputs.values())
    nodes = []
    replaced = {}  # constant -> its new value
    for node in graph.nodes:
        bias = node_of.get(node.input[0]) if _is_batch_norm(node) else None
        has_bias = bias is not None and bias.op == "BiasAdd"
        product = node_of.get(bias.input[0]) if has_bias else bias
        is_foldable = (
            product is not None
            and product.op in ("Conv2D", "DepthwiseConv2dNative")
            and readers[product.name] == readers[product.input[1]] == readers[bias.name] == 1
        )
        if not is_foldable:
            nodes.append(node)
            continue
        gamma, beta, mean, variance = (_value(node_of[name]).astype(np.float64) for name in node.input[1:5])
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        before = _value(node_of[bias.input[1]]).astype(np.float64) if has_bias else 0.0
        kernel = _value(node_of[product.input[1]]).astype(np.float64)
        # A depthwise kernel is (height, width, channels in, channels out for each).
        per_channel = scale if product.op == "Conv2D" else scale.reshape(kernel.shape[2:])
        replaced[product.input[1]] = kernel * per_channel
        nodes.append(_constant(f"{node.name}/bias", (beta + (before - mean) * scale).astype(np.float32)))
        nodes.append(_bias_add(node.name, product.name, f"{node.name}/bias"))
    nodes = [_constant(n.name, replaced[n.name].astype(np.float32)) if n.name in replaced else n for n in nodes]
    return _without_unread(dataclasses.replace(graph, nodes=nodes))


def batch_norms_as_products(graph):
    """Writes the BatchNorms that are left as depthwise convolutions of one pixel, with a bias, for CPUs.

    TensorFlow computes such a product, the bias and a ReLU behind it in one pass over the map, and takes several for
    FusedBatchNormV3 (docs/measurements.md, Serving speed). Other runtimes have passes of their own for BatchNorms.

    Args:
        graph: InferenceGraph, float32.
    Returns:
        InferenceGraph.
    """
    node_of = {node.name: node for node in graph.nodes}
    nodes = []
    for node in graph.nodes:
        values = [node_of.get(name) for name in node.input[1:5]]
        if not _is_batch_norm(node) or not all(value is not None and value.op == "Const" for value in values):
            nodes.append(node)
            continue
        gamma, beta, mean, variance = (_value(value).astype(np.float64) for value in values)
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        kernel = _constant(f"{node.name}/depthwise_kernel", scale.reshape(1, 1, -1, 1).astype(np.float32))
        product = tf.compat.v1.NodeDef(
            name=f"{node.name}/depthwise", op="DepthwiseConv2dNative", input=[node.input[0], kernel.name]
        )
        product.attr["T"].type = tf.float32.as_datatype_enum
        product.attr["strides"].list.i.extend([1, 1, 1, 1])
        product.attr["padding"].s = b"VALID"
        bias = _constant(f"{node.name}/depthwise_bias", (beta - mean * scale).astype(np.float32))
        nodes += [kernel, product, bias, _bias_add(node.name, product.name, bias.name)]
    return _without_unread(dataclasses.replace(graph, nodes=nodes))


def count_batch_norms(graph):
    """The number of operations that scale and shift channels by constants, as BatchNorms do."""
    return sum(_is_batch_norm(node) for node in graph.nodes)


def _is_batch_norm(node):
    return node.op == "FusedBatchNormV3" and not node.attr["is_training"].b


def round_weights(graph, bits):
    """The graph with every constant of floats rounded to so many significant bits, of the 24 that float32 has.

    Args:
        graph: InferenceGraph of `trace`.
        bits: int.
    Returns:
        InferenceGraph.
    """

    def rounded(node):
        fraction, exponent = np.frexp(_value(node))
        value = np.ldexp(np.round(fraction * 2.0**bits) / 2.0**bits, exponent)
        return _constant(node.name, np.asarray(value, np.float32))

    nodes = [rounded(node) if node.op == "Const" and _is_float(node) else node for node in graph.nodes]
    return dataclasses.replace(graph, nodes=nodes)


def to_bfloat16(graph):
    """Makes products, and what lies between them, run in bfloat16; the outputs stay float32.

    A product that no other follows before a softmax, a mean, an output or the like keeps float32: the answer is read
    from what it gives (scores, logits), and it is a small part of the work.

    Args:
        graph: InferenceGraph, all in float32.
    Returns:
        InferenceGraph; its weights are bfloat16 constants.
    """
    constants = {node.name: node for node in graph.nodes if node.op == "Const"}
    operations = [(node.name, node.op, [_operation(name) for name in node.input]) for node in graph.nodes]
    followed = followed_products(operations, _PRODUCTS, _BETWEEN_PRODUCTS)
    in_bfloat16 = set()  # tensors
    nodes = {}  # by name, in order
    for node in graph.nodes:
        read = [name for name in node.input if name not in constants]
        is_converted = node.name in followed or (
            node.op in _BETWEEN_PRODUCTS and bool(read) and in_bfloat16.issuperset(read)
        )
        converted = type(node)()
        converted.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name not in constants:
                if is_converted != (name in in_bfloat16):
                    cast = _cast(name, to_bfloat16=is_converted)
                    nodes[cast.name] = cast
                    converted.input[place] = cast.name
            # BatchNorm's own values are float32 also where it runs in bfloat16.
            elif is_converted and node.op != "FusedBatchNormV3" and _is_float(constants[name]):
                rounded = _constant(f"{name}/bfloat16", tf.cast(_value(constants[name]), tf.bfloat16).numpy())
                nodes[rounded.name] = rounded
                converted.input[place] = rounded.name
        if is_converted:
            converted.attr["T"].type = tf.bfloat16.as_datatype_enum
            in_bfloat16.add(node.name)
        nodes[node.name] = converted
    outputs = dict(graph.outputs)
    for name, tensor in graph.outputs.items():
        if tensor in in_bfloat16:
            cast = _cast(tensor, to_bfloat16=False)
            nodes[cast.name] = cast
            outputs[name] = cast.name
    return _without_unread(dataclasses.replace(graph, nodes=list(nodes.values()), outputs=outputs))


def followed_products(operations, products, between):
    """Finds the products whose result another product reads, perhaps through operations of certain kinds.

    Args:
        operations: sequence of (name, kind, names of the operations it reads), each after those it reads.
        products: kinds that are products.
        between: kinds that may stand between two of them.
    Returns:
        set of names.
    """
    followed = set()
    leads_to_product = set()
    for name, kind, read in reversed(operations):
        is_product = kind in products
        if is_product and name in leads_to_product:
            followed.add(name)
        if is_product or (kind in between and name in leads_to_product):
            leads_to_product.update(read)
    return followed


def _without_unread(graph):
    """The graph without operations that no output needs."""
    needed = {_operation(name) for name in graph.outputs.values()}
    nodes = []
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(_operation(name) for name in node.input)
            nodes.append(node)
    return dataclasses.replace(graph, nodes=nodes[::-1])


def _variables_of(traced, handles):
    """Name in the graph -> the variable behind it, for handles that functions (loops) read themselves."""
    captured = {id(inside): outside for outside, inside in traced.graph.captures}
    variables = {id(variable.handle): variable for variable in traced.graph.variables}
    return {_short(name): variables[id(captured[id(tensor)])] for name, tensor in handles.items()}


def _short(tensor_name):
    return tensor_name.removesuffix(":0")


def _operation(name):
    return name.split(":")[0]


def _value(node):
    return tf.make_ndarray(node.attr["value"].tensor)


def _is_float(node):
    return node.attr["dtype"].type == tf.float32.as_datatype_enum


def _is_float_constant(node):
    floats = (tf.float32.as_datatype_enum, tf.bfloat16.as_datatype_enum)
    return node.op == "Const" and node.attr["dtype"].type in floats


def _constant(name, value):
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node


def _identity(name, read, dtype):
    node = tf.compat.v1.NodeDef(name=name, op="Identity", input=[read])
    node.attr["T"].type = dtype.as_datatype_enum
    return node


def _bias_add(name, product, bias):
    node = tf.compat.v1.NodeDef(name=name, op="BiasAdd", input=[product, bias])
    node.attr["T"].type = tf.float32.as_datatype_enum
    return node


def _cast(name, to_bfloat16):
    suffix = "as_bfloat16" if to_bfloat16 else "as_float32"
    node = tf.compat.v1.NodeDef(name=f"{name.replace(':', '_')}/{suffix}", op="Cast", input=[name])
    types = (tf.float32.as_datatype_enum, tf.bfloat16.as_datatype_enum)
    node.attr["SrcT"].type, node.attr["DstT"].type = types if to_bfloat16 else types[::-1]
    return node
