"""The Flex Template: its description has every flag, and its image's steps lead to a submission."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from flex_template import describe
from flex_template.main import as_flags
from pipeline.options import collect as options
from pipeline.options.flags import Parser
from tests.collecting import ROOT
from tests.services.below import LOCK, outside

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.google import FakeGoogle

DOCKERFILE = (ROOT / "flex_template" / "Dockerfile").read_text(encoding="utf-8")
PARAMETERS = {each["name"]: each for each in describe.metadata()["parameters"]}


def test_the_description_is_that_of_the_flags() -> None:
    """`make template` writes it; none is missing, none unknown."""
    assert json.loads(describe.FILE.read_text(encoding="utf-8")) == describe.metadata()


def test_every_flag_is_a_parameter_or_is_left_out_for_a_reason() -> None:
    """Names are such that the service takes them."""
    parser = Parser()
    options.configure(parser)
    flags = set(parser.flags()) - {"-h", "--help"}
    assert {f"--{name}" for name in PARAMETERS} == flags - describe.NO_PARAMETERS.keys()
    assert all(re.fullmatch(r"[a-zA-Z][-_a-zA-Z0-9]+", name) for name in PARAMETERS)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("interval", "1h30m", "soon"),
        ("batch_size", "1_000", "many"),
        ("output", "gs://bucket/collected", "collected"),
        ("bootstrap_servers", "a:9092,b:9092", "a"),
        ("topics", "orders,clicks.v2", "a b"),
        ("timestamp", "field:at", "field"),
        ("output_format", "jsonl", "xls"),
        ("input_format", "my_module.sub:decode", "xml"),
        ("once", "true", "yes"),
        ("start", "2026-11-22T10:00:00Z", "yesterday"),
    ],
)
def test_a_parameters_pattern_takes_good_values_only(name: str, good: str, bad: str) -> None:
    """The console tells before anything starts."""
    (pattern,) = PARAMETERS[name]["regexes"]
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_a_flags_own_default_fits_its_pattern(name: str) -> None:
    """What the command line takes, the console does."""
    parser = Parser()
    options.configure(parser)
    default = parser.get_default(name)
    (pattern,) = PARAMETERS[name]["regexes"]
    assert not isinstance(default, str) or re.search(pattern, default)


def test_the_image_is_built_from_what_is_pinned() -> None:
    """Its base by a release, all packages by their hashes."""
    (base,) = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"gcr\.io/[a-z0-9/-]+:\d{8}-rc\d\d", base)
    installs = re.findall(r"^RUN python -m pip install (.+)$", DOCKERFILE, re.MULTILINE)
    assert all({"--require-hashes", "--no-deps"} & set(each.split()) for each in installs)


def test_make_prints_commands_that_a_shell_takes() -> None:
    """What ``make template`` says, as whoever runs it copies it."""
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ntemplate:")[2]
    echoes = re.findall(r"(?m)^\t@(echo .*)$", recipe.partition("\nclean:")[0])
    said = "".join(
        subprocess.run(
            ["/bin/sh", "-c", re.sub(r"\$\((\w+)\)", r"\1", echo)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for echo in echoes
    )
    build, push, make, run = said.replace("\\\n", "").splitlines()
    assert [shlex.split(line)[:2] for line in (build, push)] == [
        ["docker", "build"],
        ["docker", "push"],
    ]
    assert "--metadata-file=flex_template/metadata.json" in shlex.split(make)
    assert "--template-file-gcs-location=TEMPLATE" in shlex.split(run)


def test_switches_have_values_in_a_template() -> None:
    """The launcher writes each parameter as ``--name=value``."""
    words = ["--once=true", "--flush=false", "--streaming", "--topics=a"]
    assert as_flags(words) == ["--once", "--streaming", "--topics=a"]


@pytest.mark.integration
@pytest.mark.slow
def test_the_images_steps_make_a_launcher_that_writes_a_template(
    worker_python: Path, google: FakeGoogle, tmp_path: Path
) -> None:
    """Run as the Dockerfile has them, but without Docker; then the launcher's call."""
    image = tmp_path / "template"
    image.mkdir()
    if not LOCK.exists():
        pytest.skip(f"no {LOCK.name}: this Python has no lock")
    # the image's Python is 3.11, ours may be another
    steps = DOCKERFILE.replace("py311.txt", LOCK.name)
    for sources, target in re.findall(r"^COPY (.+) (\S+)$", steps, re.MULTILINE):
        for source in sources.split():
            _copy(ROOT / source, image / (target if target != "./" else source))
    environment = outside() | {"PATH": f"{worker_python.parent}:/usr/bin:/bin"}
    for command in re.findall(r"^RUN (.+)$", steps, re.MULTILINE):
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=image,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)

    launch = subprocess.run(
        [
            str(worker_python),
            str(image / "main.py"),
            "--runner=DataflowRunner",
            "--project=my-project",
            "--region=europe-west1",
            "--job_name=from-template",
            "--temp_location=gs://bucket/tmp",
            f"--template_location={tmp_path / 'job.json'}",
            f"--setup_file={image / 'setup.py'}",
            f"--dataflow_endpoint={google.url}",
            "--bootstrap_servers=kafka.example:9092",
            "--topics=orders",
            "--output=gs://bucket/collected",
            "--once=true",
        ],
        cwd=tmp_path,
        env=environment | google.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert launch.returncode == 0, launch.stderr
    assert json.loads((tmp_path / "job.json").read_text())["name"] == "from-template"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
