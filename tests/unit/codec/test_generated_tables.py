"""What is generated for the codec is fresh, and Python and C have the same."""

from pathlib import Path

from support import ptz_prior, tflite_schema

CODEC = Path(__file__).parents[3] / "jobs/codec"


def test_the_tables_are_those_of_the_schema() -> None:
    assert (CODEC / "src/paretune_codec/schema.py").read_text() == tflite_schema.python_module()
    assert (CODEC / "c/ptz_schema.h").read_text() == tflite_schema.c_header()


def test_the_prior_is_that_of_the_made_up_networks() -> None:
    assert (CODEC / "src/paretune_codec/prior_stream.py").read_text() == ptz_prior.python_module()
    assert (CODEC / "c/ptz_prior.h").read_text() == ptz_prior.c_header()
