"""What is generated for the codec is fresh, and Python and C have the same."""

import hashlib
import sys
from base64 import b64decode
from pathlib import Path

from paretune_codec import initial, prior_table
from support import ptz_prior, tflite_schema

ROOT = Path(__file__).parents[3]
CODEC = ROOT / "jobs/codec"
sys.path.append(str(CODEC / "tools"))

import prior_files  # noqa: E402


def test_the_tables_are_those_of_the_schema() -> None:
    assert (CODEC / "src/paretune_codec/schema.py").read_text() == tflite_schema.python_module()
    assert (CODEC / "c/ptz_schema.h").read_text() == tflite_schema.c_header()


def test_the_former_prior_is_that_of_the_made_up_networks() -> None:
    assert (CODEC / "src/paretune_codec/prior_stream.py").read_text() == ptz_prior.python_module()


def test_the_table_is_the_same_in_python_and_c() -> None:
    given = prior_table.CLASSES, prior_table.STATES, prior_table.WEIGHTS
    firsts = [part.first for part in initial.PARTS]

    assert prior_files.MODULE.read_text() == prior_files.python_module(*given)
    assert prior_files.HEADER.read_text() == prior_files.c_header(*given, firsts)


def test_the_table_is_the_one_that_the_format_names() -> None:
    data = b64decode(prior_table.CLASSES)
    page = (ROOT / "docs/formats/ptz.md").read_text()

    assert hashlib.sha256(data).hexdigest() in page
    assert f"{len(data)} bytes" in page
    for part in initial.PARTS:
        assert f"| {part.first} | {part.count} |" in page
