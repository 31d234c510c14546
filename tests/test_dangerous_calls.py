"""No source of ours can run code from a file: see :mod:`tests.support.dangerous_calls`."""

from __future__ import annotations

import pytest

from tests.support.dangerous_calls import find_dangers
from tests.support.paths import ROOT

FOLDERS = ("src", "training", "scripts", "examples", "benchmarks")
DOORS = ("src/napari_plimseg/models/encoders/external.py",)
"""The only module that builds networks of open_clip and timm."""
DOWNLOADS = "src/napari_plimseg/models/downloads.py"
"""The only module that asks the hub."""
EXCEPTIONS = {
    # an empty network of a name in the source, which its weights are checked against
    "scripts/imagenet_weights.py": {"create_model"},
}
IMPORTS_BY_NAME = {
    "src/napari_plimseg/_widgets/docks.py",  # our own docks
    "src/napari_plimseg/_widgets/generate/jobs.py",  # a table of modules to import early
    "scripts/imagenet_weights.py",  # the package named in its docstring
}


def test_nothing_dangerous_is_called() -> None:
    wrong = []
    for path in sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for found in find_dangers(
            path.read_text("utf-8"), door=name in DOORS, hub=name == DOWNLOADS
        ):
            if "module's name" in found.what and name in IMPORTS_BY_NAME:
                continue
            if found.what in EXCEPTIONS.get(name, ()):
                continue
            wrong.append(f"{name}:{found.line}: {found.what}")
    assert not wrong, "\n".join(wrong)


def test_the_exceptions_exist() -> None:
    assert all(
        (ROOT / name).is_file() for name in (*DOORS, DOWNLOADS, *IMPORTS_BY_NAME, *EXCEPTIONS)
    )


BAD = [
    "import pickle\npickle.loads(b'')",
    "import pickle as p\np.load(f)",
    "from pickle import loads as x",
    "from pickle import Unpickler",
    "import pickle\nf(pickle)",
    "import pickle\nclass U(pickle.Unpickler): pass",
    "import _pickle",
    "import marshal",
    "def f():\n    import shelve as s",
    "from dill import load",
    "import joblib",
    "import cloudpickle",
    "eval('1')",
    "exec(text)",
    "e = eval\ne(text)",
    "import builtins\nbuiltins.exec(text)",
    "__builtins__['eval'](text)",
    "globals()['exec'](text)",
    "vars(__builtins__)['exec'](text)",
    "map(eval, texts)",
    "compile(text, 'x', 'exec')",
    "__import__('pickle').loads(b'')",
    "__import__(name)",
    "import importlib\nimportlib.import_module('pickle').loads(b'')",
    "import importlib as i\nm = i.import_module('mar' + 'shal')\nm.loads(b'')",
    "from importlib import import_module\nimport_module(name)",
    "import importlib.util\nimportlib.util.spec_from_file_location('a', path)",
    "import runpy\nrunpy.run_path(path)",
    "import sys\nsys.modules['pickle'].loads(b'')",
    "import yaml\nyaml.load(text)",
    "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
    "import yaml as y\ny.load(text, y.Loader)",
    "from yaml import load",
    "from yaml import unsafe_load as safe_load",
    "import yaml\nclass L(yaml.FullLoader): pass",
    "import yaml\nyaml.full_load(text)",
    "import torch\ntorch.load(path)",
    "import torch\ntorch.load(path, weights_only=False)",
    "import torch\ntorch.load(path, weights_only=safe)",
    "import torch\ntorch.load(path, **options)",
    "import torch as t\nt.load(path)",
    "from torch import load\nload(path)",
    "import torch\nload = torch.load\nload(path)",
    "import torch\ngetattr(torch, 'load')(path)",
    "import torch\ngetattr(torch, 'lo' + 'ad')(path)",
    "import torch\ngetattr(torch, name)(path)",
    "import torch\ntorch.__dict__['load'](path)",
    "import operator, torch\noperator.attrgetter('load')(torch)(path)",
    "import functools, torch\nf = functools.partial(torch.load, map_location='cpu')",
    "import torch\nother = torch\nother.load(path)",
    "if (t := __import__('torch')).load(path): pass",
    "import torch\ntorch.load(path, weights_only=True, pickle_module=p)",
    "import torch\ntorch.hub.load('org/repo', 'model')",
    "import torch\ntorch.jit.load(path)",
    "from torch.serialization import load",
    "import numpy as np\nnp.load(path, allow_pickle=True)",
    "import numpy as np\nnp.load(path, None, True)",
    "from numpy import load\nload(path, allow_pickle=choice)",
    "options = {'allow_pickle': True}",
    "options['weights_only'] = False",
    "f(**dict(trust_remote_code=True))",
    "import subprocess\nsubprocess.run(line, shell=True)",
    "import subprocess as s\ns.Popen(line, shell=want)",
    "import functools, subprocess\nf = functools.partial(subprocess.run, shell=True)",
    "import subprocess\nsubprocess.getoutput('ls')",
    "import os\nos.system('ls')",
    "from os import popen as p",
    "import os\nf(os.system)",
    "import asyncio\nasyncio.create_subprocess_shell('ls')",
    "import transformers\ntransformers.AutoTokenizer.from_pretrained(name)",
    "from transformers import AutoModel",
    "SomeClass.from_pretrained(folder)",
    "self.tokenizer.from_pretrained(folder)",
    "f(folder, trust_remote_code=True)",
    "f(folder, trust_remote_code=config.get('trust'))",
    "f(folder, local_files_only=False)",
    "import open_clip\nopen_clip.create_model(name)",
    "import open_clip\nopen_clip.get_tokenizer(name)",
    "from open_clip import create_model_and_transforms as make",
    "import timm\ntimm.create_model(name)",
    "import timm\nmake = timm.create_model",
    "from timm.models import load_checkpoint",
    "import huggingface_hub",
    "from huggingface_hub import hf_hub_download as get",
    "import huggingface_hub as h\nh.snapshot_download(name)",
    "from os import *",
]

