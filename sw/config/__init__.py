"""What one run is asked to do: a TOML file, one table a stage, every key checked.

Public, from Python: all that ``__all__`` names.
"""

from sw.config.reading import digest, from_dict, load, without_run
from sw.config.regimes import REGIMES
from sw.config.sections import (
    AlignConfig,
    CaptureConfig,
    ComputeConfig,
    DataConfig,
    EvolveConfig,
    ExportConfig,
    ModelConfig,
    QuantizeConfig,
    ReportConfig,
    RunConfig,
    SynthConfig,
    TrainConfig,
    UnitConfig,
    VerifyConfig,
)

__all__ = [
    "REGIMES",
    "AlignConfig",
    "CaptureConfig",
    "ComputeConfig",
    "DataConfig",
    "EvolveConfig",
    "ExportConfig",
    "ModelConfig",
    "QuantizeConfig",
    "ReportConfig",
    "RunConfig",
    "SynthConfig",
    "TrainConfig",
    "UnitConfig",
    "VerifyConfig",
    "digest",
    "from_dict",
    "load",
    "without_run",
]
