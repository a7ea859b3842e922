"""What one run is asked to do: one section a stage, every key with its meaning and its default."""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Any

from sw.config.checks import check


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The pre-trained Vision Transformer."""

    name: str
    """A timm model name, such as ``vit_base_patch16_224``."""
    pretrained: bool = False
    """Take timm's weights from the hub."""
    checkpoint: str = ""
    """A local checkpoint (.safetensors or .pth), relative to the configuration file."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``timm.create_model`` (img_size, depth, ...)."""
    keep_layernorm: tuple[str, ...] = ()
    """Sites that are left alone: dotted names or shell patterns."""
    unfoldable: str = "stage"
    """Norms whose affine cannot fold: ``stage`` keeps it as an explicit stage, ``keep`` keeps the norm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Images, and how they are split."""

    dataset: str = "digits"
    """``digits`` (scikit-learn's), ``glyphs`` (drawn here), ``noise`` (for trials), ``imagefolder``, or a
    timm data set with an index, as ``torch/cifar10`` or Hugging Face's ``hfds/...``."""
    root: str = ""
    """Folder of an image folder or timm dataset, relative to the configuration file."""
    image_column: str = "image"
    """Column of a Hugging Face data set."""
    label_column: str = "label"
    """Likewise; whole numbers."""
    train_split: str = "train"
    """Sub-folder or split that training and calibration images come from."""
    test_split: str = "val"
    """Sub-folder or split that only reports look at."""
    split_seed: int = 0
    """Seed of the fixed division into train, calibration and test; the same for every run seed."""
    calibration_images: int = 256
    """Images taken out of the training split for capture and calibration."""
    batch_size: int = 64
    """Images a step of training, and a pass through the model (of picture files at most 128)."""
    workers: int = 0
    """Loader processes."""
    augment: str = ""
    """timm's policy for training pictures besides crops and flips, such as ``rand-m9-mstd0.5-inc1``."""
    erase: float = 0.0
    """Share of training pictures of which a random rectangle is replaced by noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Training before anything else, which the embedded default model needs; none where ``epochs`` is 0."""

    epochs: int = 0
    """0: the model is pre-trained and nothing is trained."""
    lr: float = 2e-3
    """Largest learning rate."""
    weight_decay: float = 0.05
    """Of AdamW."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureConfig:
    """Pairs (x, pre-affine y) of every norm."""

    images: int = 256
    """Images that run through the model, at most those that ``data.calibration_images`` sets aside."""
    pairs: int = 50_000
    """Pairs kept at each site."""
    headroom_bits: float = 1.0
    """Room between the largest captured |x| and the input format's range, as a power of two. Where few values
    are so far out that the others would become too coarse, the format is finer, and saturates."""
    sensitivity: bool = False
    """Also store each pair's weight: the squared gradient of the loss with respect to y, mean 1 a site."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitConfig:
    """Every site's hardware unit: formats and realisation."""

    in_width: int = 16
    """Bits of the input code."""
    out_width: int = 8
    """Bits of the output code."""
    realize: str = "auto"
    """Kind of realisation, or ``auto`` for the cheapest."""
    faithful: bool = False
    """Allow one unit in the last place."""
    lanes: int = 1
    """Elements a beat."""
    fmax_mhz: float = 200.0
    """Target clock for which registers are placed."""
    prefix: str = "normforge"
    """What names of Verilog modules begin with; runs in one design need different ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvolveConfig:
    """The search, for one site and one seed."""

    population: int = 200
    """Trees a generation."""
    generations: int = 40
    """Of a search, at most."""
    max_nodes: int = 20
    """Nodes of a tree, at most."""
    tournament: int = 7
    """Trees among which a parent is drawn."""
    seeds: int = 2
    """Independent searches a site; their fronts are merged."""
    held_out: float = 0.1
    """Share of the pairs that only judges."""
    growth_penalty: float = 0.005
    """Weight of (f(-a)^2 + f(a)^2)/2 at a = 2 max|x|, the paper's penalty, on what exceeds the largest y."""
    csd_digits: int = 3
    """Non-zero signed digits of a constant."""
    islands: int = 2
    """Populations that exchange their best now and then; together they have ``population`` members."""
    weights: str = "none"
    """``sensitivity`` counts each pair by what capture stored as its weight."""
    price: str = "lut6"
    """What functions cost: ``lut6`` of the realised map, or the paper's ``nodes`` or ``flops``."""
    affine: str = "free"
    """What of y ~ scale * f(x) + offset folds into the next layer: ``free`` both, ``scale``, or ``none``.
    What does not becomes part of f, and costs there."""
    stop_ratio: float = 0.9995
    """A search ends when the front reaches this share of what functions of x explain; 2: never."""
    patience: int = 10
    """A search ends when the front did not move for so many generations; 0: never."""
    choose: str = "knee"
    """Which point of the front: ``knee``, ``best``, ``cheapest``, ``budget`` or ``ratio``."""
    price_budget: float = 25.0
    """Largest price where ``choose`` is ``budget``: the most accurate function within it."""
    ratio: float = 0.99
    """Share of the ceiling where ``choose`` is ``ratio``: the cheapest function that reaches it."""
    budget_s: float = 0.0
    """Wall-clock cap of a site's searches in seconds, checked between generations; 0: none."""
    jobs: int = 0
    """Worker processes; 0: one a core."""
    scheduler: str = ""
    """Address of a dask scheduler whose workers do the tasks, such as ``tcp://host:8786``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignConfig:
    """Re-alignment of the weights to the evolved functions.

    ``regime`` names a preset, which fills in every key below that is not given.
    """

    regime: str = "D+"
    """A preset: ``A``, ``F`` and ``D`` as published; ``D+`` is our own, the defaults below."""
    epochs: int = 20
    """0: nothing is trained."""
    refit: str = "writers"
    """What the epochs start from: ``none``, right after the swap; ``affine``, every site's affine refitted in
    closed form; ``readers``, the layers that read the sites, too; ``writers``, and those that write what the
    sites read."""
    trained: str = "all"
    """``all`` parameters, or the sites' ``affine`` alone."""
    inner_scale: bool = False
    """Learn a factor s of functions that read x in cells: f(x) becomes f(s x), realised and priced again.
    ``functions.json`` and ``programs/`` are then what this stage leaves; what evolved is in ``evolve/``."""
    lr: float = 2e-4
    """Largest learning rate."""
    schedule: str = "warm"
    """Of the learning rate: ``constant``; ``cosine``, stepped once an epoch down to 0; ``warm``, risen in the
    first steps, then a cosine stepped at every one."""
    layer_decay: float = 1.0
    """Learning rate of a block over that of the next one."""
    weight_decay: float = 0.0
    """Of AdamW."""
    clip_norm: float = 1.0
    """Largest norm of a step's gradient; 0: any."""
    drop_path: float = 0.0
    """Largest rate of stochastic depth."""
    kd_weight: float = 0.5
    """Weight of the distillation from the original; the rest is cross-entropy."""
    temperature: float = 4.0
    """Of the distillation."""
    feature_weight: float = 0.0
    """Weight of each block's output against the original's, added to the loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeConfig:
    """Integer weights and activations."""

    weight_bits: int = 8
    """Bits of a weight."""
    act_bits: int = 8
    """Bits of a layer's input; after a norm unit they are the unit's ``out_width``."""
    calibration_images: int = 256
    """Images for scales, at most those that ``data.calibration_images`` sets aside."""
    epochs: int = 0
    """Quantization-aware fine-tuning of all weights after calibration, by ``[align]``'s distillation."""
    lr: float = 1e-4
    """Largest learning rate of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """How all training computes, whatever it learns."""

    precision: str = "fp32"
    """Of a step: ``fp32``, or mixed with ``bf16`` or ``fp16``; weights stay float32."""
    accumulate: int = 1
    """Parts of a batch whose gradients are summed before a step: less memory, the same result but for
    rounding, and for batch norms, which see each part alone. Processes share the parts."""
    checkpoint_minutes: float = 10.0
    """Time between checkpoints within an epoch; there is one after every epoch, too."""
    tensorboard: bool = True
    """Write loss, learning rate and throughput to ``tensorboard/`` in the run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """The model for other programs."""

    images: int = 256
    """Test images on which onnxruntime is compared with PyTorch."""
    accuracy: bool = True
    """Whether the integer-only model classifies all test images, too, which takes long for large models."""
    outputs: str = "logits"
    """What the ONNX file of an integer-only model gives out: ``logits``, or ``all`` tensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """Simulation of the generated Verilog."""

    replay_images: int = 4
    """Test images whose activations run through the RTL."""
    stall_beats: int = 4096
    """Beats sent under random stalls."""
    jobs: int = 0
    """Simulations at a time; 0: one a core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthConfig:
    """Resources and clock."""

    families: tuple[str, ...] = ("xc7", "ecp5", "ice40")
    """FPGA families for which resources are counted."""
    pnr_seeds: int = 3
    """Place-and-route seeds; the median counts."""
    jobs: int = 0
    """Tools at a time; 0: one a core."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """The machine for which traffic and time are estimated."""

    bandwidth_gb_s: float = 19.2
    """Of the memory off chip, 10^9 bytes a second; the default is one channel of DDR4-2400."""
    compute_gop_s: float = 100.0
    """Element operations of norms, 10^9 a second."""
    buffer_kib: float = 16.0
    """Memory on chip that a norm may keep its row in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One run: what its TOML file says, over the defaults."""

    model: ModelConfig
    name: str = "run"
    """Folder of the run below ``runs_dir``."""
    seed: int = 0
    """Of training, capture and search."""
    runs_dir: str = "runs"
    """Folder of all runs, relative to the current directory."""
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    capture: CaptureConfig = CaptureConfig()
    unit: UnitConfig = UnitConfig()
    evolve: EvolveConfig = EvolveConfig()
    align: AlignConfig = AlignConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    export: ExportConfig = ExportConfig()
    compute: ComputeConfig = ComputeConfig()
    verify: VerifyConfig = VerifyConfig()
    synth: SynthConfig = SynthConfig()
    report: ReportConfig = ReportConfig()

    def __post_init__(self) -> None:
        check(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers, as JSON and TOML hold them."""
        return typing.cast(dict[str, Any], json.loads(json.dumps(dataclasses.asdict(self))))
