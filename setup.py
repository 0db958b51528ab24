"""Metadata and dependencies; each dependency has its reason in docs/architecture.md."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "multimodal/__init__.py").read_text())[1]

setup(
    name="multimodal",
    version=VERSION,
    description="Multimodal pretraining in JAX: one Transformer, one trainer",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["multimodal", "multimodal.*"]),
    package_data={"multimodal": ["**/*.json", "**/*.html", "**/*.css"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "array_record",
        "einops",
        "flax>=0.12.8",
        "grain>=0.2.18",
        "huggingface_hub",
        "jax>=0.10.2",
        "ml-collections",
        "msgpack",
        "numpy>=2.0",
        "opencv-python-headless",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8,<0.13",
        "pillow",
        "pyarrow",
        "safetensors",
        "scipy",
        "simplejpeg",
        "tensorboardX",
        "tensorflow-datasets>=4.9.10",
        "tensorstore",
        "tokenizers",
        "tqdm",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "cuda": ["jax[cuda13]"],
        "hf": ["datasets", "transformers"],
        "torch": ["torch", "transformers"],
        "audio": ["soundfile"],
        "video": ["av"],
        "sentencepiece": ["sentencepiece"],
        "test": [
            "import-linter",
            "jax[tpu]; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "pytest",
            "pytest-xdist",
            "ruff",
            "scikit-learn",
            "sentencepiece",
        ],
    },
)
