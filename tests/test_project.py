"""What belongs to the project besides its code: packages, CI, citation, forms, pages."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import mixer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = "requirements.txt"


def lines_of(name):
    text = (ROOT / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def required_by_file(name, found=()):
    """The requirements of a file and of those that it includes, but for the package's own."""
    for line in lines_of(name):
        _, include, other = line.partition("-r ")
        if not include:
            found = {*found, Requirement(line)}
        elif other != BASE:
            found = required_by_file(other, found)
    return set(found)


def required_by_extra(name):
    found = set()
    for text in PROJECT["optional-dependencies"][name]:
        one = Requirement(text)
        if one.name == PROJECT["name"]:
            found = found.union(*map(required_by_extra, one.extras))
        else:
            found.add(one)
    return found


def test_an_extra_is_what_its_file_of_requirements_is():
    files = {path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.txt")}
    assert files == PROJECT["optional-dependencies"].keys()
    for name in files:
        file = f"requirements-{name}.txt"
        assert required_by_extra(name) == required_by_file(file), name
        assert f"-r {BASE}" in lines_of(file), name


def test_the_constraints_are_versions_that_the_requirements_allow():
    pinned = dict(line.split("==") for line in lines_of("constraints.txt"))
    assert all(re.fullmatch(r"[\w.+-]+", version) for version in pinned.values())
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    needed = {one for one in map(Requirement, lines_of(BASE)) if one.marker is None}
    for one in needed | required_by_file("requirements-dev.txt"):
        version = pinned.get(re.sub(r"[-_.]+", "-", one.name).lower())
        assert version or one not in needed, one
        assert version is None or Version(version) in one.specifier, one


def test_the_pythons_of_the_package_are_those_of_ci():
    listed = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python ::" in text]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == listed
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in listed)
    assert job["steps"][-1] == {"run": "bash .ci/run"} and (ROOT / ".ci/run").exists()
    assert workflow["permissions"] == {"contents": "read"}


def test_the_version_is_said_once():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == mixer.__version__
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
    assert citation["license"] == PROJECT["license"]


PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.stem != "README")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_begins_with_its_command_and_the_index_names_it(page):
    assert f"[`{page.name}`]({page.name})" in (ROOT / "docs/README.md").read_text()
    title, empty, command, *_ = page.read_text().splitlines()
    assert title.startswith("# ") and not empty
    assert re.match(r"    (PYTHONPATH=\. )?python ", command)
    for recipe in re.findall(r"--config=(configs/\w+\.py)", command):
        assert (ROOT / recipe).exists()


def test_what_the_pages_point_to_is_there():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = page.read_text()
        for place, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text):
            target = page.parent / place if place else page
            assert target.exists(), f"{page.name}: {place}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
                assert anchor in anchors, f"{page.name}: {place}#{anchor}"


def test_the_form_for_reports_is_one_that_github_takes():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    assert (
        {"name", "description", "body"} <= form.keys() <= {"name", "description", "body", "labels"}
    )
    fields = {field["id"]: field for field in form["body"]}
    assert len(fields) == len(form["body"])
    for field in fields.values():
        assert field["type"] == "textarea" and field["attributes"]["label"]
    needed = [name for name, field in fields.items() if field["validations"]["required"]]
    assert {"command", "doctor"} <= set(needed)
    assert "--config.run=doctor" in fields["doctor"]["attributes"]["description"]
