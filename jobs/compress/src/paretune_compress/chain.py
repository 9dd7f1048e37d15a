"""From settings to a finished file: a chain of content-addressed steps.

float .tflite -> [remove channels] -> [train or prune] -> [remove what is dead] -> float .tflite
              -> [calibrate, quantize] -> [round anew] -> [cluster integers] -> [correct biases]
              -> [encode sparsely] -> file

Weights that were trained as integers lie on a grid, and the quantized file holds these very integers. Where
they were trained for a number of bytes, it holds nothing that an interpreter does not need.

Where a budget is allocated by sensitivity, a probe of the float model comes first, and what it found decides
what is done to each layer.

The key of each step names the bytes that go in and those settings that matter to it, so one trained network
serves many quantizations, and one calibration many schemes.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from paretune_contract.dataset import DataInfo, Scaling, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import ModelInfo
from paretune_contract.settings import (
    Algorithm,
    Allocation,
    ClusteringStage,
    LevelOf,
    Settings,
    Sparsity,
    SparsityEncoding,
    SparsityPattern,
)
from paretune_contract.stages import Step
from paretune_contract.training import TFMOT_CLUSTERS_BESIDE_ZEROS, ResolvedTraining, TrainerKind
from paretune_store.files import sha256_file
from paretune_store.known_steps import Missing
from paretune_store.steps import JSON, CachedStep, StepCache

from . import flatbuffer as fb
from .data import PreparedSplit
from .layers import LayerPlan, resolve_layers
from .sensitivity import Sensitivity, probe, probed_split, shares
from .sensitivity.probe import VERSION as PROBE_VERSION
from .shrink import shrink
from .steps.algorithms import CLIPPING, clipping_sentence
from .steps.bias_correction import correct_biases
from .steps.calibration import Ranges, calibrate, spread
from .steps.channels import narrow, sentence
from .steps.clustering import cluster
from .steps.gptq import round_by_outputs
from .steps.grids import GRIDS, grids_of_channels, read_grids, write_grids
from .steps.quantization import needs_calibration, quantize, quantizes
from .steps.sparse_encoding import encode_file
from .steps.sparsity import prune
from .train.port import Trainer, TrainingTask
from .train.rate.trainer import RateTrainer

MODEL = "model.tflite"
RANGES = "ranges.npz"
CALIBRATE = "calibrate"
PROBE, TABLE = "probe", "sensitivity.json"
PRUNE_VERSION, CALIBRATE_VERSION, QUANTIZE_VERSION, CLUSTER_VERSION = 1, 1, 2, 1
GRIDS_VERSION, NARROW_VERSION, SHRINK_VERSION, ENCODE_VERSION = 2, 1, 1, 2
ROUND, ROUND_VERSION = "round", 2
CORRECT, CORRECT_VERSION = "correct-biases", 1
KEPT_APART = {"training", "algorithm", "calibration_samples", "bias_correction"}
"""Settings of quantization that stand elsewhere in the quantized file's key, or in another step's."""
SENTENCE = "sentence.txt"


@dataclass(frozen=True)
class File:
    """A file and the sha256 (hex) of its bytes.

    grids: the file with the steps of its weights, where some of these are integers times a step.
    spare: every byte counts.
    """

    path: Path
    sha256: str
    grids: Path | None = None
    spare: bool = False


@dataclass(frozen=True)
class Link:
    """A part of the chain.

    make: from a file to the next one, as one or more steps.
    reads: the splits that steps in it read, by the step's name.
    """

    make: Callable[[File], File]
    reads: Mapping[str, Split] = field(default_factory=dict)


@dataclass
class Chain:
    """The steps of one trial.

    model, data, scaling, training: what there is to work with.
    threads: for training and calibration.
    seed: of training.
    trainer: how networks are trained.
    rate_trainer: how networks are trained for a number of bytes.
    steps: what was done so far, in order.
    """

    cache: StepCache
    model: ModelInfo
    data: Mapping[Split, DataInfo]
    scaling: Scaling
    training: ResolvedTraining | None
    trainer: Trainer
    threads: int
    seed: int
    rate_trainer: Trainer = field(default_factory=RateTrainer)
    steps: list[Step] = field(default_factory=list)

    def plans(self, settings: Settings) -> tuple[LayerPlan, ...]:
        """What the settings mean for each layer, after a probe where they are allocated by sensitivity.

        Raises:
            StageError: as `resolve_layers` does; NOT_RUNNABLE when the probed model does not run.
        """
        uniform = resolve_layers(settings, self.model.layers)
        if settings.allocation is Allocation.UNIFORM:
            return uniform
        tuned = self.training is not None
        by_tfmot = self.training is not None and self.training.trainer is TrainerKind.TFMOT
        own = {"beside_zeros": TFMOT_CLUSTERS_BESIDE_ZEROS} if by_tfmot else {}
        given = shares(settings, self.model.layers, self._probed(), tuned=tuned, **own)
        return resolve_layers(settings, self.model.layers, given)

    def run(self, settings: Settings, plans: Sequence[LayerPlan]) -> File:
        """Do what the settings say; the finished file lies in the cache.

        Raises:
            StageError: what a step raises, or STEP_FAILED when data for a step is missing.
        """
        file = File(Path(self.model.path), self.model.sha256)
        for link in self._links(settings, plans):
            file = link.make(file)
        return file

    def known(self, settings: Settings) -> tuple[File | None, frozenset[Split]]:
        """How far the settings' steps are done already, for a cache that makes none (`KnownSteps`).

        Returns:
            The finished file when all of them are, else None; and the splits that the missing ones read.

        Raises:
            StageError: as `run` does; a failure that is known needs no data either.
        """
        file = File(Path(self.model.path), self.model.sha256)
        try:
            plans = self.plans(settings)
        except Missing:
            return None, self._after_probe(settings)
        links = tuple(self._links(settings, plans))
        for n, link in enumerate(links):
            try:
                file = link.make(file)
            except Missing as missing:
                own = [split for step, split in link.reads.items() if step == missing.step]
                later = [split for other in links[n + 1 :] for split in other.reads.values()]
                return None, frozenset([*own, *later])
        return file, frozenset()

    def _after_probe(self, settings: Settings) -> frozenset[Split]:
        """The splits that the probe reads, and all that any step after it may.

        Which steps these are is known before the table is: an allocation gives some layer zeros, clusters or
        four bits exactly where a uniform one gives them to all.
        """
        info = probed_split(self.data)
        links = self._links(settings, resolve_layers(settings, self.model.layers))
        later = [split for link in links for split in link.reads.values()]
        return frozenset([*([info.split] if info else []), *later])

    def _links(self, settings: Settings, plans: Sequence[LayerPlan]) -> Iterator[Link]:
        channels = settings.sparsity.pattern is SparsityPattern.CHANNEL
        if channels:
            yield Link(lambda file: self._narrowed(file, settings.sparsity))
        if settings.rate.ratio:
            reads = {self.rate_trainer.name: Split.TRAIN} if self.training is not None else {}
            yield Link(lambda file: self._rated(file, settings, plans), reads)
            yield Link(self._shrunk)
        elif _trains(plans) or (channels and self.training is not None):
            reads = {self.trainer.name: Split.TRAIN} if self.training is not None else {}
            yield Link(lambda file: self._trained(file, plans), reads)
        if settings.sparsity.pattern is SparsityPattern.UNSTRUCTURED:
            yield Link(self._shrunk)
        if quantizes(plans):
            reads = {CALIBRATE: Split.CALIBRATION} if needs_calibration(settings, plans) else {}
            floats: list[File] = []  # what was quantized: later steps look back at it

            def quantized(file: File) -> File:
                floats.append(file)
                return self._quantized(file, settings, plans)

            yield Link(quantized, reads)
            samples = settings.quantization.calibration_samples
            if any(p.algorithm is Algorithm.GPTQ for p in plans):
                yield Link(
                    lambda file: self._rounded(file, floats[-1], plans, samples), {ROUND: Split.CALIBRATION}
                )
        if any(p.clustering.stage is ClusteringStage.INT8 for p in plans):
            yield Link(lambda file: self._clustered(file, plans))
        if settings.quantization.bias_correction and quantizes(plans):
            yield Link(
                lambda file: self._corrected(file, floats[-1], plans, samples), {CORRECT: Split.CALIBRATION}
            )
        if settings.sparsity.encoding is SparsityEncoding.SPARSE:
            yield Link(self._encoded)

    def _probed(self) -> Sensitivity:
        info = probed_split(self.data)

        def produce(folder: Path) -> None:
            data = PreparedSplit(info, self.scaling) if info else None
            table = probe(self.model, data, folder, threads=self.threads)
            (folder / TABLE).write_text(table.model_dump_json(indent=1) + "\n")

        source = File(Path(self.model.path), self.model.sha256)
        inputs: dict[str, JSON] = self._identity(source, info) if info else {"model": source.sha256}
        step = self.cache.run(PROBE, PROBE_VERSION, inputs, produce)
        table = Sensitivity.model_validate_json((step.folder / TABLE).read_text())
        self._note(PROBE, step, table.sentence())
        return table

    def _narrowed(self, file: File, sparsity: Sparsity) -> File:
        """Channels removed by their importance; the network that is left learns from the whole one."""

        def produce(folder: Path) -> None:
            done = narrow(fb.read(file.path), sparsity.level, sparsity.level_of)
            fb.write(done.model, folder / MODEL)
            (folder / SENTENCE).write_text(sentence(done))

        inputs: dict[str, JSON] = {"model": file.sha256, "level": sparsity.level}
        if sparsity.level_of is not LevelOf.CHANNELS:
            inputs["levelOf"] = sparsity.level_of.value
        step = self.cache.run("remove-channels", NARROW_VERSION, inputs, produce)
        self._note("remove-channels", step)
        return _file(step)

    def _shrunk(self, file: File) -> File:
        """Channels removed that training left without effect: the outputs stay the same."""

        def produce(folder: Path) -> None:
            done = shrink(fb.read(file.path))
            fb.write(done.model, folder / MODEL)
            (folder / SENTENCE).write_text(sentence(done))
            if file.grids is not None:
                kept = {tensor: kept.rows for tensor, kept in done.kept.items()}
                write_grids(folder / GRIDS, grids_of_channels(read_grids(file.grids), kept))

        inputs: dict[str, JSON] = {"model": file.sha256, **_grids_key(file)}
        step = self.cache.run("shrink", SHRINK_VERSION, inputs, produce)
        self._note("shrink", step)
        return replace(_file(step), spare=file.spare)

    def _trained(self, file: File, plans: Sequence[LayerPlan]) -> File:
        if self.training is None:
            return self._pruned(file, plans)
        return _file(self._fine_tuned(self.trainer, self._task(self.training, file, plans), file))

    def _rated(self, file: File, settings: Settings, plans: Sequence[LayerPlan]) -> File:
        if self.training is None:
            raise StageError(
                Reason.STEP_FAILED,
                f"rate.ratio is {settings.rate.ratio:g}, but there is nothing to train with: dataset.train "
                "is missing or the model has operators without a gradient",
            )
        task = self._task(self.training, file, plans, settings.rate.ratio)
        step = self._fine_tuned(self.rate_trainer, task, file)
        return replace(_file(step), spare=True)

    def _task(
        self, training: ResolvedTraining, file: File, plans: Sequence[LayerPlan], ratio: float = 0.0
    ) -> TrainingTask:
        """What is to be trained; a network with channels removed learns from the whole one."""
        teacher = Path(self.model.path) if file.sha256 != self.model.sha256 else None
        return TrainingTask(file.path, plans, training, self.seed, self.threads, ratio, teacher)

    def _fine_tuned(self, trainer: Trainer, task: TrainingTask, file: File) -> CachedStep:
        info = self._split(Split.TRAIN, "fine-tuning")
        inputs: dict[str, JSON] = {**self._identity(file, info), **trainer.settings(task)}
        if task.teacher is not None:
            inputs["teacher"] = self.model.sha256
        step = self.cache.run(
            trainer.name,
            trainer.version,
            inputs,
            lambda folder: trainer.train(task, PreparedSplit(info, self.scaling), folder),
        )
        self._note(trainer.name, step, _training_note(step.folder))
        return step

    def _pruned(self, file: File, plans: Sequence[LayerPlan]) -> File:
        """One-shot magnitude pruning: all there is without training data."""
        clusters = any(p.clustering.stage is ClusteringStage.TRAINING for p in plans)
        if clusters or any(p.aware for p in plans):
            asked = "clustering.stage is training" if clusters else "quantization.training is aware"
            raise StageError(
                Reason.STEP_FAILED,
                f"{asked}, but there is nothing to train with: dataset.train is missing or the model has "
                "operators without a gradient",
            )
        layers: list[JSON] = [
            [p.layer.weight_tensor, p.sparsity.pattern.value, p.zeros] for p in plans if p.zeros > 0
        ]

        def produce(folder: Path) -> None:
            model = fb.read(file.path)
            prune(model, plans)
            fb.write(model, folder / MODEL)

        inputs: dict[str, JSON] = {"model": file.sha256, "layers": layers}
        step = self.cache.run("prune", PRUNE_VERSION, inputs, produce)
        self._note("prune", step, "one shot, without fine-tuning")
        return _file(step)

    def _quantized(self, file: File, settings: Settings, plans: Sequence[LayerPlan]) -> File:
        samples = settings.quantization.calibration_samples
        ranges = self._calibrated(file, samples) if needs_calibration(settings, plans) else None
        inputs: dict[str, JSON] = {
            "model": file.sha256,
            "ranges": ranges.key if ranges else None,
            "quantization": settings.quantization.model_dump(mode="json", exclude=KEPT_APART),
            "layers": [[p.layer.name, p.scheme.value, p.granularity.value, *_clipping_key(p)] for p in plans],
            "tool": f"litert-quantizer {version('litert-quantizer')}",
            **_grids_key(file),
        }
        grids = read_grids(file.grids) if file.grids else None

        def produce(folder: Path) -> None:
            found = Ranges.load(ranges.folder / RANGES) if ranges else None
            said = clipping_sentence(file.path, plans)
            (folder / MODEL).write_bytes(quantize(file.path, settings, plans, found, grids, spare=file.spare))
            if said:
                (folder / SENTENCE).write_text(said)

        step = self.cache.run("quantize", QUANTIZE_VERSION, inputs, produce)
        self._note("quantize", step)
        return _file(step)

    def _rounded(self, file: File, floats: File, plans: Sequence[LayerPlan], samples: int) -> File:
        """Weights rounded anew, so that outputs change least."""
        info = self._split(Split.CALIBRATION, "quantization.algorithm gptq")

        def produce(folder: Path) -> None:
            source, model = fb.read(floats.path), fb.read(file.path)
            data, chosen = PreparedSplit(info, self.scaling), spread(info.samples, samples)
            said = round_by_outputs(source, model, plans, data, chosen, folder, threads=self.threads)
            fb.write(model, folder / MODEL)
            (folder / SENTENCE).write_text(said)

        inputs: dict[str, JSON] = {
            **self._looking_back(file, floats, info, samples),
            "layers": [
                [n, p.clustering.stage.value] for n, p in enumerate(plans) if p.algorithm is Algorithm.GPTQ
            ],
        }
        step = self.cache.run(ROUND, ROUND_VERSION, inputs, produce)
        self._note(ROUND, step)
        return _file(step)

    def _corrected(self, file: File, floats: File, plans: Sequence[LayerPlan], samples: int) -> File:
        """Biases that take up the mean error of the outputs of each layer."""
        info = self._split(Split.CALIBRATION, "quantization.biasCorrection")

        def produce(folder: Path) -> None:
            data, chosen = PreparedSplit(info, self.scaling), spread(info.samples, samples)
            source, model = fb.read(floats.path), fb.read(file.path)
            done = correct_biases(source, model, plans, data, chosen, folder, threads=self.threads)
            fb.write(model, folder / MODEL)
            (folder / SENTENCE).write_text(done.sentence())

        inputs: dict[str, JSON] = {
            **self._looking_back(file, floats, info, samples),
            "layers": [p.scheme.value for p in plans],
        }
        step = self.cache.run(CORRECT, CORRECT_VERSION, inputs, produce)
        self._note(CORRECT, step)
        return _file(step)

    def _looking_back(self, file: File, floats: File, info: DataInfo, samples: int) -> dict[str, JSON]:
        """The key of a step that compares a quantized file with the float one on calibration data."""
        tool = f"ai-edge-litert {version('ai-edge-litert')}"
        return {**self._identity(file, info), "floats": floats.sha256, **_samples_key(samples), "tool": tool}

    def _calibrated(self, file: File, samples: int) -> CachedStep:
        info = self._split(Split.CALIBRATION, "a static quantization scheme")

        def produce(folder: Path) -> None:
            split = PreparedSplit(info, self.scaling)
            found = calibrate(file.path, split, threads=self.threads, samples=samples)
            found.save(folder / RANGES)

        inputs = {**self._identity(file, info), **_samples_key(samples)}
        step = self.cache.run(CALIBRATE, CALIBRATE_VERSION, inputs, produce)
        self._note(CALIBRATE, step)
        return step

    def _clustered(self, file: File, plans: Sequence[LayerPlan]) -> File:
        layers: list[JSON] = [
            [n, p.clustering.clusters, p.zeros > 0]
            for n, p in enumerate(plans)
            if p.clustering.stage is ClusteringStage.INT8
        ]

        def produce(folder: Path) -> None:
            model = fb.read(file.path)
            cluster(model, plans)
            fb.write(model, folder / MODEL)

        inputs: dict[str, JSON] = {"model": file.sha256, "layers": layers}
        step = self.cache.run("cluster", CLUSTER_VERSION, inputs, produce)
        self._note("cluster", step)
        return _file(step)

    def _encoded(self, file: File) -> File:
        """The same weights, stored without their zeros."""

        def produce(folder: Path) -> None:
            report = encode_file(file.path, folder / MODEL)
            (folder / SENTENCE).write_text(report.sentence())

        step = self.cache.run("encode-sparse", ENCODE_VERSION, {"model": file.sha256}, produce)
        self._note("encode-sparse", step)
        return _file(step)

    def _identity(self, file: File, info: DataInfo) -> dict[str, JSON]:
        scaling = self.scaling.model_dump(mode="json")
        return {"model": file.sha256, "data": info.digest, "scaling": scaling}

    def _split(self, split: Split, who: str) -> DataInfo:
        info = self.data.get(split)
        if info is None:
            raise StageError(Reason.STEP_FAILED, f"{who} needs dataset.{split.value}, and there is none")
        return info

    def _note(self, name: str, step: CachedStep, note: str = "") -> None:
        """Add a step to those that were done, with a note or with what it says of itself."""
        said = step.folder / SENTENCE
        if not note and said.exists():
            note = said.read_text()
        self.steps.append(
            Step(name=name, seconds=step.seconds, cached=step.cached, spared=step.spared, note=note)
        )


def _trains(plans: Sequence[LayerPlan]) -> bool:
    return any(p.zeros > 0 or p.aware or p.clustering.stage is ClusteringStage.TRAINING for p in plans)


def _file(step: CachedStep) -> File:
    path, grids = step.folder / MODEL, step.folder / GRIDS
    return File(path, sha256_file(path), grids if grids.exists() else None)


def _samples_key(samples: int) -> dict[str, JSON]:
    return {"samples": samples} if samples else {}


def _clipping_key(plan: LayerPlan) -> list[str]:
    """The algorithm where it shows in the quantized file; that of gptq is made from minMax's."""
    return [plan.algorithm.value] if plan.algorithm in CLIPPING else []


def _grids_key(file: File) -> dict[str, JSON]:
    if file.grids is None:
        return {}
    # Where bytes are spared, steps are short and one for each tensor: the weights themselves tell them.
    return {"grids": GRIDS_VERSION if file.spare else sha256_file(file.grids)}


def _training_note(folder: Path) -> str:
    history = json.loads((folder / "history.json").read_text())["history"]
    settled = [epoch for epoch in history if epoch["settled"]]
    best = min(settled, key=lambda epoch: epoch["validation"])
    return f"epoch {best['epoch']} of {len(history)} was best, held-out loss {best['validation']:.4f}"
