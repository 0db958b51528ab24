"""The other side: Hugging Face's CLIPModel in PyTorch, trained as its users train it."""

import time
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel
from transformers import __version__ as version

from benchmarks import shapes
from benchmarks.adamw import adamw


class Side:
    """The model of `shapes.huggingface` with the weights in the file `weights`, and the optimiser
    and the batch that our side has."""

    def __init__(self, shape: str, batch_size: int, weights: str, compiled: bool = False):
        config = shapes.run(shapes.named(shape), batch_size)
        self.model = CLIPModel(CLIPConfig(**shapes.huggingface(config.model)))
        self.model.load_state_dict(load_file(weights))
        self.optimizer = adamw(self.model, config)
        self.largest = config.model.logit_scale_max
        given = shapes.batch(config)
        self.batch = {
            "pixel_values": torch.from_numpy(shapes.normalised(given["image"], config)),
            "input_ids": torch.from_numpy(given["text"]).long(),
        }
        self.forward = torch.compile(self.model) if compiled else self.model
        self.model.train()

    def facts(self) -> dict[str, Any]:
        parameters = sum(p.numel() for p in self.model.parameters())
        return {
            "name": f"transformers {version}, torch {torch.__version__}",
            "parameters": parameters,
            "threads": torch.get_num_threads(),
        }

    def steps(self, count: int) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {"seconds": [], "cpu": [], "loss": []}
        for _ in range(count):
            clock, cpu = time.perf_counter(), time.process_time()
            loss = self._step()
            found["seconds"].append(time.perf_counter() - clock)
            found["cpu"].append(time.process_time() - cpu)
            found["loss"].append(loss)
        return found

    def _step(self) -> float:
        loss = self.forward(**self.batch, return_loss=True).loss
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=self.largest)
        return loss.item()

    def profile(self, count: int) -> str:
        """PyTorch's own table."""
        with torch.profiler.profile() as profiler:
            self.steps(count)
        averages = profiler.key_averages()
        return averages.table(sort_by="self_cpu_time_total", row_limit=16, max_name_column_width=40)
