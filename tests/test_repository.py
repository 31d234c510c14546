"""What surrounds the code is sound: README, citation, workflows, pre-commit, menus."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import napari_plimseg

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REPOSITORY = "https://github.com/napari-plimseg/napari-plimseg"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_the_citation_is_complete_and_of_this_version() -> None:
    citation = load("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == napari_plimseg.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source Code"] == REPOSITORY
    assert citation["url"] == PROJECT["urls"]["Documentation"]


def test_the_readme_s_links_and_pictures_work_on_other_sites() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    inline = re.findall(r"\]\(([^)\s]+)\)", text)
    references = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
    assert pictures
    for target in [*inline, *references.values()]:
        assert target.startswith("https://"), f"{target}: other sites show the README, too"
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    for name in re.findall(r"(?<!!)\[([^\]]+)\](?![(:\[])", prose):
        assert name.lower() in references, f"[{name}] has no address"


def test_links_to_the_project_lead_to_files_that_exist() -> None:
    site = PROJECT["urls"]["Documentation"]
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.yml")]
    found = 0
    for path in texts:
        text = path.read_text("utf-8")
        for target in re.findall(rf"{REPOSITORY}/(?:raw|blob)/main/([^)\s#\"]+)", text):
            found += 1
            assert (ROOT / target).is_file(), f"{path.name}: {target}"
        for page in re.findall(rf"{re.escape(site)}([\w/]+)", text):
            found += 1
            name = page.strip("/")
            candidates = (f"docs/{name}.md", f"docs/{name}/index.md", f"{name.upper()}.md")
            assert any((ROOT / candidate).is_file() for candidate in candidates), page
    assert found > 5


def test_the_project_s_addresses_are_complete() -> None:
    assert {"Documentation", "Changelog", "Source Code", "Bug Tracker"} <= set(PROJECT["urls"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_only_make_targets_that_exist(path: Path) -> None:
    jobs = load(path)["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    made = [command for command in commands if command.startswith("make ")]
    assert made or path.stem == "publish"
    for command in commands:
        if command in made:
            assert command.split()[1] in make_targets(), command
        else:
            assert command.startswith("git config"), f"{command}: put it into a make target"
    for job in jobs.values():
        assert set(job.get("needs", "").split()) <= set(jobs)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"[\w./-]+@[\w./-]+", step.get("uses", "actions/checkout@v5"))


def test_the_workflows_cover_systems_bindings_and_versions() -> None:
    jobs = load(".github/workflows/tests.yml")["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert set(matrix["qt"]) == {"PySide6", "PyQt6"}
    versions = jobs["versions"]["strategy"]["matrix"]["include"]
    assert {entry["constraints"] for entry in versions} == {"lowest.txt", "/dev/null"}
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest in {entry["python"] for entry in versions}


def test_only_a_tag_publishes_and_without_a_password() -> None:
    workflow = load(".github/workflows/publish.yml")
    triggers = workflow[True]  # YAML reads the key "on" as a truth value
    assert triggers == {"push": {"tags": ["v*"]}}
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github/workflows/publish.yml").read_text("utf-8")


def test_the_hooks_of_pre_commit_are_local_and_check_what_make_lint_checks() -> None:
    repositories = load(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    hooks = {hook["id"]: hook for hook in repositories[0]["hooks"]}
    assert set(hooks) == {"ruff", "ruff-format", "mypy", "file-size"}
    for hook in hooks.values():
        program, *arguments = hook["entry"].split()
        assert program.startswith(".venv/bin/")
        assert all((ROOT / a).is_file() for a in arguments if a.endswith(".py"))


def test_the_file_size_hook_refuses_large_files(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "check_file_size.py"
    (tmp_path / "small.png").write_bytes(b"x" * 1000)
    (tmp_path / "large.png").write_bytes(b"x" * 600_000)
    names = [str(tmp_path / "small.png"), str(tmp_path / "large.png")]
    good = subprocess.run([sys.executable, script, names[0]], check=False)
    bad = subprocess.run(
        [sys.executable, script, *names], capture_output=True, text=True, check=False
    )
    assert good.returncode == 0
    assert bad.returncode == 1
    assert "large.png: 600,000 bytes" in bad.stdout
    assert "small.png" not in bad.stdout


def test_every_dependency_has_a_lowest_version() -> None:
    script = ROOT / "scripts" / "lowest_versions.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    lines = printed.stdout.splitlines()
    assert len(lines) == len(PROJECT["dependencies"])
    names = {re.split(r"[\[>]", entry)[0] for entry in PROJECT["dependencies"]}
    assert {line.partition("==")[0] for line in lines} == names


def test_the_issue_forms_ask_for_something() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = load(path)
        if path.stem == "config":
            assert all(link["url"].startswith("https://") for link in form["contact_links"])
            continue
        assert {"name", "description", "body"} <= set(form)
        assert any(part.get("validations", {}).get("required") for part in form["body"])


def test_menus_name_docks_and_menus_that_napari_has() -> None:
    from napari._app_model.constants._menus import MenuId

    contributions = load("napari.yaml")["contributions"]
    docks = {widget["command"] for widget in contributions["widgets"]}
    for menu, entries in contributions["menus"].items():
        assert menu in {str(known) for known in MenuId.contributables()}
        assert {entry["command"] for entry in entries} <= docks


def test_no_results_of_a_run_lie_beside_the_readme() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in listed.stdout.splitlines()}
    endings = (".plimseg", ".geojson", ".csv", ".tif", ".tiff", ".png", ".svs")
    assert [name for name in sorted(top) if name.endswith(endings)] == []
