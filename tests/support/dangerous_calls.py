"""Finds what can run code from a file, in source code, however it is imported or aliased.

It knows what names stand for: imports at any depth, ``import yaml as y``, ``load = torch.load``,
``getattr(torch, "load")``, ``importlib.import_module("pickle")``. A forbidden function may not even
be mentioned, so that it can't be handed to ``functools.partial`` or kept under another name.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

FORBIDDEN = {
    # run what they read
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"),
    *("jsonpickle", "pandas.read_pickle", "numpy.core.multiarray._reconstruct"),
    *("torch.hub", "torch.jit.load", "torch.package", "torch.serialization"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load"),
    *("yaml.unsafe_load_all", "yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader"),
    *("yaml.CLoader", "yaml.CFullLoader", "yaml.CUnsafeLoader"),
    *("yaml.loader", "yaml.constructor", "yaml.cyaml"),
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__"),
    *("runpy", "code.InteractiveInterpreter", "code.InteractiveConsole", "codeop"),
    *("importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader"),
    # run a shell
    *("os.system", "os.popen", "posix.system", "pty.spawn", "commands"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell"),
}
ALLOWED = {"pickle.UnpicklingError"}
"""The name of an exception."""
DOOR = {
    *(
        "from_pretrained",
        "create_model",
        "create_model_and_transforms",
        "create_model_from_pretrained",
    ),
    *("create_loss", "get_tokenizer", "load_checkpoint", "load_pretrained", "download_pretrained"),
    *("hf_hub_download", "snapshot_download", "cached_download", "hf_hub_url", "http_get"),
    *("get_hf_file_metadata", "try_to_load_from_cache", "cached_file", "load_state_dict_from_url"),
    *("load_state_dict_from_hf", "load_model_config_from_hf", "HfApi", "HfFileSystem"),
    *("AutoModel", "AutoConfig", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor"),
    *("AutoModelForCausalLM", "AutoModelForMaskGeneration", "HFTokenizer"),
}
"""Functions that build what a name or a configuration of others says, or fetch it."""
OPTIONS = {
    "shell": False,
    "allow_pickle": False,
    "trust_remote_code": False,
    "weights_only": True,
    "local_files_only": True,
    "pickle_module": None,
}
"""The one value that an option may have, whatever it is an option of."""
_DYNAMIC = {"torch", "numpy", "yaml", "os", "builtins", "subprocess", "importlib", "pickle"}
_DYNAMIC |= {"transformers", "open_clip", "timm", "huggingface_hub", "sys"}


@dataclass(frozen=True)
class Finding:
    """A line of source that may not be."""

    line: int
    what: str


def find_dangers(source: str, *, door: bool = False, hub: bool = False) -> list[Finding]:
    """Return what is dangerous in a module's source.

    Parameters
    ----------
    source : str
        Python source.
    door : bool
        Whether this module is the one door to configurations and weights of others.
    hub : bool
        Whether it may ask the hub, as the module of downloads does.
    """
    return _Finder(ast.parse(source), door=door, hub=hub).found()


class _Finder:
    def __init__(self, tree: ast.Module, *, door: bool, hub: bool) -> None:
        self.tree, self.door, self.hub = tree, door, hub
        self.findings: set[Finding] = set()
        self.parents = {
            child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)
        }
        self.names: dict[str, str] = {}
        own = {
            *(a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)),
            *(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)),
        }
        for name in dir(builtins):
            if name not in own:
                self.names[name] = f"builtins.{name}"
        self.names["__builtins__"] = "builtins"
        self._learn_imports()
        for _ in range(3):  # an alias of an alias of an alias
            self._learn_aliases()

    def found(self) -> list[Finding]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._check_module(node, alias.name)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._check_name(node, f"{node.module}.{alias.name}")
            elif isinstance(node, ast.Call):
                self._check_call(node)
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    self._check_option(key and _text(key), value)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Subscript):
                        self._check_option(_text(target.slice), node.value)
            if isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
                self._check_reference(node)
        return sorted(self.findings, key=lambda finding: (finding.line, finding.what))

    def _add(self, node: ast.AST, what: str) -> None:
        self.findings.add(Finding(getattr(node, "lineno", 0), what))

    def _learn_imports(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.split(".")[0]
                    self.names[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*":
                        self._add(node, "a star import hides names")
                    self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def _learn_aliases(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.NamedExpr):
                pairs = [(node.target, node.value)]
            elif isinstance(node, ast.Assign):
                pairs = [(target, node.value) for target in node.targets]
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                pairs = [(node.target, node.value)]
            else:
                continue
            for target, value in pairs:
                known = self.resolve(value)
                if isinstance(target, ast.Name) and known and not known.startswith("?"):
                    self.names[target.id] = known

    def resolve(self, node: ast.AST) -> str | None:
        """Return the dotted name that an expression stands for; "?.name" of an unknown object."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            return f"{self.resolve(node.value) or '?'}.{node.attr}"
        if isinstance(node, ast.Subscript):
            key, of = _text(node.slice), self.resolve(node.value) or ""
            if key and of == "sys.modules":
                return key
            if key and of.endswith(".__dict__"):
                return f"{of.removesuffix('.__dict__')}.{key}"
            if key and of == "builtins":
                return f"builtins.{key}"
            return f"builtins.{key}" if key and _is_globals(node.value) else None
        if not isinstance(node, ast.Call):
            return None
        of, texts = self.resolve(node.func), [_text(argument) for argument in node.args]
        if of == "builtins.getattr" and len(texts) > 1 and texts[1]:
            return f"{self.resolve(node.args[0]) or '?'}.{texts[1]}"
        if of in {"importlib.import_module", "builtins.__import__"} and texts and texts[0]:
            return texts[0]
        if of == "builtins.vars" and node.args:
            return f"{self.resolve(node.args[0]) or '?'}.__dict__"
        getter = node.func
        if isinstance(getter, ast.Call) and self.resolve(getter.func) == "operator.attrgetter":
            names = [_text(argument) for argument in getter.args]
            return f"{self.resolve(node.args[0]) or '?'}.{names[0]}" if node.args else None
        return None

    def _check_module(self, node: ast.AST, module: str) -> None:
        if module != "pickle":  # the import alone; its exception's name is needed
            self._check_name(node, module)

    def _check_name(self, node: ast.AST, name: str) -> None:
        parts = name.split(".")
        prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
        if bad := (prefixes & FORBIDDEN) if name not in ALLOWED else set():
            self._add(node, min(bad, key=len))
        if prefixes & {"huggingface_hub"} and not (self.hub or self.door):
            self._add(node, "huggingface_hub")
        own = parts[0] in {"napari_plimseg", "plimseg_training"}
        if parts[-1] in DOOR and not own and not (self.door or self.hub):
            self._add(node, parts[-1])
        if parts[-1] in DOOR and self.hub and not self.door and not prefixes & {"huggingface_hub"}:
            self._add(node, parts[-1])

    def _check_reference(self, node: ast.expr) -> None:
        if isinstance(self.parents.get(node), ast.Attribute):
            return  # the whole chain is checked
        if not isinstance(getattr(node, "ctx", None) or ast.Load(), ast.Load):
            return
        name = self.resolve(node)
        if name is None:
            return
        self._check_name(node, name)
        if name == "torch.load" and not self._is_safe_load(node):
            self._add(node, "torch.load without weights_only=True")

    def _is_safe_load(self, node: ast.expr) -> bool:
        call = self.parents.get(node)
        if not isinstance(call, ast.Call) or call.func is not node:
            return False
        return any(k.arg == "weights_only" and _is(k.value, True) for k in call.keywords)

    def _check_call(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            self._check_option(keyword.arg, keyword.value)
        name = self.resolve(node.func)
        if name == "numpy.load" and len(node.args) > 2:
            self._add(node, "allow_pickle")
        texts = [_text(argument) for argument in node.args]
        if name == "builtins.getattr" and len(texts) > 1 and texts[1] is None:
            of = (self.resolve(node.args[0]) or "").split(".")[0]
            if of in _DYNAMIC:
                self._add(node, f"getattr of {of} with a name made at run time")
        if name == "importlib.import_module" and not (texts and texts[0]):
            self._add(node, "a module's name made at run time")

    def _check_option(self, name: str | None, value: ast.expr) -> None:
        if name in OPTIONS and not _is(value, OPTIONS[name]):
            self._add(value, name)


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _text(node: ast.AST) -> str | None:
    """Return a text that is known before the program runs."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.JoinedStr):
        parts = [_text(part) for part in node.values]
        return None if None in parts else "".join(part or "" for part in parts)
    return None


def _is_globals(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in {"globals", "locals"}
