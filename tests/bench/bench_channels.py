"""What removed channels give beside plain int8: accuracy, MACs, modelSize, latency ratio.

Run: `python tests/bench/bench_channels.py [STUDY.yaml [WORK]]`. Model, data and training come from the study;
without one, the network of the demo is trained first. Each row removes a share of the channels (or of the
multiply-accumulates), trains what is left with the whole network as its teacher, and quantizes it with one
scale per tensor. Latencies are ratios to the int8 file with all channels, which was trained as long.
With a folder WORK the files stay, and a second run measures latencies alone.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from bench_techniques import TENSOR, compressed, demo, latency_ratio, read
from paretune_compress.graph.description import describe

WHOLE: dict[str, Any] = {"quantization": {**TENSOR, "training": "aware"}}
ROWS: dict[str, dict[str, Any]] = {
    "all channels, int8": WHOLE,
    **{
        f"{level:.0%} of {unit} removed": {
            "quantization": TENSOR,
            "sparsity": {"pattern": "channel", "level": level, "levelOf": unit},
        }
        for unit, levels in (("channels", (0.1, 0.2, 0.25, 0.4, 0.5)), ("macs", (0.25, 0.5)))
        for level in levels
    },
}
COLUMNS = ("", "accuracy", "MACs", "modelSize", "downloadSize", "latency ratio")


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(arguments[1] if len(arguments) > 1 else folder)
        study = Path(arguments[0]) if arguments else demo(Path(folder))
        intake = read(yaml.safe_load(study.read_text())["spec"], study.parent, work)
        assert intake.model is not None
        whole = compressed(intake, WHOLE, work)
        assert whole.artifact is not None
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
        for name, settings in ROWS.items():
            result = compressed(intake, settings, work)
            assert result.artifact is not None
            cells = (
                name,
                f"{result.metrics['accuracy'].value:.2%}",
                f"{describe(Path(result.artifact.path)).macs:,}",
                f"{int(result.metrics['modelSize'].value):,}",
                f"{int(result.metrics['downloadSize'].value):,}",
                f"{latency_ratio(result.artifact, whole.artifact):.2f}",
            )
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
