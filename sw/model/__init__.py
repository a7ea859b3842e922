"""Models: timm Vision Transformers, their norms captured, swapped, re-aligned and quantized.

Public, from Python (everything else may change):

- `data.load_splits`: training, calibration and test images of a configuration.
- `fold.plan_folds`: every norm site, and the layers that its affine folds into.
- `capture.record`: pairs of input and pre-affine output of every site.
- `swap.swap`: scalar functions in place of norms.
- `refit.refit`: affines, the layers that read them and those that write to the norms, in closed form.
- `evaluate.accuracy`: the share of images that a model gets right.
- `export.load_graph`: the integer graph of an exported run.
- `runtime.prepare`: a model on the device of this process.
- `runtime.device`: that device.
"""

from sw import public

__all__ = ["capture", "data", "evaluate", "export", "fold", "refit", "runtime", "swap"]
__getattr__ = public.modules(__name__, __all__)
