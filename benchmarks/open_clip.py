"""The other side on a GPU: a step as open_clip trains it, bfloat16 by autocast, torch.compile,
fused AdamW, all batches on the device."""

import time
from typing import Any

import torch
from safetensors.numpy import load_file

from benchmarks import shapes
from benchmarks.adamw import adamw
from benchmarks.torch_model import Clip, load


class Side:
    """The model of `shapes.named` on `device`, with our weights where there is a file of them."""

    def __init__(
        self,
        shape: str,
        batch_size: int,
        device: str,
        compiled: bool = True,
        weights: str | None = None,
        dtype: str = "bfloat16",
    ):
        torch.set_float32_matmul_precision("high")
        config = shapes.run(shapes.named(shape), batch_size)
        self.dtype = getattr(torch, dtype)
        model = Clip(config.model, self.dtype)
        if weights:
            load(model, load_file(weights))
        self.device, self.model = torch.device(device), model.to(device)
        self.optimizer = adamw(self.model, config)
        self.largest = config.model.logit_scale_max
        self.forward = torch.compile(model) if compiled else model
        given = shapes.batch(config)
        images = torch.from_numpy(shapes.normalised(given["image"], config))
        self.batch = (images.to(device), torch.from_numpy(given["text"]).long().to(device))

    def facts(self) -> dict[str, Any]:
        return {
            "name": f"open_clip's way, torch {torch.__version__}",
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def steps(self, count: int) -> dict[str, list[float]]:
        """The loss before each step."""
        return {"loss": [float(self._step()) for _ in range(count)]}

    def measure(self, seconds: float) -> dict[str, float | None]:
        """As ours."""
        self._go(3)
        each = self._go(max(3, round(seconds / self._go(2))))
        cuda = self.device.type == "cuda"
        return {
            "seconds": each,
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else None,
        }

    def _go(self, count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            self._step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - begin) / count

    def _step(self) -> torch.Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.forward(*self.batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.largest is not None:
            with torch.no_grad():
                self.model.scale.clamp_(max=self.largest)
        return loss.detach()
