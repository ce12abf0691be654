"""Small ONNX models, made here: FastEmbed's own come from a hub that tests do not reach."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

SIZE = 16
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "node",
    "process",
    "topic",
    "message",
    "robot",
    "gait",
    "walks",
    "a",
    "what",
]


def make_embedder(folder: Path) -> Path:
    """A model whose vector of a word is a row of a table; alike words have no likeness."""
    table = np.random.default_rng(7).normal(size=(len(WORDS), SIZE)).astype(np.float32)
    table[:4] *= 0.01  # what is no word says little
    gather = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "words", SIZE])
    return _write(folder, [gather], [numpy_helper.from_array(table, "table")], output)


def make_reranker(folder: Path) -> Path:
    """A model that scores a text by the numbers of its words."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["logits"], axes=[1], keepdims=1),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    return _write(folder, nodes, [], output)


def _write(folder: Path, nodes: list, tables: list, output: object) -> Path:
    folder.mkdir(parents=True)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "words"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    graph = helper.make_graph(nodes, "small", inputs, [output], tables)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "config.json").write_text(json.dumps({"hidden_size": SIZE, "pad_token_id": 0}))
    (folder / "tokenizer_config.json").write_text(json.dumps(names | {"model_max_length": 64}))
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    return folder
