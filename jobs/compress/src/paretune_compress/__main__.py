"""The worker: `python -m paretune_compress` reads the model, makes candidates and evaluates files."""

import os

from paretune_contract.serving import Stage, serve
from paretune_contract.stages import (
    COMPRESS,
    EVALUATE,
    INTAKE,
    CompressRequest,
    EvaluateRequest,
    IntakeRequest,
    Result,
)


def _intake(request: IntakeRequest) -> Result:
    from .intake import intake

    return intake(request)


def _compress(request: CompressRequest) -> Result:
    from .compress import compress

    return compress(request)


def _evaluate(request: EvaluateRequest) -> Result:
    from .quality.stage import evaluate_stage

    return evaluate_stage(request)


STAGES = {
    INTAKE: Stage(INTAKE, IntakeRequest, _intake),
    COMPRESS: Stage(COMPRESS, CompressRequest, _compress),
    EVALUATE: Stage(EVALUATE, EvaluateRequest, _evaluate),
}


def main() -> None:
    """Serve until standard input ends."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    serve(STAGES)


if __name__ == "__main__":
    main()