GOOD = [
    "import pickle\ntry:\n    f()\nexcept pickle.UnpicklingError:\n    pass",
    "import yaml\nyaml.safe_load(text)\nclass L(yaml.SafeLoader): pass",
    "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
    "import safetensors.torch\nsafetensors.torch.load(data)\nsafetensors.torch.load_file(path)",
    "import numpy as np\nnp.load(path, mmap_mode='r')\nnp.load(path, allow_pickle=False)",
    "import subprocess\nsubprocess.run([a, b], shell=False)",
    "network.eval().requires_grad_(False)\ndialog.exec()\nloop.exec()",
    "import re\nre.compile('a')",
    "import os\ngetattr(os, 'O_BINARY', 0)\nos.execv(a, b)",
    "import json\nload = json.load\nload(f)",
    "f(folder, trust_remote_code=False, local_files_only=True)",
    "from napari_plimseg.models import load_model\nload_model(name)",
]


@pytest.mark.parametrize("source", BAD)
def test_each_way_is_found(source: str) -> None:
    assert find_dangers(source)


@pytest.mark.parametrize("source", GOOD)
def test_ordinary_code_is_no_danger(source: str) -> None:
    assert find_dangers(source) == []


def test_the_door_may_build_and_only_downloads_may_ask_the_hub() -> None:
    build = "import open_clip\nopen_clip.create_model(name)"
    ask = "import huggingface_hub\nhuggingface_hub.hf_hub_url(a, b)"
    assert find_dangers(build, door=True) == []
    assert find_dangers(ask, hub=True) == []
    assert find_dangers(build, hub=True)
    assert find_dangers("f(trust_remote_code=True)", door=True)
    assert find_dangers("import pickle\npickle.loads(b'')", door=True, hub=True)
